"""How submitted jobs go on: by a script of statuses, or by really running them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from .store import Resource, Store

USUAL = ("Starting", "Preparing", "Queued", "Running", "Finalizing", "Completed")
ENDED = ("Completed", "Failed", "Canceled")


class Runs(Protocol):
    """What executes jobs (`execution.Executor`)."""

    def start(self, resource: Resource) -> bool: ...

    def stop(self, name: str) -> None: ...


class Jobs:
    """Statuses of jobs. A scripted job moves one status further each time that somebody looks at it."""

    def __init__(self, store: Store) -> None:
        self.executor: Runs | None = None
        self.begun: list[Callable[[Resource], None]] = []  # told of each new job before it starts
        self._store = store
        self.scripts: dict[str, Sequence[str]] = {}
        self._left: dict[str, list[str]] = {}
        self._executed: set[str] = set()
        self._lock = threading.Lock()

    def script(self, name: str, *statuses: str) -> None:
        """The statuses that a job of this name, or "*" for every other, goes through; the last one stays."""
        self.scripts[name] = statuses

    def submitted(self, resource: Resource) -> None:
        """Begins a new job."""
        for listener in self.begun:
            listener(resource)
        if self.executor is not None and self.executor.start(resource):
            self._executed.add(resource["name"])
            return
        with self._lock:
            self._left[resource["id"].lower()] = list(self.scripts.get(resource["name"], self.scripts.get("*", USUAL)))

    def step(self, job_id: str) -> None:
        """Somebody looks."""
        with self._lock:
            left = self._left.get(job_id.lower())
            if left:
                self._store.change(job_id, status=left.pop(0))

    def cancel(self, job_id: str) -> None:
        """A job that has not ended is asked to end."""
        with self._lock:
            self._left.pop(job_id.lower(), None)
        job = self._store.get(job_id)
        if job["properties"]["status"] not in ENDED:
            self._store.change(job_id, status="CancelRequested")
            if self.executor is not None and job["name"] in self._executed:
                self.executor.stop(job["name"])

    def canceled(self, job_id: str) -> None:
        if self._store.get(job_id)["properties"]["status"] == "CancelRequested":
            self._store.change(job_id, status="Canceled")
