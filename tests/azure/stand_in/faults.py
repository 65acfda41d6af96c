"""Faults to inject: which calls, how often, and how they fail."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

CODES = {
    401: "InvalidAuthenticationToken",
    403: "AuthorizationFailed",
    404: "ResourceNotFound",
    409: "Conflict",
    412: "PreconditionFailed",
    429: "TooManyRequests",
    500: "InternalServerError",
}


@dataclass
class Fault:
    """Calls whose "METHOD path-below-the-workspace" matches `pattern` fail, the first `times` of them
    after as many that pass as `after` says.

    `status` 0 drops the connection without an answer. `operation_error` lets the call through; the long-running
    operation that it starts fails at its end with this message, after `polls` questions.
    """

    pattern: str
    status: int = 500
    times: int = 1_000_000
    message: str = "injected by the test"
    headers: dict[str, str] = field(default_factory=dict)
    operation_error: str | None = None
    polls: int | None = None
    after: int = 0
    met: int = 0

    @property
    def code(self) -> str:
        return CODES.get(self.status, "InternalServerError")


class Faults:
    """The rules of one stand-in."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, pattern: str, status: int = 500, **settings: object) -> Fault:
        """`faults.add("PUT jobs/.*", 429, times=1, headers={"Retry-After": "1"})`."""
        fault = Fault(pattern, status, **settings)  # type: ignore[arg-type]
        with self._lock:
            self._rules.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def meet(self, short: str) -> Fault | None:
        """The rule that this call breaks on, counted."""
        with self._lock:
            for fault in self._rules:
                if fault.met < fault.times and re.fullmatch(fault.pattern, short):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.met += 1
                    return fault
        return None
