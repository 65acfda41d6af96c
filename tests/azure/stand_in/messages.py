"""Requests, answers and errors as Azure writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One call. `query` has lower-case keys, `headers` too; `body` is the parsed JSON or None."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    raw: bytes = b""


@dataclass
class Answer:
    """Status, body (JSON or bytes; None: empty) and headers."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return b"" if self.body is None else json.dumps(self.body).encode()


class AzureError(Exception):
    """An answer in the shape of Azure's errors."""

    def __init__(self, status: int, code: str, message: str, details: list[str] | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.details = status, code, message, details or []
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def answer(self) -> Answer:
        """The error as ARM's common error response."""
        details = [{"code": "InvalidField", "message": detail} for detail in self.details]
        return Answer(
            self.status, {"error": {"code": self.code, "message": self.message, "details": details}}, self.headers
        )
