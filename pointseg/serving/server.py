"""The process that answers: uvicorn on a socket, and an end that loses nothing that was begun."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
from fastapi import FastAPI

from pointseg.core.memory import hand_back
from pointseg.serving import connection
from pointseg.serving.connection import Connections
from pointseg.serving.settings import Settings

__all__ = ["serve"]

TIDY_SECONDS = 2.0
LAST_SECONDS = 0.5  # that the service answers 503 before it closes, for those who look whether it is ready


def serve(
    app: FastAPI,
    settings: Settings,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    started: Callable[[Callable[[], None]], None] = lambda stop: None,
) -> bool:
    """Answer until SIGTERM, SIGINT or `stop`, then finish what is in flight; False if that took longer than `drain_seconds`.

    Args:
        app: of `create_app`.
        listener: a bound socket.
        tls: for https.
        started: called once when requests are answered, with what stops the service as SIGTERM does, from any thread.
    """
    connections = Connections(settings, app.state.scoring, app.state.telemetry, tls)

    class Connection(connection.Connection):
        shared = connections

    config = uvicorn.Config(
        connections.application(app),
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
    )
    server = _Server(config, connections, started)
    server.run(sockets=[listener])
    connections.scoring.close()
    return server.finished


class _Server(uvicorn.Server):
    """Drains at a signal, and ends the process with its own exit code."""

    def __init__(
        self, config: uvicorn.Config, connections: Connections, announce: Callable[[Callable[[], None]], None]
    ) -> None:
        super().__init__(config)
        self.connections, self.announce = connections, announce
        self.finished = True
        self._draining: asyncio.Task[None] | None = None
        self._tidying: asyncio.Task[None] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:  # type: ignore[override]
        loop = asyncio.get_running_loop()
        of_process = threading.current_thread() is threading.main_thread()  # the others are told no signals
        numbers = (signal.SIGTERM, signal.SIGINT) if of_process else ()
        for number in numbers:
            loop.add_signal_handler(number, self._stop, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        self._tidying = loop.create_task(self._tidy())

        def stop() -> None:
            with suppress(RuntimeError):  # it has ended already
                loop.call_soon_threadsafe(self._stop, signal.SIGTERM)

        self.announce(stop)

    async def _tidy(self) -> None:
        """Memory of bodies goes back to the system soon, not when the C library happens to."""
        done = 0
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            if done != self.connections.requests:
                done = self.connections.requests
                await asyncio.to_thread(hand_back)

    def _stop(self, number: int) -> None:
        connections = self.connections
        if self._draining is None:
            name, in_flight = signal.Signals(number).name, connections.scoring.in_flight
            connections.telemetry.event("stopping", signal=name, in_flight=in_flight)
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:  # a second time: at once
            self.finished = self.finished and not connections.unfinished
            self.should_exit = self.force_exit = True

    async def _drain(self) -> None:
        connections, now = self.connections, asyncio.get_running_loop().time
        connections.scoring.draining = True
        end = now() + connections.settings.drain_seconds
        soonest = now() + (LAST_SECONDS if connections.open else 0.0)
        while now() < soonest or (connections.unfinished and now() < end):
            await asyncio.sleep(0.02)
        for server in self.servers:
            server.close()
        # what was accepted and not yet read gets its 503; then idle connections are closed
        last = now() + LAST_SECONDS
        while connections.open and now() < last:
            await asyncio.sleep(0.02)
        unfinished = connections.unfinished
        self.finished = unfinished == 0
        level = logging.INFO if self.finished else logging.ERROR
        connections.telemetry.event("stopped", level, unfinished=unfinished)
        self.should_exit = True
