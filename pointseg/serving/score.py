"""The scoring script of Azure ML's inference server: the same contract as `python -m pointseg.serve`, for POST /score.

Azure's managed endpoints and the container of environments/Dockerfile start the server with it:

    AZUREML_MODEL_DIR=BUNDLE azmlinfsrv --entry_script /app/score.py

Settings, by the environment: POINTSEG_API_KEY (asked of callers where it is set: a managed endpoint asks for a key itself),
POINTSEG_REQUIRE_KEY=true (do not start without one), POINTSEG_TIME_LIMIT (seconds a cloud may take), POINTSEG_BODY_LIMIT
(bytes of a request as sent), POINTSEG_BODY_SECONDS (in which it has to come), POINTSEG_COLLECT (a folder, or `azure`: where
statistics of the labelled scans go) and POINTSEG_COLLECT_RATE (the share of the scans, 1 where it is not set).
Needs environments/serving.txt.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import replace

import flask
import numpy as np
import torch
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

from pointseg.core.errors import ConfigError, PointsegError
from pointseg.core.redaction import install_log_redaction
from pointseg.data.formats import PointCloud
from pointseg.engine.predictor import Predictor
from pointseg.serving.azure_model import find_bundle, model_of, number_setting, switch_setting, threads_of_worker
from pointseg.serving.collection import OfferedScan, collection_of_environment
from pointseg.serving.engine import Engine
from pointseg.serving.refusal import Refusal, refusal_of
from pointseg.serving.settings import Settings, read_secret, require_secret
from pointseg.serving.wire import JSON, Limits, Options, decode, encode, read_options, refuse_large_answer

__all__ = ["init", "run"]

log = logging.getLogger("azmlinfsrv.pointseg")  # below the server's own, which writes to the container's log

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")  # the server itself takes 100 characters at most
PART = 1 << 20
DRAIN_SECONDS = 5.0
DRAINED = 16 << 20  # bytes of a refused body that are read, since an answer amid sending is lost


class _Service:
    """What a worker of the server has, once it has begun."""

    def __init__(self) -> None:
        self.key = read_secret(None, "POINTSEG_API_KEY", "POINTSEG_API_KEY")
        if self.key is None and switch_setting("POINTSEG_REQUIRE_KEY"):
            raise ConfigError(
                "there is no key, and everybody could use the service",
                where="POINTSEG_API_KEY",
                remedy="Set it to what `openssl rand -hex 32` gives, as a secure environment variable.",
            )
        if os.environ.get("WORKER_PRELOAD", "").lower() == "true" or "--preload" in os.environ.get(
            "GUNICORN_CMD_ARGS", ""
        ):
            raise ConfigError(
                "the threads that predict do not go over to processes that are forked from a loaded one",
                where="WORKER_PRELOAD",
                remedy="Leave it out: each worker loads the model itself.",
            )
        install_log_redaction()
        self.seconds = number_setting("POINTSEG_TIME_LIMIT", Settings.time_limit)
        self.limits = replace(Limits(), body=int(number_setting("POINTSEG_BODY_LIMIT", Limits.body)))
        self.body_seconds = number_setting("POINTSEG_BODY_SECONDS", Settings.body_seconds)
        folder = find_bundle(os.environ.get("AZUREML_MODEL_DIR", ""))
        predictor = Predictor.load(folder)
        predictor.predict(np.random.default_rng(0).uniform(-9, 9, (5000, 4)).astype(np.float32))  # the first is slow
        model = model_of(folder, predictor.trained)
        self.engine = Engine(predictor, model, threads=threads_of_worker(torch.get_num_threads()))
        self.collection = collection_of_environment(log)
        callers = "need a key" if self.key else "need no key"
        log.info("Loaded %s as %s; %d threads; callers %s", folder, model, self.engine.threads, callers)
        if self.collection is not None:
            log.info("Collecting %g of the scans to %s", self.collection.rate, os.environ["POINTSEG_COLLECT"])


_service: _Service | None = None


def init() -> None:
    """Load the model, once for each worker of the server.

    Raises:
        CheckpointError: if AZUREML_MODEL_DIR holds no bundle, or two, or a damaged one: the server does not start then.
        ConfigError: if a setting is no number.
    """
    global _service
    try:
        _service = _Service()
    except PointsegError as error:
        log.error("error: %s", error)  # in one line, before the server's stack trace
        raise


@rawhttp  # type: ignore[untyped-decorator]
def run(request: AMLRequest) -> AMLResponse:
    """Answer one request, whatever it is: labels, or a refusal as the contract has it."""
    if request.method == "OPTIONS":  # what the server itself answers before a browser's request from elsewhere
        return AMLResponse("", 200)
    given = request.headers.get("X-Request-Id", "")
    request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    flask.g.request_id = request_id  # the server puts this one into the answer
    try:
        return _scored(request, time.monotonic())
    except Refusal as refusal:
        answer = refusal
    except PointsegError as error:
        answer = refusal_of(error)
    except (TimeoutError, CancelledError):  # the first also from the server's own limit, SCORING_TIMEOUT_MS
        answer = Refusal.late()
    except MemoryError:
        text = "the body does not fit into memory when it is read"
        answer = Refusal(413, text, where="body", remedy="Send the cloud in parts.")
    except Exception:
        log.exception("request %s failed", request_id)
        answer = Refusal(500, "the service failed at this request", remedy="Tell who runs it the request's id.")
    _drain(request)
    return _response(answer.body(request_id), answer.status, JSON, answer.headers)


def _scored(request: AMLRequest, began: float) -> AMLResponse:
    service = _service
    if service is None:
        raise Refusal.busy("the model is not loaded yet", 5.0)
    if service.key is not None:
        require_secret(request.headers.get("Authorization"), service.key)
    if request.method != "POST":
        raise Refusal(405, "this method is not allowed here", remedy="Use POST.", headers={"Allow": "POST"})
    options = _options_of(request)
    service.engine.refuse_if_full()
    body = _body(request, service.limits.body, service.body_seconds)
    received = time.monotonic()
    points = decode(body, request.content_type, request.headers.get("Content-Encoding"), options, service.limits)
    classes = service.engine.served.predictor.label_map.num_classes
    refuse_large_answer(len(points), classes, options, service.limits)
    read = time.monotonic()
    left = max(service.seconds - (read - received), 0.001)
    waiting = service.engine.submit(PointCloud(points), probabilities=options.probabilities, seconds=left)
    try:
        scored = waiting.result(timeout=left)
    finally:
        waiting.cancel()  # of no use to anybody, if this caller's time is over
    writing = time.monotonic()
    content, kind, headers = encode(scored, options)
    if service.collection is not None:
        service.collection.offer(OfferedScan(points, scored, flask.g.request_id, scored.seconds["predict"]))
    stages = {"read": read - began, **scored.seconds, "write": time.monotonic() - writing}
    headers["Server-Timing"] = ", ".join(f"{name};dur={1000 * seconds:.2f}" for name, seconds in stages.items())
    return _response(content, 200, kind, headers)


def _options_of(request: AMLRequest) -> Options:
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Refusal(422, f"{name[:40]!r} is given twice", where="query", remedy="Give it once.")
    return read_options(request.args.to_dict(), request.headers.get("Accept"))


def _body(request: AMLRequest, limit: int, seconds: float) -> bytes:
    """The body as it was sent, never more than the limit."""
    remedy = "Compress it (Content-Encoding: zstd), send octets, or the cloud in parts."
    too_long = Refusal(413, f"the body has more than {limit:,} bytes", where="body", remedy=remedy)
    if (request.content_length or 0) > limit:
        raise too_long
    end, body, reason = time.monotonic() + seconds, bytearray(), ""
    try:
        with _patience(request, seconds):
            while part := request.stream.read(PART):
                body += part
                if len(body) > limit:
                    raise too_long
    except Refusal:
        raise
    except Exception as error:  # what werkzeug and gunicorn say of a caller that is gone, each in its own way
        reason = f" ({type(error).__name__})"
    if reason or len(body) < (request.content_length or 0):
        if time.monotonic() < end:
            raise Refusal(400, f"the body was cut off{reason}", where="body", remedy="Send it again.")
        remedy = "Compress it (Content-Encoding: zstd), or use a faster connection."
        raise Refusal(408, f"the body did not come within {seconds:g} s", where="body", remedy=remedy)
    return bytes(body)


def _drain(request: AMLRequest) -> None:
    """Read what is left of a refused body, as far as that is worth it: who is still sending does not see the answer."""
    left = DRAINED
    with _patience(request, DRAIN_SECONDS), suppress(Exception):  # the caller may be gone, which is as well
        while left > 0 and (part := request.stream.read(PART)):
            left -= len(part)


@contextmanager
def _patience(request: AMLRequest, seconds: float) -> Iterator[None]:
    """Within the block, reading from the caller ends with the time: gunicorn has no limit for that."""
    connection = request.environ.get("gunicorn.socket")
    timer = threading.Timer(seconds, _stop_reading, [connection])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stop_reading(connection: socket.socket | None) -> None:
    with suppress(OSError):
        if connection is not None:
            connection.shutdown(socket.SHUT_RD)  # the answer can still be sent


def _response(body: bytes, status: int, kind: str, headers: dict[str, str]) -> AMLResponse:
    answer = AMLResponse(body, status, {"Content-Type": kind})
    for name, value in headers.items():
        answer.headers[name] = value  # not by the constructor, which parts every value at its commas
    return answer
