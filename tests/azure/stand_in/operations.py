"""Long-running operations: an address to ask, an end after some questions, and what happens at that end."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .messages import Answer, AzureError


@dataclass
class Operation:
    """One operation; `finish` is called once, with the error or None, when the last question is asked."""

    finish: Callable[[str | None], Any]
    questions_left: int
    error: str | None = None
    ended: bool = False
    name: str = field(default_factory=lambda: str(uuid.uuid4()))


class Operations:
    """`polls` questions are answered "InProgress" before an operation ends; the client is told to wait `wait_ms` between them."""

    def __init__(self, root: str, polls: int, wait_ms: int) -> None:
        self.polls, self.wait_ms = polls, wait_ms
        self._root = f"{root}/providers/Microsoft.MachineLearningServices/locations"
        self._known: dict[str, Operation] = {}
        self._lock = threading.Lock()

    def start(
        self, location: str, finish: Callable[[str | None], Any], error: str | None, polls: int | None
    ) -> dict[str, str]:
        """The headers that lead the client to a new operation."""
        operation = Operation(finish, self.polls if polls is None else polls, error)
        with self._lock:
            self._known[operation.name] = operation
        base = f"https://management.azure.com{self._root}/{location}"
        return {
            "Azure-AsyncOperation": f"{base}/mfeOperationsStatus/{operation.name}?api-version=2023-04-01",
            "Location": f"{base}/mfeOperationResults/{operation.name}?api-version=2023-04-01",
            **self._patience,
        }

    @property
    def _patience(self) -> dict[str, str]:
        return {"x-ms-retry-after-ms": str(self.wait_ms)}

    def answer(self, kind: str, name: str) -> Answer:
        """A question: mfeOperationsStatus tells the status, mfeOperationResults is 202 until the end."""
        with self._lock:
            operation = self._known.get(name)
            if operation is None:
                raise AzureError(404, "OperationNotFound", f"There is no operation {name}.")
            operation.questions_left -= 1
            ends = operation.questions_left < 0 and not operation.ended
            operation.ended |= ends
        if ends:
            operation.finish(operation.error)
        if kind.lower() == "mfeoperationresults":
            return self._result(operation)
        body: dict[str, Any] = {"id": f"{self._root}/{name}", "name": name, "status": "InProgress"}
        if operation.ended:
            body["status"] = "Failed" if operation.error else "Succeeded"
        if operation.ended and operation.error:
            body["error"] = {"code": "ResourceOperationFailure", "message": operation.error, "details": []}
        return Answer(200, body, {} if operation.ended else self._patience)

    def _result(self, operation: Operation) -> Answer:
        if not operation.ended:
            return Answer(202, None, self._patience)
        if operation.error:
            raise AzureError(409, "ResourceOperationFailure", operation.error)
        return Answer(204)
