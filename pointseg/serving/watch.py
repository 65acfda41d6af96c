"""Around every request: its id, its place in metrics and log, and errors always in the one form."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pointseg.serving.refusal import Refusal
from pointseg.serving.telemetry import Telemetry

__all__ = ["Watch", "new_id"]

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
GONE = 499  # in metrics and log: the client did not wait for its answer
PLAIN = {404: "there is no such place", 405: "this method is not allowed here"}


def new_id() -> str:
    """An id for a request that brought none."""
    return uuid.uuid4().hex


class Watch:
    """ASGI middleware, the outermost.

    Args:
        app: what answers.
        telemetry: what is told of each answer.
        routes: paths that are told apart in metrics.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry, routes: frozenset[str]) -> None:
        self.app, self.telemetry, self.routes = app, telemetry, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        request_id = _id_of(scope)
        scope.update(request_id=request_id, facts={}, seconds={})
        status = GONE

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            elif message["type"] == "http.response.body":
                facts["sent"] = facts.get("sent", 0) + len(message.get("body", b""))
            await send(message)

        facts: dict[str, Any] = scope["facts"]
        try:
            await self.app(scope, receive, sending)
        except ClientDisconnect:
            pass
        except Refusal as refusal:
            await respond(refusal, request_id, sending)
        except Exception as error:
            self.telemetry.event("failed", logging.ERROR, error=error, request_id=request_id)
            if status != GONE:
                raise  # in the middle of an answer: the connection is closed
            what = "the service failed at this request"
            remedy = "Tell who runs it the request's id."
            await respond(Refusal(500, what, remedy=remedy), request_id, sending)
        finally:
            route = scope["path"] if scope["path"] in self.routes else "other"
            facts["ms"] = round(1000 * (time.monotonic() - began), 2)
            self.telemetry.request(route, status, request_id, facts, scope["seconds"])


def _id_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if GIVEN_ID.fullmatch(given) else new_id()
    return new_id()


async def respond(refusal: Refusal, request_id: str, send: Send) -> None:
    """Send a refusal as the answer."""
    body = refusal.body(request_id)
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **refusal.headers}
    encoded = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def refusal_of_http(error: HTTPException) -> Refusal:
    """What the framework refuses by itself, such as 404 and 405."""
    remedy = "See /docs for what there is."
    what = PLAIN.get(error.status_code, str(error.detail))
    return Refusal(error.status_code, what, remedy=remedy, headers=dict(error.headers or {}))
