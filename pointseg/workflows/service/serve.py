"""Answer requests for labels over HTTP, until stopped."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.optional_packages import needed
from pointseg.engine.views import Views
from pointseg.serving.collection import Collection, open_sink
from pointseg.serving.engine import Engine
from pointseg.serving.settings import check_exposure
from pointseg.workflows.adaptation import adapted_to
from pointseg.workflows.model_location import required
from pointseg.workflows.service.service_settings import bound_socket, cores, device_of, service_settings, tls_context
from pointseg.workflows.settings.serve import ServeConfig

__all__ = ["Service", "serve"]

PACKAGES = ("fastapi", "uvicorn", "httptools", "python_multipart", "orjson", "zstandard", "prometheus_client")
END_SECONDS = {True: 5.0, False: 1.0}  # for the threads that predict, by whether all was answered


@dataclass(frozen=True)
class Service:
    """A service that answers.

    Attributes:
        address: such as "http://127.0.0.1:8000".
        model: its name and version, such as "street/3".
        threads: cores for prediction in total.
        workers: clouds that are predicted at the same time.
        stop: finishes what is in flight and ends the service, as SIGTERM and Ctrl-C do; from any thread.
    """

    address: str
    model: str
    threads: int
    workers: int
    stop: Callable[[], None]


def serve(
    config: ServeConfig, *, started: Callable[[Service], None] = lambda service: None, whole_process: bool = False
) -> None:
    """Answer until SIGTERM, Ctrl-C or `Service.stop`; then finish what is in flight.

    Args:
        started: called once, when requests are answered.
        whole_process: whether nothing else runs in this process: the service then logs lines of JSON to standard error,
            and sets how Python collects garbage and ends threads that hang.

    Raises:
        ConfigError: if a key is missing or cannot be used, before the model is loaded; or if requests were unfinished after
            `drain_seconds`.
        CheckpointError, TrackingError: if the model cannot be used.

    Example:
        >>> serve(ServeConfig(checkpoint="RUN_FOLDER", port=0), started=lambda service: print(service.address))
    """
    for package in PACKAGES:
        needed(package, "serve", "the scoring service")
    from pointseg.serving.app import create_app  # on use: they need the extra `serve`
    from pointseg.serving.model_source import Source
    from pointseg.serving.server import serve as answer_requests
    from pointseg.serving.telemetry import install_log

    check_choices(config)
    settings, threads = service_settings(config), cores(config)
    check_exposure(config.host, settings.key)
    tls, views, device = tls_context(config.tls), Views(**asdict(config.views)), device_of(config.accelerator)
    checkpoint = required(config.checkpoint, "checkpoint", "Name it: checkpoint=RUN_FOLDER.")
    with bound_socket(config.host, config.port, shared=config.reuse_port) as listener:
        collection = _collection(config)
        source = Source(
            checkpoint,
            device,
            config.strict,
            views,
            models=config.models,
            adapt=lambda predictor: adapted_to(predictor, config.adapt, config.adapt_scans, config.adapt_share),
            tracking_uri=str(config.tracking.uri),
            start_dir=Path.cwd(),
        )
        predictor, model = source.load()
        engine = Engine(predictor, model, workers=config.workers, threads=threads, queue=settings.queue)
        if whole_process:
            install_log()
            torch.set_num_threads(threads)
            _collect_garbage_seldom()
        app = create_app(engine, settings, source=source, collection=collection)
        address = f"{'https' if tls else 'http'}://{_address(listener)}"
        name = f"{model['name']}/{model['version']}"
        finished = answer_requests(
            app,
            settings,
            listener,
            tls=tls,
            started=lambda stop: started(Service(address, name, threads, config.workers, stop)),
        )
    if not engine.close(END_SECONDS[finished]) and whole_process:
        # Python ends such a thread where it next comes back from C++, which aborts the process (before Python 3.14)
        atexit.register(os._exit, 0 if finished else 1)
    if collection is not None:
        collection.close()
    if not finished:
        raise ConfigError(
            f"stopped with requests unfinished after {settings.drain_seconds:g} s",
            where="drain_seconds",
            remedy="Give it more where requests take longer.",
        )


def _collection(config: ServeConfig) -> Collection | None:
    if not config.collect:
        return None
    log = logging.getLogger("pointseg.serving.log")
    return Collection(open_sink(config.collect), rate=config.collect_rate, log=log)


def _collect_garbage_seldom() -> None:
    """Look for cycles seldom: the JSON of a scan is 100,000 lists, which would be searched many times over while the rest is
    read, together with everything made at the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
