"""Connections: limited in number, time and memory. They stand between asyncio, which carries bytes, and uvicorn's HTTP."""

from __future__ import annotations

import asyncio
import ssl
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pointseg.serving.refusal import Refusal
from pointseg.serving.scoring import Scoring
from pointseg.serving.settings import Settings
from pointseg.serving.telemetry import Telemetry, new_id

__all__ = ["Connection", "Connections"]

LONGEST_HEAD = 65536  # bytes of a request's line and headers
SPARE_SECONDS = 5.0  # beyond `body_seconds`, in which the application says first that a body is late
NEVER = 1e9  # seconds: `Connection` itself ends what does not get on


class Connections:
    """The open connections of a service, and what they have in common.

    Args:
        settings: the limits.
        scoring: says whether the service is draining.
        telemetry: is told of requests that never reach the application.
        tls: for https.

    Attributes:
        open: every connection that was accepted and is not lost.
        requests: whose headers have come so far.
    """

    def __init__(
        self, settings: Settings, scoring: Scoring, telemetry: Telemetry, tls: ssl.SSLContext | None = None
    ) -> None:
        self.settings, self.scoring, self.telemetry, self.tls = settings, scoring, telemetry, tls
        self.open: set[Connection] = set()
        self.requests = 0

    @property
    def unfinished(self) -> int:
        """Requests that are not answered, or whose answer is not yet with their client."""
        return max(sum(connection.busy for connection in self.open), self.scoring.in_flight)

    def application(self, app: ASGIApp) -> ASGIApp:
        """The application, which tells the connection of each answer, and closes it while the service is draining."""

        async def tell_connection(scope: Scope, receive: Receive, send: Send) -> None:
            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start" and self.scoring.draining:
                    # whoever asks again asks another service
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
                await send(message)

            try:
                await app(scope, receive, sending)
            finally:
                scope["state"]["connection"].answered()

        return tell_connection


class _Writer:
    """The transport that uvicorn writes to: its connection hears of the end."""

    def __init__(self, transport: Transport, close: Callable[[], None]) -> None:
        self._transport, self.close = transport, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(asyncio.Protocol):
    """One connection, with a clock for whatever its client has to do next.

    uvicorn's protocol gets every byte, and answers. A parser beside it tells where heads and bodies begin and end, so that
    a request that is late, too long or no HTTP is refused in the service's own form.

    Args:
        app_state: what uvicorn copies into the scope of each request.
        of_uvicorn: further arguments of its protocol.
    """

    shared: ClassVar[Connections]

    def __init__(self, app_state: dict[str, Any], **of_uvicorn: Any) -> None:
        self.settings, self.loop = self.shared.settings, asyncio.get_running_loop()
        self._http = HttpToolsProtocol(app_state={**app_state, "connection": self}, **of_uvicorn)
        self._parser = HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's own
        self._layers: tuple[Transport, ...] = ()  # what HTTP is written to, and under TLS the transport below
        self._early = b""  # came with the last part of the handshake
        self._handshake: asyncio.Task[None] | None = None
        self._in_head, self._in_body, self._head_bytes = False, False, 0
        self._unanswered = 0
        self._clock: TimerHandle | None = None  # of a head or body
        self._sending: TimerHandle | None = None  # of answers on their way
        self._unsent_before = 0

    # ---- asyncio -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.shared.open.add(self)
        below = cast(Transport, transport)
        if self.shared.tls is None:
            self._begin(below)
        else:
            below.pause_reading()  # until the handshake reads
            self._handshake = self.loop.create_task(self._secure(below, self.shared.tls))

    async def _secure(self, below: Transport, tls: ssl.SSLContext) -> None:
        """TLS by hand, not by asyncio's server, to know the transport below: answers wait there for their client."""
        seconds = self.settings.header_seconds
        secure = None
        with suppress(OSError):  # no TLS, too slow or gone: asyncio has closed the connection
            secure = await self.loop.start_tls(
                below, self, tls, server_side=True, ssl_handshake_timeout=seconds, ssl_shutdown_timeout=NEVER
            )
        if secure is not None and self in self.shared.open:
            self._begin(secure, below)
        else:
            self.shared.open.discard(self)

    def _begin(self, *layers: Transport) -> None:
        self._layers = layers
        self._http.connection_made(cast(Transport, _Writer(layers[0], self.close)))
        if len(self.shared.open) > self.settings.connections:
            self._refuse(Refusal.busy("too many connections are open", 2.0))
        else:
            self._start(self.settings.header_seconds, self._no_head)
        if self._early:
            self.data_received(self._early)

    def connection_lost(self, exc: Exception | None) -> None:
        self.shared.open.discard(self)
        self._stop()
        if self._sending is not None:
            self._sending.cancel()
        if self._layers:
            self._http.connection_lost(exc)
        del self._http, self._parser  # each holds this connection: all are freed now, not when Python looks for cycles

    def data_received(self, data: bytes) -> None:
        if not self._layers:
            self._early += data
            return
        if self._layers[0].is_closing():
            return
        if self._clock is None:
            self._start(self.settings.header_seconds, self._no_head)
        between = not self._in_body
        try:
            with suppress(HttpParserUpgrade):  # not answered, and no error
                self._parser.feed_data(data)
        except HttpParserError:
            self._refuse(Refusal(400, "this is no request of HTTP", remedy="Send HTTP/1.1."))
            return
        self._head_bytes += len(data) if between else 0
        if self._in_head and self._head_bytes > LONGEST_HEAD:
            text = f"the head of the request has more than {LONGEST_HEAD:,} bytes"
            self._refuse(Refusal(431, text, where="headers", remedy="Send fewer or shorter headers."))
            return
        self._http.data_received(data)

    def eof_received(self) -> None:
        self._http.eof_received()

    def pause_writing(self) -> None:
        self._http.pause_writing()
        self._watch_sending()

    def resume_writing(self) -> None:
        self._http.resume_writing()

    # ---- the parser beside uvicorn -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        self._start(self.settings.header_seconds, self._no_head)

    def on_headers_complete(self) -> None:
        self._in_head, self._in_body = False, True
        self._unanswered += 1
        self.shared.requests += 1
        self._start(self.settings.body_seconds + SPARE_SECONDS, self._no_body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop()
        if not self._unanswered:  # refused before its body had come; uvicorn's own clock was stopped by the body
            self._start(self.settings.idle_seconds, self.close)

    # ---- what a client has to do in time -----------------------------------------------------------------------------

    def _start(self, seconds: float, late: Callable[[], None]) -> None:
        self._stop()
        self._clock = self.loop.call_later(seconds, late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _no_head(self) -> None:
        if self._unanswered:  # an earlier request: first things first
            self._start(self.settings.header_seconds, self._no_head)
        elif self._in_head:
            text = f"the head of the request did not come within {self.settings.header_seconds:g} s"
            self._refuse(Refusal(408, text, where="headers", remedy="Send it at once."))
        else:
            self.close()

    def _no_body(self) -> None:
        self._layers[0].abort()

    # ---- answers -----------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request is not answered, or its answer is on the way."""
        return self._unanswered > 0 or self._unsent() > 0

    def answered(self) -> None:
        """The application has answered a request."""
        self._unanswered -= 1
        if self in self.shared.open and self._unsent():
            self._watch_sending()

    def close(self) -> None:
        """Take nothing more, and end when what was written is sent. asyncio's TLS takes being told so once only."""
        if not self._layers[0].is_closing():
            self._layers[0].close()
            self._watch_sending()

    def _unsent(self) -> int:
        """Bytes of answers that the system has not taken yet."""
        return sum(layer.get_write_buffer_size() for layer in self._layers)

    def _watch_sending(self) -> None:
        """From now on the client has to take some of what it is sent, again and again, until it has it all."""
        if self._sending is not None:
            self._sending.cancel()
        self._unsent_before = self._unsent()
        self._sending = self.loop.call_later(self.settings.body_seconds, self._look_at_sending)

    def _look_at_sending(self) -> None:
        left = self._unsent()
        if left >= self._unsent_before > 0 or (not left and self._layers[0].is_closing()):
            self._layers[0].abort()
        elif left:
            self._watch_sending()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        request_id = new_id()
        self._stop()
        self._in_head = False
        if not self._unanswered:  # an answer in the middle of another would be part of it
            self._layers[0].write(_bytes(refusal, request_id))
        self.close()
        self.shared.telemetry.request("connection", refusal.status, request_id, {}, {})


def _bytes(refusal: Refusal, request_id: str) -> bytes:
    body = refusal.body(request_id)
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "X-Request-Id": request_id,
        "Connection": "close",
        **refusal.headers,
    }
    lines = [f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
