"""What a caller is told when there are no labels: a status code and the same three things as every error says."""

from __future__ import annotations

import json
import math

from pointseg.core.errors import DataError, OutOfMemory, PointsegError

__all__ = ["Refusal", "refusal_of"]


class Refusal(Exception):
    """A request that gets no labels.

    Args:
        status: of HTTP, 4xx for what the caller can change, 503 and 504 for what time may change.
        what: is wrong, a sentence without a full stop.
        where: the part of the request it is about.
        remedy: what to do about it, a sentence.
        headers: of the answer.

    Example:
        >>> raise Refusal(415, "text/csv is not read", where="Content-Type", remedy="Send application/json.")
    """

    def __init__(
        self,
        status: int,
        what: str,
        *,
        where: str | None = None,
        remedy: str = "",
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(what)
        self.status, self.what, self.where, self.remedy = status, what, where, remedy
        self.headers = headers or {}

    @classmethod
    def busy(cls, what: str, seconds: float) -> Refusal:
        """A 503 that says when to come again."""
        wait = max(1, math.ceil(seconds))
        return cls(503, what, remedy=f"Try again in {wait} s.", headers={"Retry-After": str(wait)})

    @classmethod
    def late(cls) -> Refusal:
        """A 504."""
        remedy = "Send a smaller cloud, or try again later."
        return cls(504, "the request was not done within its time limit", remedy=remedy)

    def body(self, request_id: str) -> bytes:
        """The answer: JSON in UTF-8."""
        error = {"what": self.what, "where": self.where, "remedy": self.remedy}
        return json.dumps({"error": error, "request_id": request_id}, ensure_ascii=False).encode()


def refusal_of(error: PointsegError) -> Refusal:
    """An error about the caller's points as a refusal; where it names a file of ours, that is left out."""
    status = 413 if isinstance(error, OutOfMemory) else 422 if isinstance(error, DataError) else 500
    return Refusal(status, error.what, remedy=error.remedy)
