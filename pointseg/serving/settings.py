"""What a service allows, and whom: limits, keys out of files or the environment, and where it may listen without one."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from dataclasses import dataclass, field
from pathlib import Path

from pointseg.core.errors import ConfigError
from pointseg.core.redaction import install_log_redaction
from pointseg.serving.engine import Queue
from pointseg.serving.refusal import Refusal
from pointseg.serving.wire import Limits

__all__ = ["Settings", "check_exposure", "is_loopback", "read_key", "read_secret", "require_secret"]


@dataclass(frozen=True)
class Settings:
    """How a service behaves.

    Attributes:
        limits: of one request.
        queue: what may wait for the model.
        held: bytes of bodies that are in memory at once, of all requests together.
        readers: requests whose bodies are turned into clouds at the same time.
        time_limit: seconds from a body's last byte to its answer.
        body_seconds: to send a body, and to take some more of an answer.
        header_seconds: for the TLS handshake, and to send the head of a request.
        idle_seconds: that a connection stays open without a request.
        drain_seconds: for what is in flight when the service is told to stop.
        connections: that are open at once.
        key: that callers give; None: nobody asks for one.
        admin_token: of who may load another model; None: nobody may.

    Example:
        >>> Settings(time_limit=10.0).queue.clouds
        32
    """

    limits: Limits = field(default_factory=Limits)
    queue: Queue = field(default_factory=Queue)
    held: int = 256 << 20
    readers: int = 2
    time_limit: float = 60.0
    body_seconds: float = 30.0
    header_seconds: float = 10.0
    idle_seconds: float = 15.0
    drain_seconds: float = 30.0
    connections: int = 256
    key: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)


MAKE = "Make one: openssl rand -hex 32 > FILE."
KEY_VARIABLES = ("POINTSEG_API_KEY", "POINTSEG_KEY")  # what a service calls it, and what a caller does
SHORTEST = 16  # characters: 64 bits even of hexadecimal digits


def read_secret(file: str | None, variable: str, name: str) -> str | None:
    """A key out of a file (its only line) or an environment variable; None where neither is given. No log shows it from
    now on.

    Args:
        file: or None.
        variable: of the environment, such as "POINTSEG_API_KEY".
        name: of the configuration's key, for errors.

    Raises:
        ConfigError: if both are given, the file cannot be read, or the key is short or of odd characters.

    Example:
        >>> read_secret(None, "POINTSEG_API_KEY", "key_file")
    """
    value = os.environ.get(variable)
    if file and value:
        text = f"both {name} and {variable} are given"
        raise ConfigError(text, where=name, remedy="Give one of them.")
    if file:
        try:
            value = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise ConfigError(f"the file of {name} cannot be read ({reason})", where=file, remedy=MAKE) from None
    elif not value:
        return None
    where = file or variable
    if len(value) < SHORTEST:
        text = f"the key has {len(value)} characters, fewer than {SHORTEST}"
        raise ConfigError(text, where=where, remedy=MAKE)
    if not value.isascii() or not value.isprintable() or " " in value:
        text = "the key holds spaces, line breaks or letters beyond ASCII"
        raise ConfigError(text, where=where, remedy=MAKE)
    install_log_redaction([value])
    return value


def read_key(file: str | None, name: str) -> str | None:
    """The key of a service that is deployed from here, where a caller's variable may name it as well: see `read_secret`.

    Raises:
        ConfigError: as `read_secret`; if the environment gives two that differ.
    """
    given = {variable: os.environ[variable] for variable in KEY_VARIABLES if os.environ.get(variable)}
    if len(set(given.values())) > 1:
        text = f"{' and '.join(given)} are given, and differ"
        raise ConfigError(text, where="the environment", remedy="Unset one of them.")
    return read_secret(file, next(iter(given), KEY_VARIABLES[0]), name)


def require_secret(authorization: str | None, secret: str, name: str = "key") -> None:
    """Refuse an `Authorization: Bearer ...` header that does not bring the secret.

    Raises:
        Refusal: 401.

    Example:
        >>> require_secret("Bearer 0123456789abcdef", "0123456789abcdef")
    """
    scheme, _, given = (authorization or "").partition(" ")
    headers = {"WWW-Authenticate": "Bearer"}
    remedy = f"Send the header Authorization: Bearer {name.upper()}."
    if scheme.lower() != "bearer" or not given.strip():
        raise Refusal(401, f"a {name} is needed", where="Authorization", remedy=remedy, headers=headers)
    if not hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), secret.encode()):
        raise Refusal(401, f"the {name} is not right", where="Authorization", remedy=remedy, headers=headers)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host's name or address.

    Example:
        >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0")
        (True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_loopback for address in found)


def check_exposure(host: str, key: str | None) -> None:
    """Refuse to be reached from elsewhere without a key.

    Raises:
        ConfigError: naming the ways to give one.
    """
    if key is None and not is_loopback(host):
        raise ConfigError(
            f"{host} is reached from other machines, and no key is given",
            where="host",
            remedy="Name a file with key_file, set POINTSEG_API_KEY, or listen on 127.0.0.1.",
        )
