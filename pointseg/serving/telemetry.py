"""What a service tells its operators: Prometheus metrics, and a line of JSON for each request.

Neither ever holds coordinates, labels, keys, names or contents of files, or addresses of callers.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pointseg.serving.collection import COLLECTED, DROPPED, FAILED, Collection
from pointseg.serving.engine import Engine
from pointseg.serving.refusal import Refusal

__all__ = ["CONTENT_TYPE", "RequestMiddleware", "Telemetry", "install_log", "new_id"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LOG = "pointseg.serving.log"
SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)

log = logging.getLogger(LOG)


class _JsonLines(logging.Formatter):
    """A record as one line of JSON; its exception as a text within it."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {"time": f"{stamp}.{record.msecs:03.0f}Z", "level": record.levelname}
        message = record.getMessage()
        try:
            line |= json.loads(message)
        except ValueError:  # what others log here
            line |= {"event": "message", "text": message}
        if record.exc_info or record.exc_text:
            line["exception"] = record.exc_text or self.formatException(record.exc_info)  # type: ignore[arg-type]
        return json.dumps(line, ensure_ascii=False)


def install_log() -> None:
    """Write the service's log to standard error, a line of JSON each, and nowhere else."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    logging.captureWarnings(True)
    levels = {
        LOG: logging.INFO,
        "py.warnings": logging.WARNING,
        "uvicorn.error": logging.ERROR,
        "asyncio": logging.ERROR,
    }
    for name, level in levels.items():
        logger = logging.getLogger(name)
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = True


class Telemetry:
    """Counts and logs.

    Args:
        engine: whose queue is shown; None: shown later, by `watch`.

    Example:
        >>> telemetry = Telemetry(engine)
        >>> telemetry.request("/score", 200, "a1", {"points": 5}, {"read": 0.002})
        >>> telemetry.text().splitlines()[0]
        b'# HELP pointseg_requests_total Requests by route and status of the answer.'
    """

    def __init__(self, engine: Engine) -> None:
        self.registry = registry = CollectorRegistry()
        self._requests = Counter(
            "pointseg_requests", "Requests by route and status of the answer.", ["route", "status"], registry=registry
        )
        self._stages = Histogram(
            "pointseg_stage_seconds",
            "Time of a scored cloud by stage: read, wait, predict, write.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self._points = Counter("pointseg_points", "Points that were labelled.", registry=registry)
        self._received = Counter("pointseg_received_bytes", "Bytes of bodies, as sent.", registry=registry)
        self._reloads = Counter("pointseg_reloads", "Reloads of the model, by outcome.", ["outcome"], registry=registry)
        self._model = Gauge("pointseg_model_info", "The present model.", ["name", "version"], registry=registry)
        self.add_gauge("pointseg_queue_clouds", "Clouds that wait for the model.", lambda: engine.load[0])
        self.add_gauge("pointseg_predicting_clouds", "Clouds that are being predicted.", lambda: engine.load[1])
        ProcessCollector(registry=registry)
        self.set_model(engine.served.model)

    def add_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """One more metric, whose value is asked for when the metrics are read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def count_collected(self, collection: Collection) -> None:
        """Counters of what became of the scans that were to be collected."""
        self.registry.register(_CollectedScans(collection))

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self.registry)

    def set_model(self, model: Mapping[str, str]) -> None:
        """Another model answers from now on."""
        self._model.clear()
        self._model.labels(model.get("name", ""), model.get("version", "")).set(1)

    def request(
        self, route: str, status: int, request_id: str, facts: Mapping[str, Any], seconds: Mapping[str, float]
    ) -> None:
        """One answer.

        Args:
            route: as the service knows it, not as it was asked for.
            facts: of the log line, such as points and bytes.
            seconds: by stage.
        """
        self._requests.labels(route, str(status)).inc()
        self._points.inc(facts.get("points", 0))
        self._received.inc(facts.get("received", 0))
        for stage, value in seconds.items():
            self._stages.labels(stage).observe(value)
        stages: dict[str, Any] = {f"{stage}_ms": round(1000 * value, 2) for stage, value in seconds.items()}
        level = logging.DEBUG if route in POLLED and status == 200 else logging.INFO
        self.event("request", level, request_id=request_id, route=route, status=status, **facts, **stages)

    def reload(self, outcome: str, **facts: Any) -> None:
        """A reload: "done", "failed" or "refused"."""
        self._reloads.labels(outcome).inc()
        self.event("reload", logging.INFO if outcome == "done" else logging.ERROR, outcome=outcome, **facts)

    def event(self, name: str, level: int = logging.INFO, *, error: BaseException | None = None, **facts: Any) -> None:
        """A line of the log."""
        if log.isEnabledFor(level):
            log.log(level, "%s", json.dumps({"event": name, **facts}, ensure_ascii=False), exc_info=error)


class _CollectedScans(Collector):
    """Counters whose values are kept elsewhere."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def collect(self) -> Iterator[CounterMetricFamily]:
        counts = self.collection.counts
        kept = "Scans whose statistics were collected."
        yield CounterMetricFamily("pointseg_collected", kept, value=counts[COLLECTED])
        lost = CounterMetricFamily(
            "pointseg_dropped", "Scans that were to be collected and were not.", labels=["reason"]
        )
        lost.add_metric(["queue"], counts[DROPPED])
        lost.add_metric(["failed"], counts[FAILED])
        yield lost


POLLED = ("/healthz", "/readyz", "/metrics")  # asked every few seconds by machines


GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
GONE = 499  # in metrics and log: the client did not wait for its answer
PLAIN = {404: "there is no such place", 405: "this method is not allowed here"}


def new_id() -> str:
    """An id for a request that brought none."""
    return uuid.uuid4().hex


class RequestMiddleware:
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
