"""Names of hosts: Azure's lead to ports of this machine, this machine's stay, every other is refused.

Standard library only: `child/sitecustomize.py` loads this file by its path, so that child processes see the same names.
"""

from __future__ import annotations

import fnmatch
import os
import socket
from collections.abc import Mapping
from typing import Any

VARIABLE = "POINTSEG_STAND_IN_NAMES"
HTTPS = {443, "443", b"443", "https", b"https"}
HERE = ("localhost", "127.*", "::1", "0.0.0.0", "::")

_system = socket.getaddrinfo


def table(environment: Mapping[str, str] = os.environ) -> dict[str, int]:
    """Patterns of host names and the ports of 127.0.0.1 that they lead to, from the environment variable."""
    words = environment.get(VARIABLE, "").split()
    return {pattern: int(port) for pattern, port in (word.rsplit("=", 1) for word in words)}


def written(ports: Mapping[str, int]) -> str:
    """The value of the environment variable for these ports."""
    return " ".join(f"{pattern}={port}" for pattern, port in ports.items())


def _answer(host: Any, port: Any, *arguments: Any, **named: Any) -> list[Any]:
    """`socket.getaddrinfo`, which knows Azure's names for https and this machine's; the table is read at every call."""
    ports = table()
    name = host.decode() if isinstance(host, bytes) else host
    if not ports or name is None or name == socket.gethostname() or any(fnmatch.fnmatch(name, here) for here in HERE):
        return _system(host, port, *arguments, **named)
    for pattern, local in ports.items():
        if fnmatch.fnmatch(name.lower(), pattern):
            if port not in HTTPS:
                raise socket.gaierror(socket.EAI_SERVICE, f"{name}:{port} is not https; the stand-in has only that")
            return _system("127.0.0.1", local, *arguments, **named)
    raise socket.gaierror(socket.EAI_NONAME, f"the stand-in refuses the name {name}")


def install() -> bool:
    """Wraps `socket.getaddrinfo` in this process; False where it is wrapped already."""
    if socket.getaddrinfo is _answer:
        return False
    socket.getaddrinfo = _answer
    return True


def remove() -> None:
    """Gives the system's function back."""
    socket.getaddrinfo = _system
