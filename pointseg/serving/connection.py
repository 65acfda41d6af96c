"""Connections: bounded in number, in time and in memory; and a server that ends without losing what it has begun."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from asyncio import TimerHandle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pointseg.memory import hand_back
from pointseg.serving.refusal import Refusal
from pointseg.serving.scoring import Scoring
from pointseg.serving.settings import Settings
from pointseg.serving.telemetry import Telemetry
from pointseg.serving.watch import new_id

__all__ = ["serve"]

LONGEST_HEAD = 65536  # bytes of a request's line and headers
SPARE_SECONDS = 5.0  # beyond `body_seconds`, in which the application says it first
TIDY_SECONDS = 2.0
LAST_SECONDS = 0.5  # that the service answers 503 before it closes, for those who look whether it is ready


def serve(
    app: FastAPI,
    settings: Settings,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    started: Callable[[], None] = lambda: None,
) -> bool:
    """Answer until SIGTERM or SIGINT, then finish what is in flight; False if that took longer than `drain_seconds`.

    Args:
        app: of `create_app`.
        listener: a bound socket.
        tls: for https.
        started: called once when requests are answered.
    """
    scoring, telemetry = app.state.scoring, app.state.telemetry

    class Connection(_Connection):
        rules, told, scored = settings, telemetry, scoring

    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.idle_seconds,  # type: ignore[arg-type]
        timeout_graceful_shutdown=2,
        ssl_context_factory=(lambda *_: tls) if tls else None,
    )
    server = _Server(config, scoring, settings, telemetry, started)
    server.run(sockets=[listener])
    scoring.close()
    return server.finished


class _Server(uvicorn.Server):
    """Drains at a signal, and ends the process with its own exit code."""

    def __init__(
        self,
        config: uvicorn.Config,
        scoring: Scoring,
        settings: Settings,
        telemetry: Telemetry,
        announce: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self.scoring, self.settings, self.telemetry, self.announce = scoring, settings, telemetry, announce
        self.finished = True
        self._draining: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGTERM, signal.SIGINT)
        for number in numbers:
            loop.add_signal_handler(number, self._told_to_stop, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._tidying = asyncio.get_running_loop().create_task(self._tidy())
        self.announce()

    async def _tidy(self) -> None:
        """Memory of bodies goes back to the system soon, not when the C library happens to."""
        done = 0
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if done != self.server_state.total_requests:
                done = self.server_state.total_requests
                await asyncio.to_thread(hand_back)

    def _told_to_stop(self, number: int) -> None:
        if self._draining is None:
            self.telemetry.event("stopping", signal=signal.Signals(number).name, in_flight=self.scoring.in_flight)
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:  # a second time: at once
            self.finished = self.finished and not self._unfinished()
            self.should_exit = self.force_exit = True

    def _unfinished(self) -> int:
        """Requests that are not answered, or whose answer is not with their client."""
        busy = sum(connection.busy for connection in self.server_state.connections)  # type: ignore[union-attr]
        return max(busy, self.scoring.in_flight)

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        self.scoring.draining = True
        now = loop.time()
        end = now + self.settings.drain_seconds
        soonest = now + (LAST_SECONDS if self.server_state.connections else 0.0)
        while loop.time() < soonest or (self._unfinished() and loop.time() < end):
            await asyncio.sleep(0.02)
        for server in self.servers:
            server.close()
        # what was accepted and not yet read gets its 503; then idle connections are closed
        last = loop.time() + LAST_SECONDS
        while self.server_state.connections and loop.time() < last:
            await asyncio.sleep(0.02)
        left = self._unfinished()
        self.finished = left == 0
        level = logging.INFO if self.finished else logging.ERROR
        self.telemetry.event("stopped", level, unfinished=left)
        self.should_exit = True


class _Connection(HttpToolsProtocol):
    """One connection, with a clock for whatever its client has to do next."""

    rules: Settings
    told: Telemetry
    scored: Scoring

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._clock: TimerHandle | None = None  # head or body of a request
        self._sending: TimerHandle | None = None  # an answer, or several, on the way
        self._unsent_before = 0
        self._in_head, self._head_bytes = False, 0

    # ---- asyncio -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.rules.connections:
            self._refuse(Refusal.busy("too many connections are open", 2.0))
        else:
            self._start(self.rules.header_seconds, self._no_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        if self._sending is not None:
            self._sending.cancel()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._clock is None:
            self._start(self.rules.header_seconds, self._no_head)
        self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > LONGEST_HEAD and not self.transport.is_closing():
            text = f"the head of the request has more than {LONGEST_HEAD:,} bytes"
            self._refuse(Refusal(431, text, where="headers", remedy="Send fewer or shorter headers."))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    # ---- the parser ----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._start(self.rules.body_seconds + SPARE_SECONDS, self._no_body)
        super().on_headers_complete()
        if self.scored.draining:
            self.cycle.keep_alive = False  # whoever has to ask again asks another service

    def on_message_complete(self) -> None:
        self._stop()
        super().on_message_complete()
        if self.cycle.response_complete and self.timeout_keep_alive_task is None:  # refused before its body had come
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._unsent():
            self._watch_sending()

    def send_400_response(self, msg: str) -> None:
        self._refuse(Refusal(400, "this is no request of HTTP", remedy="Send HTTP/1.1."))

    # ---- clocks --------------------------------------------------------------------------------------------------

    def _start(self, seconds: float, late: Callable[[], None]) -> None:
        self._stop()
        self._clock = self.loop.call_later(seconds, late)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _no_head(self) -> None:
        self._clock = None
        if self._answering():  # to an earlier request: first things first
            self._start(self.rules.header_seconds, self._no_head)
        elif self._in_head:
            text = f"the head of the request did not come within {self.rules.header_seconds:g} s"
            self._refuse(Refusal(408, text, where="headers", remedy="Send it at once."))
        else:
            self.transport.close()

    def _no_body(self) -> None:
        self._clock = None
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        if self._unsent():  # the client is not idle
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()

    @property
    def busy(self) -> bool:
        """Whether a request is not answered, or its answer is on the way."""
        return self._answering() or self._unsent() > 0

    def _unsent(self) -> int:
        """Bytes of answers that the system has not taken yet; under TLS they wait in the transport below."""
        if self.scheme != "https":
            return self.transport.get_write_buffer_size()
        layer = self.transport._ssl_protocol  # type: ignore[attr-defined]
        if layer is None or layer._transport is None:  # closed
            return 0
        return int(self.transport.get_write_buffer_size() + layer._transport.get_write_buffer_size())

    def _watch_sending(self) -> None:
        """From now on the client has to take some of what it is sent, again and again, until it has it all."""
        if self._sending is not None:
            self._sending.cancel()
        self._unsent_before = self._unsent()
        self._sending = self.loop.call_later(self.rules.body_seconds, self._look_at_sending)

    def _look_at_sending(self) -> None:
        self._sending = None
        left = self._unsent()
        if left >= self._unsent_before > 0:
            self.transport.abort()
        elif left:
            self._watch_sending()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without the application, and close."""
        request_id = new_id()
        self._stop()
        self._in_head = False
        if not self._answering():  # an answer in the middle of another would be part of it
            self.transport.write(_bytes(refusal, request_id))
        self.transport.close()
        self.told.request("connection", refusal.status, request_id, {}, {})


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
