"""POST /score: from a request to its answer."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future
from typing import Any

import numpy as np
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from pointseg.formats import PointCloud
from pointseg.serving.collection import Collection, OfferedScan
from pointseg.serving.engine import Engine
from pointseg.serving.reading import Body, Held, Threads, cloud_of_body, receive, require_kind
from pointseg.serving.refusal import Refusal
from pointseg.serving.security import require_secret
from pointseg.serving.settings import Settings
from pointseg.serving.wire import Options, Scored, encode, read_options, refuse_large_answer

__all__ = ["Scoring"]


class Scoring:
    """Answers requests for labels.

    Args:
        engine: that predicts.
        settings: of the service.
        collection: is told of every labelled scan; None: nothing is collected.

    Example:
        >>> response = await Scoring(engine, Settings()).answer(request)
    """

    def __init__(self, engine: Engine, settings: Settings, collection: Collection | None = None) -> None:
        self.engine, self.settings, self.collection = engine, settings, collection
        self.held = Held(settings.held)
        self.draining = False
        self.in_flight = 0
        self._reading, self._writing = Threads(settings.readers, "read"), Threads(1, "write")

    async def answer(self, request: Request) -> Response:
        """Labels.

        Raises:
            Refusal: whatever is wrong.
            ClientDisconnect: if the client has gone; what it asked for is left out if it still waits.
        """
        self.in_flight += 1
        try:
            return await self._answer(request)
        finally:
            self.in_flight -= 1

    def refuse_while_draining(self) -> None:
        """Raises Refusal 503 once the service was told to stop."""
        if self.draining:
            refusal = Refusal.busy("the service is stopping", 5.0)
            refusal.headers["Connection"] = "close"
            raise refusal

    def close(self) -> None:
        self._reading.close()
        self._writing.close()

    async def _answer(self, request: Request) -> Response:
        if self.settings.key is not None:
            require_secret(request.headers.get("authorization"), self.settings.key)
        self.refuse_while_draining()
        options, with_points = _options_of(request)
        require_kind(request.headers, self.settings.limits.body)
        self.engine.refuse_if_full()
        content = await receive(request.stream(), self.settings.limits.body, self.settings.body_seconds, self.held)
        facts = request.scope["facts"]
        facts["received"] = len(content)
        received = time.monotonic()
        end = received + self.settings.time_limit
        cloud = await self._read(request, content, options, end)
        del content
        read = time.monotonic()
        facts["points"] = len(cloud.points)
        classes = self.engine.served.predictor.label_map.num_classes
        refuse_large_answer(len(cloud.points), classes, options, self.settings.limits)
        scored = await _unless_gone(
            request,
            self.engine.submit(cloud, probabilities=options.probabilities, seconds=end - read),
            end,
        )
        predicted = time.monotonic()
        body, media_type, headers = await self._writing.run(
            lambda: _written(scored, options, cloud if with_points else None), end - predicted
        )
        seconds = {"read": read - received, **scored.seconds, "write": time.monotonic() - predicted}
        facts["model"] = headers["X-Model"]
        request.scope["seconds"].update(seconds)
        if self.collection is not None:
            self.collection.offer(OfferedScan(cloud.points, scored, request.scope["request_id"], seconds["predict"]))
        headers["Server-Timing"] = ", ".join(f"{stage};dur={1000 * value:.2f}" for stage, value in seconds.items())
        return Response(body, media_type=media_type, headers=headers)

    async def _read(self, request: Request, content: bytes, options: Options, end: float) -> PointCloud:
        body = Body(content, request.headers["content-type"], request.headers.get("content-encoding"))
        size = len(content)
        return await self._reading.run(
            lambda: cloud_of_body(body, options, self.settings),
            end - time.monotonic(),
            after=lambda: self.held.give_back(size),
        )


def _options_of(request: Request) -> tuple[Options, bool]:
    """What is asked for, and whether the points shall come back beside their labels: the page shows files of kinds that
    it cannot read so."""
    query: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in query:
            raise Refusal(422, f"{name[:40]!r} is given twice", where="query", remedy="Give it once.")
        query[name] = value
    flag = query.pop("points", "false").lower()
    options = read_options(query, request.headers.get("accept"))
    if flag not in ("true", "1", "false", "0"):
        raise Refusal(
            422, f"{flag[:40]!r} is neither true nor false", where="query, points", remedy="Use true or false."
        )
    with_points = flag in ("true", "1")
    if with_points and not options.octets:
        remedy = "Send Accept: application/octet-stream."
        raise Refusal(422, "points come back as octets only", where="query, points", remedy=remedy)
    return options, with_points


def _written(scored: Scored, options: Options, cloud: PointCloud | None) -> tuple[bytes, str, dict[str, str]]:
    body, media_type, headers = encode(scored, options)
    if cloud is not None:
        body += np.ascontiguousarray(cloud.points[:, :3], "<f4").tobytes()
    return body, media_type, headers


async def _unless_gone(request: Request, waits: Future[Scored], end: float) -> Scored:
    """The answer of the engine, unless the client goes away or the time is over: then it is taken back."""
    answer = asyncio.wrap_future(waits)
    gone = asyncio.ensure_future(request.receive())  # the body is read, so the next message says that nobody listens
    try:
        either: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(either, timeout=max(0.0, end - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if gone.done():
            raise ClientDisconnect
        remedy = "Send a smaller cloud, or try again later."
        raise Refusal(504, "the request was not done within its time limit", remedy=remedy)
    finally:
        gone.cancel()
        answer.cancel()
        del answer, gone, either, waits  # an exception in one of them would hold this frame, and the frame it: a cycle
