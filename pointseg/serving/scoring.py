"""POST /score: from the bytes of a request, received within bounds of size, time and memory, to its answer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from fastapi import Request, Response
from starlette.requests import ClientDisconnect

from pointseg.data.formats import PointCloud
from pointseg.serving.collection import Collection, OfferedScan
from pointseg.serving.engine import Engine
from pointseg.serving.refusal import Refusal
from pointseg.serving.schemas import ScoreOptions
from pointseg.serving.settings import Settings
from pointseg.serving.upload import MULTIPART, read_upload
from pointseg.serving.wire import (
    JSON,
    OCTETS,
    CloudLabels,
    Options,
    decode,
    encode,
    media_type,
    refuse_large_answer,
    wants_octets,
)

__all__ = ["Body", "BodyMemory", "Scoring", "WorkerThreads", "cloud_of_body", "receive", "require_kind"]

Result = TypeVar("Result")


class BodyMemory:
    """Bytes of bodies that are in memory, of all requests together.

    Args:
        limit: above which a body is refused.

    Example:
        >>> memory = BodyMemory(1000)
        >>> memory.take(600), memory.bytes
        (None, 600)
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes, self._lock = limit, 0, threading.Lock()

    def take(self, count: int) -> None:
        """Raises Refusal 503 where that is too much; nothing is taken then."""
        with self._lock:
            if self.bytes + count > self.limit:
                raise Refusal.busy("other requests fill the memory for bodies", 2.0)
            self.bytes += count

    def give_back(self, count: int) -> None:
        with self._lock:
            self.bytes -= count


@dataclass
class Body:
    """A whole body and the headers that say what it is."""

    content: bytes
    content_type: str
    encoding: str | None


def require_kind(headers: Mapping[str, str], limit: int) -> None:
    """Refuse by its headers what is not worth receiving.

    Raises:
        Refusal: 415 for a kind or encoding that is not read, 413 for what is announced as too long.
    """
    kind = media_type(headers.get("content-type"))
    if kind not in (JSON, OCTETS, MULTIPART):
        text = f"{kind[:80]} is not read" if kind else "the kind of body is not said"
        raise Refusal(415, text, where="Content-Type", remedy=f"Use {JSON}, {OCTETS} or {MULTIPART}.")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    known = ("identity",) if kind == MULTIPART else ("identity", "gzip", "x-gzip", "zstd")
    if encoding not in known:
        remedy = "Send the file as it is." if kind == MULTIPART else "Use gzip, zstd or none."
        raise Refusal(415, f"{encoding[:80]} is not read", where="Content-Encoding", remedy=remedy)
    announced = headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_long(limit)


async def receive(chunks: AsyncIterator[bytes], limit: int, seconds: float, memory: BodyMemory) -> bytes:
    """The body, whose bytes are then held: give back its length.

    Raises:
        Refusal: 413 beyond the limit, 408 if it takes too long, 503 if other bodies fill the memory.
    """
    parts: list[bytes] = []
    total = 0
    try:
        async with asyncio.timeout(seconds):
            async for chunk in chunks:
                if total + len(chunk) > limit:
                    raise _too_long(limit)
                memory.take(len(chunk))
                total += len(chunk)
                parts.append(chunk)
        return b"".join(parts)
    except BaseException as error:
        memory.give_back(total)
        if isinstance(error, TimeoutError):
            text = f"the body did not come within {seconds:g} s"
            headers = {"Connection": "close"}
            remedy = "Compress it (Content-Encoding: zstd), or use a faster connection."
            raise Refusal(408, text, where="body", remedy=remedy, headers=headers) from None
        raise


def _too_long(limit: int) -> Refusal:
    remedy = "Compress it (Content-Encoding: zstd), send octets, or the cloud in parts."
    return Refusal(413, f"the body has more than {limit:,} bytes", where="body", remedy=remedy)


def cloud_of_body(body: Body, options: Options, settings: Settings, extra: Sequence[str] = ()) -> PointCloud:
    """The cloud that a body holds. Takes a while: not for the event loop. `extra`: further columns that the model needs.

    Raises:
        Refusal: see `wire.decode` and `upload.read_upload`; 413 also for what does not fit into memory.
    """
    try:
        if media_type(body.content_type) == MULTIPART:
            return read_upload(body.content, body.content_type, settings.limits, extra)
        return PointCloud(decode(body.content, body.content_type, body.encoding, options, settings.limits))
    except MemoryError:
        text = "the body does not fit into memory when it is read"
        raise Refusal(413, text, where="body", remedy="Send the cloud in parts.") from None


class WorkerThreads:
    """Few threads for work that would keep the event loop from other requests.

    Args:
        count: of threads.
        name: theirs.
    """

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, work: Callable[[], Result], seconds: float, after: Callable[[], None] | None = None) -> Result:
        """The result of `work`, in a thread.

        Args:
            seconds: to wait; work that has begun goes on then, and work that has not is left out.
            after: called when the work has ended or is left out, whatever became of the caller.

        Raises:
            Refusal: 504 if it takes longer.
        """
        wanted = True

        def in_thread() -> Result | Refusal | None:
            try:
                return work() if wanted else None
            except Refusal as refusal:
                # given as a value, without its frames: an exception in a future is a cycle, which would keep the body
                refusal.__traceback__ = refusal.__context__ = None
                return refusal
            finally:
                if after:
                    after()

        running: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(self._pool, in_thread)
        try:
            # shielded: what waits for a thread keeps its place, so that its memory is counted until it is gone
            outcome = await asyncio.wait_for(asyncio.shield(running), max(seconds, 0.001))
        except TimeoutError:
            running.add_done_callback(_forget)
            raise Refusal.late() from None
        except asyncio.CancelledError:
            running.add_done_callback(_forget)
            raise
        finally:
            wanted = False
            del running
        try:
            if isinstance(outcome, Refusal):
                raise outcome
            return cast(Result, outcome)
        finally:
            del outcome

    def close(self) -> None:
        """Begin nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _forget(done: asyncio.Future[Any]) -> None:
    """An outcome that nobody waits for any more is not an error of the event loop."""
    if not done.cancelled():
        done.exception()


class Scoring:
    """Answers requests for labels.

    Args:
        engine: that predicts.
        settings: of the service.
        collection: is told of every labelled scan; None: nothing is collected.

    Example:
        >>> response = await Scoring(engine, Settings()).answer(request, ScoreOptions())
    """

    def __init__(self, engine: Engine, settings: Settings, collection: Collection | None = None) -> None:
        self.engine, self.settings, self.collection = engine, settings, collection
        self.body_memory = BodyMemory(settings.held)
        self.draining = False
        self.in_flight = 0
        self._reading, self._writing = WorkerThreads(settings.readers, "read"), WorkerThreads(1, "write")

    async def answer(self, request: Request, asked: ScoreOptions) -> Response:
        """Labels, as they are asked for.

        Raises:
            Refusal: whatever is wrong.
            ClientDisconnect: if the client has gone; what it asked for is left out if it still waits.
        """
        self.in_flight += 1
        try:
            return await self._answer(request, asked)
        finally:
            self.in_flight -= 1

    def refuse_while_draining(self) -> None:
        """Raises Refusal 503 once the service was told to stop."""
        if self.draining:
            raise Refusal.busy("the service is stopping", 5.0)

    def close(self) -> None:
        self._reading.close()
        self._writing.close()

    async def _answer(self, request: Request, asked: ScoreOptions) -> Response:
        options = Options(asked.probabilities, wants_octets(request.headers.get("accept")), asked.columns)
        if asked.points and not options.octets:
            remedy = "Send Accept: application/octet-stream."
            raise Refusal(422, "points come back as octets only", where="query, points", remedy=remedy)
        require_kind(request.headers, self.settings.limits.body)
        self.engine.refuse_if_full()
        content = await receive(
            request.stream(), self.settings.limits.body, self.settings.body_seconds, self.body_memory
        )
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
        scored = await _unless_client_leaves(
            request,
            self.engine.submit(cloud, probabilities=options.probabilities, seconds=end - read),
            end,
        )
        predicted = time.monotonic()
        body, media_type, headers = await self._writing.run(
            lambda: _written(scored, options, cloud if asked.points else None), end - predicted
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
            lambda: cloud_of_body(body, options, self.settings, self.engine.served.predictor.extra),
            end - time.monotonic(),
            after=lambda: self.body_memory.give_back(size),
        )


def _written(scored: CloudLabels, options: Options, cloud: PointCloud | None) -> tuple[bytes, str, dict[str, str]]:
    body, media_type, headers = encode(scored, options)
    if cloud is not None:
        body += np.ascontiguousarray(cloud.points[:, :3], "<f4").tobytes()
    return body, media_type, headers


async def _unless_client_leaves(request: Request, waiting: Future[CloudLabels], end: float) -> CloudLabels:
    """The answer of the engine, unless the client goes away or the time is over: then it is taken back."""
    answer = asyncio.wrap_future(waiting)
    gone = asyncio.ensure_future(request.receive())  # the body is read, so the next message says that nobody listens
    try:
        either: set[asyncio.Future[Any]] = {answer, gone}
        await asyncio.wait(either, timeout=max(0.0, end - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if gone.done():
            raise ClientDisconnect
        raise Refusal.late()
    finally:
        gone.cancel()
        answer.cancel()
        del (
            answer,
            gone,
            either,
            waiting,
        )  # an exception in one of them would hold this frame, and the frame it: a cycle
