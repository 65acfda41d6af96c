"""Addresses of scoring services: what users type, checked before anything is sent."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit, urlunsplit

from pointseg.errors import ConfigError, ServiceError

__all__ = ["mlflow_error", "split_address"]

MLFLOW_ROUTES = ("/invocations", "/ping")


def split_address(url: str) -> tuple[str, bool]:
    """The service's address without /score, and whether it is on this machine.

    Raises:
        ConfigError: if it is no such address.
    """
    if not isinstance(url, str):
        raise ConfigError(f"{url!r} is no address of a service", where="url", remedy="Such as http://127.0.0.1:8000.")
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        text = f"no address of a service ({error})"
        raise ConfigError(text, where="url", remedy="Such as http://127.0.0.1:8000.") from None
    if parts.username or parts.password:
        remedy = "Give the key as key=, or in POINTSEG_KEY."
        raise ConfigError("the address has a name or password in it", where="url", remedy=remedy)
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        shown = urlunsplit((parts.scheme, host, parts.path, "", ""))
        remedy = "Such as http://127.0.0.1:8000, without anything behind a question mark."
        raise ConfigError("no address of a service", where=f"url={shown}", remedy=remedy)
    path = parts.path.rstrip("/")
    if path.endswith(MLFLOW_ROUTES):
        raise mlflow_error(urlunsplit((parts.scheme, parts.netloc, path, "", "")))
    return urlunsplit((parts.scheme, parts.netloc, path.removesuffix("/score"), "", "")), _is_local(host)


def mlflow_error(url: str) -> ServiceError:
    return ServiceError(
        "`mlflow models serve` answers there, which takes another kind of request",
        where=url,
        remedy="Start python -m pointseg.serve with the model, or send it {'inputs': [[x, y, z, remission], ...]}.",
    )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
