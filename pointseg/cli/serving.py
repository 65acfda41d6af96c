"""The `serve` verb: a checked configuration -> a service."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from pointseg.cli.entry import Job
from pointseg.errors import ConfigError, DeviceError
from pointseg.extras import needed
from pointseg.serving.collection import Collection, open_sink
from pointseg.serving.engine import Engine, Queue
from pointseg.serving.security import check_exposure, read_secret
from pointseg.serving.settings import Settings
from pointseg.serving.wire import Limits
from pointseg.views import Views

__all__ = ["serve_job"]

log = logging.getLogger(__name__)

PACKAGES = ("fastapi", "uvicorn", "httptools", "python_multipart", "orjson", "zstandard", "prometheus_client")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(i?)b?|b)?", re.IGNORECASE)
SIZES = ("body", "expanded", "text", "answer", "held")
END_SECONDS = {True: 5.0, False: 1.0}  # for the threads that predict, by whether all was answered
TIMES = ("time_limit", "body_seconds", "header_seconds", "idle_seconds", "drain_seconds")


def serve_job(job: Job) -> None:
    """Serve until told to stop.

    Raises:
        ConfigError: if a key is missing or cannot be used; all are checked before the model is loaded.
        CheckpointError, TrackingError: if the model cannot be used.
    """
    config = job.config
    for package in PACKAGES:
        needed(package, "serve", "the scoring service")
    settings, threads = _settings(config), _threads(config)
    check_exposure(str(config.host), settings.key)
    tls = _tls(config.tls)
    views, device = _views(config.views), _device(config.accelerator)
    if not config.checkpoint:
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy="Name it: checkpoint=RUN_FOLDER.")
    with _bound(str(config.host), int(config.port), shared=config.reuse_port) as listener:
        _serve(job, settings, threads, tls, listener, {"device": device, "views": views})


def _serve(
    job: Job,
    settings: Settings,
    threads: int,
    tls: ssl.SSLContext | None,
    listener: socket.socket,
    model_options: dict[str, Any],
) -> None:
    from pointseg.serving.app import create_app
    from pointseg.serving.connection import serve
    from pointseg.serving.models import Source
    from pointseg.serving.telemetry import install_log

    config = job.config
    collection = _collection(config)
    torch.set_num_threads(threads)
    source = Source(
        str(config.checkpoint),
        strict=config.strict,
        tracking_uri=config.tracking.uri,
        start_dir=job.start_dir,
        **model_options,
    )
    predictor, model = source.load()
    engine = Engine(predictor, model, workers=int(config.workers), threads=threads, queue=settings.queue)
    install_log()
    app = create_app(engine, settings, source=source, collection=collection)
    address = f"{'https' if tls else 'http'}://{_shown(listener)}"
    name = "/".join(model[part] for part in ("name", "version"))
    workers = int(config.workers)
    at_once = f" for {workers} clouds at a time" if workers > 1 else ""

    def say() -> None:
        shared = f"{threads} thread{'s' if threads > 1 else ''}{at_once}"
        print(f"Serving {name} at {address} with {shared}. Ctrl-C stops.", flush=True)

    _calm_collector()
    finished = serve(app, settings, listener, tls=tls, started=say)
    if not engine.close(END_SECONDS[finished]):
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


def _calm_collector() -> None:
    """Look for cycles seldom: JSON of a scan is 100,000 lists, each of which would be looked at many times over while
    the rest is read, together with all that was made at the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _collection(config: DictConfig) -> Collection | None:
    rate = config.collect_rate
    if not 0 < rate <= 1:
        raise ConfigError(
            f"{rate} is no share of the scans", where="collect_rate", remedy="Give more than 0, and 1 at most."
        )
    if not config.collect:
        return None
    return Collection(open_sink(str(config.collect)), rate=float(rate), log=logging.getLogger("pointseg.serving.log"))


# ---- checks ----------------------------------------------------------------------------------------------------------


def _settings(config: DictConfig) -> Settings:
    sizes = {name: _size(config.limits[name], f"limits.{name}") for name in SIZES}
    if sizes["held"] < sizes["body"]:
        text = "fewer bytes may be held at once than one body may have"
        raise ConfigError(text, where="limits.held", remedy="Give at least limits.body.")
    for name in ("clouds", "points"):
        _whole(config.queue[name], f"queue.{name}", 1)
    points = _whole(config.limits.points, "limits.points", 1)
    limits = Limits(points=points, **{name: sizes[name] for name in ("body", "expanded", "text", "answer")})
    queue = Queue(
        int(config.queue.clouds), int(config.queue.points), _whole(config.queue.together, "queue.together", 0)
    )
    times: dict[str, Any] = {name: float(config[name]) for name in TIMES}
    for name in TIMES:
        if not config[name] > 0:
            raise ConfigError(f"{config[name]} seconds are no time", where=name, remedy="Give more than 0.")
    return Settings(
        limits,
        queue,
        held=sizes["held"],
        connections=_whole(config.limits.connections, "limits.connections", 1),
        key=read_secret(config.key_file, "POINTSEG_API_KEY", "key_file"),
        admin_token=read_secret(config.admin_file, "POINTSEG_ADMIN_TOKEN", "admin_file"),
        **times,
    )


def _whole(value: Any, where: str, least: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{value!r} is no whole number of at least {least}", where=where)
    if most is not None and value > most:
        raise ConfigError(f"{value} is more than this machine can use", where=where, remedy=f"Give {most} at most.")
    return value


def _size(value: Any, where: str) -> int:
    """Bytes: 1000, "64MiB", "1.5 GB"."""
    match = SIZE.fullmatch(str(value).strip())
    size = 0
    if match:
        power = "kmg".index(match[2].lower()) + 1 if match[2] else 0
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if size < 1:
        raise ConfigError(f"{value!r} is no size", where=where, remedy="Give bytes, or a size such as 64MiB.")
    return size


def _threads(config: DictConfig) -> int:
    """Cores for prediction in all."""
    workers = _whole(config.workers, "workers", 1)
    threads = (
        torch.get_num_threads()
        if config.threads is None
        else _whole(config.threads, "threads", 1, 4 * (os.cpu_count() or 1))
    )
    if workers > threads:
        text = f"{workers} workers would share {threads} thread{'s' if threads > 1 else ''}"
        raise ConfigError(text, where="workers", remedy="Give each at least one: lower workers, or raise threads.")
    return threads


def _views(section: DictConfig) -> Views:
    try:
        return Views(**{str(name): section[name] for name in section})
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), where="views") from None


def _device(accelerator: str) -> str:
    """Like `training.devices.choose_compute`, which takes Lightning and its ten seconds."""
    if accelerator not in ("auto", "cpu", "gpu"):
        raise ConfigError(f"there is no {accelerator!r}", where="accelerator", remedy="Use auto, cpu or gpu.")
    if accelerator == "gpu" and not torch.cuda.is_available():
        text = "a GPU is asked for and this machine has none that torch can use"
        raise DeviceError(text, where="accelerator=gpu", remedy="Use auto or cpu, or install a CUDA build of torch.")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def _tls(section: DictConfig) -> ssl.SSLContext | None:
    if not section.certificate and not section.key:
        return None
    if not section.certificate or not section.key:
        text = "one of certificate and private key is missing"
        raise ConfigError(text, where="tls", remedy="Give both tls.certificate and tls.key, or neither.")
    for name in ("certificate", "key"):
        if not Path(section[name]).expanduser().is_file():
            raise ConfigError(f"the file of the TLS {name} does not exist", where=section[name])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    certificate, key = (str(Path(section[name]).expanduser()) for name in ("certificate", "key"))

    def no_passphrase() -> str:
        raise ConfigError("the TLS private key has a passphrase", where=section.key, remedy="Store it without one.")

    try:
        context.load_cert_chain(certificate, key, no_passphrase)
    except (ssl.SSLError, OSError) as error:
        reason = (str(error.strerror or error)).partition(" (_ssl")[0].removeprefix("[SSL] ")
        text = f"TLS certificate and private key cannot be used ({reason})"
        remedy = "Give PEM files that belong together."
        raise ConfigError(text, where=section.certificate, remedy=remedy) from None
    return context


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket that nobody else can take meanwhile, or with `shared` only services that share theirs as well, of the same
    user. A shared one gets no connections before the model is loaded."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"there is no port {port}", where="port", remedy="Give 1 to 65535, or 0 for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(address)
        if not shared:
            listener.listen(1)
    except OSError as error:
        text = f"{host}:{port} cannot be listened on ({error.strerror or error})"
        remedy = "Choose another port; port=0 takes a free one." if port else "Name an address of this machine."
        raise ConfigError(text, where="host, port", remedy=remedy) from None
    return listener


def _shown(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
