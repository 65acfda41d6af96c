"""The settings of `serve`, checked and turned into what the service takes: limits, keys, TLS, cores and the socket."""

from __future__ import annotations

import os
import re
import socket
import ssl
from typing import Any

import torch

from pointseg.core.errors import ConfigError, DeviceError
from pointseg.core.files import expanded, is_file
from pointseg.serving.engine import Queue
from pointseg.serving.settings import Settings, read_secret
from pointseg.serving.wire import Limits
from pointseg.workflows.settings.serve import LimitsConfig, ServeConfig, TlsConfig

__all__ = ["bound_socket", "check_port", "cores", "device_of", "service_settings", "tls_context"]

SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmg])(i?)b?|b)?", re.IGNORECASE)
SIZES = ("body", "expanded", "text", "answer", "held")
TIMES = ("time_limit", "body_seconds", "header_seconds", "idle_seconds", "drain_seconds")


def service_settings(config: ServeConfig) -> Settings:
    """How the service behaves.

    Raises:
        ConfigError: naming the key that is out of range, or the file of a key that cannot be used.
    """
    limits, queue = config.limits, config.queue
    sizes = _sizes(limits)
    for name, value in (
        ("queue.clouds", queue.clouds),
        ("queue.points", queue.points),
        ("limits.points", limits.points),
        ("limits.connections", limits.connections),
    ):
        _check_at_least(value, name, 1)
    _check_at_least(queue.together, "queue.together", 0)
    times: dict[str, Any] = {name: float(getattr(config, name)) for name in TIMES}
    for name, seconds in times.items():
        if not seconds > 0:
            raise ConfigError(f"{seconds:g} seconds are not enough", where=name, remedy="Give more than 0.")
    if not 0 < config.collect_rate <= 1:
        raise ConfigError(
            f"{config.collect_rate:g} is not a share of the scans",
            where="collect_rate",
            remedy="Give a number above 0 and at most 1.",
        )
    held = sizes.pop("held")
    return Settings(
        Limits(points=limits.points, **sizes),
        Queue(queue.clouds, queue.points, queue.together),
        held=held,
        connections=limits.connections,
        key=read_secret(config.key_file, "POINTSEG_API_KEY", "key_file"),
        admin_token=read_secret(config.admin_file, "POINTSEG_ADMIN_TOKEN", "admin_file"),
        **times,
    )


def _check_at_least(value: int, where: str, least: int) -> None:
    if value < least:
        raise ConfigError(f"{value!r} is not a whole number of at least {least}", where=where)


def _sizes(limits: LimitsConfig) -> dict[str, int]:
    sizes = {name: _bytes(getattr(limits, name), f"limits.{name}") for name in SIZES}
    if sizes["held"] < sizes["body"]:
        text = "the service could not hold one body of the largest size"
        raise ConfigError(text, where="limits.held", remedy="Give at least limits.body.")
    return sizes


def _bytes(value: int | str, where: str) -> int:
    """The number of bytes of 1000, "64MiB" or "1.5 GB"."""
    match = SIZE.fullmatch(str(value).strip())
    size = 0
    if match:
        power = "kmg".index(match[2].lower()) + 1 if match[2] else 0
        size = int(float(match[1]) * (1024 if match[3] else 1000) ** power)
    if size < 1:
        raise ConfigError(f"{value!r} is not a size", where=where, remedy="Give bytes, or a size such as 64MiB.")
    return size


def cores(config: ServeConfig) -> int:
    """Cores for prediction in all.

    Raises:
        ConfigError: for more than this machine can use, or fewer than workers.
    """
    _check_at_least(config.workers, "workers", 1)
    threads = torch.get_num_threads() if config.threads is None else config.threads
    _check_at_least(threads, "threads", 1)
    most = 4 * (os.cpu_count() or 1)
    if config.threads is not None and threads > most:
        text = f"{threads} is more than this machine can use"
        raise ConfigError(text, where="threads", remedy=f"Give {most} at most.")
    if config.workers > threads:
        text = f"{config.workers} workers would share {threads} thread{'s' if threads > 1 else ''}"
        raise ConfigError(text, where="workers", remedy="Give each at least one: lower workers, or raise threads.")
    return threads


def device_of(accelerator: str) -> str:
    """The torch device of a service, whatever ranks the environment names.

    Raises:
        DeviceError: for a GPU that this machine does not have.
    """
    if accelerator == "gpu" and not torch.cuda.is_available():
        text = "a GPU is asked for and this machine has none that torch can use"
        raise DeviceError(text, where="accelerator=gpu", remedy="Use auto or cpu, or install a CUDA build of torch.")
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def tls_context(files: TlsConfig) -> ssl.SSLContext | None:
    """For https; None where no files are given.

    Raises:
        ConfigError: if one is missing, or they cannot be used.
    """
    if not files.certificate and not files.key:
        return None
    if not files.certificate or not files.key:
        text = "one of certificate and private key is missing"
        raise ConfigError(text, where="tls", remedy="Give both tls.certificate and tls.key, or neither.")
    for name, file in (("certificate", files.certificate), ("key", files.key)):
        if not is_file(expanded(file)):
            raise ConfigError(f"the file of the TLS {name} does not exist", where=file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    def no_passphrase() -> str:
        raise ConfigError("the TLS private key has a passphrase", where=files.key, remedy="Store it without one.")

    try:
        context.load_cert_chain(expanded(files.certificate), expanded(files.key), no_passphrase)
    except (ssl.SSLError, OSError) as error:
        reason = (str(error.strerror or error)).partition(" (_ssl")[0].removeprefix("[SSL] ")
        text = f"TLS certificate and private key cannot be used ({reason})"
        remedy = "Give PEM files that belong together."
        raise ConfigError(text, where=files.certificate, remedy=remedy) from None
    return context


def check_port(port: int, key: str) -> None:
    """Raises ConfigError, naming the key, for a number that is not a port."""
    if not 0 <= port <= 65535:
        remedy = "Give 1 to 65535, or 0 for a free one."
        raise ConfigError(f"there is no port {port}", where=key, remedy=remedy)


def bound_socket(host: str, port: int, *, shared: bool = False, section: str = "") -> socket.socket:
    """A socket that nobody else can take in the meantime; with `shared`, services of the same user that share theirs can.
    A shared one gets no connections before the model is loaded.

    Args:
        section: of the configuration that has the keys host and port, such as "local.".

    Raises:
        ConfigError: if the port is taken, or there is no such address.
    """
    check_port(port, f"{section}port")
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
        remedy = (
            f"Choose another port; {section}port=0 takes a free one." if port else "Name an address of this machine."
        )
        raise ConfigError(text, where=f"{section}host, {section}port", remedy=remedy) from None
    return listener
