"""What the SDK asked, in order."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """One request and the status of its answer (0: the connection was dropped). Headers that carry secrets are left out."""

    method: str
    host: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 0

    @property
    def short(self) -> str:
        """`PUT jobs/NAME`: the path below the workspace."""
        below = re.split(r"/workspaces/[^/]+/", self.path, maxsplit=1, flags=re.IGNORECASE)
        return f"{self.method} {below[-1].strip('/')}"


class Recorder:
    """Every call that reached the stand-in."""

    def __init__(self) -> None:
        self._calls: list[Call] = []
        self._lock = threading.Lock()

    def add(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        with self._lock:
            self._calls.clear()

    def __iter__(self) -> Iterator[Call]:
        with self._lock:
            return iter(list(self._calls))

    def matching(self, pattern: str) -> list[Call]:
        """The calls whose `short` matches the whole regular expression: `matching("PUT jobs/.*")`."""
        return [call for call in self if re.fullmatch(pattern, call.short)]

    def one(self, pattern: str) -> Call:
        """The only call that matches."""
        found = self.matching(pattern)
        assert len(found) == 1, f"{len(found)} calls match {pattern}:\n" + "\n".join(call.short for call in self)
        return found[0]

    def body(self, pattern: str) -> dict[str, Any]:
        """The properties in the body of the only call that matches."""
        return dict(self.one(pattern).body["properties"])

    def assert_order(self, *patterns: str) -> None:
        """The patterns match calls in this order; calls between them are allowed."""
        shorts = [call.short for call in self]
        rest = iter(shorts)
        for pattern in patterns:
            assert any(re.fullmatch(pattern, short) for short in rest), f"{pattern} is missing or too early in {shorts}"
