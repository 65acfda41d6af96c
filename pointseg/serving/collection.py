"""Collects what labelled scans looked like, beside the answers: `pointseg.report drift=` reads it.

A thread of its own measures a scan after its answer was made (about 30 ms for 120,000 points) and hands the record on, to a
folder or to Azure ML's data collector. What comes too fast is dropped and counted; no request waits for it, or fails by it.

    >>> collection = Collection(FolderSink("collected"), rate=0.1)
    >>> collection.offer(OfferedScan(points, scored, "a1", 0.08))
    >>> collection.close()
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import secrets
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.files import check_writable, write_text
from pointseg.core.randomness import Purpose, random_key, unit
from pointseg.quality.scan_record import make_record
from pointseg.serving.wire import CloudLabels

__all__ = [
    "AZURE",
    "COLLECTED",
    "COLLECTION_NAME",
    "DROPPED",
    "FAILED",
    "AzureSink",
    "Collection",
    "FolderSink",
    "OfferedScan",
    "collection_of_environment",
    "open_sink",
]

AZURE = "azure"  # instead of a folder: the data collector of the deployment
COLLECTION_NAME = "model_inputs"  # as the deployment names it; Azure's own monitors look for this one
COLLECTED, DROPPED, FAILED = "collected", "dropped", "failed"  # what became of the scans that were to be collected
WAITING_SCANS, WAITING_POINTS = 16, 2_000_000  # that wait to be measured: 32 MB
SAID_EVERY = 60.0  # seconds between two lines of the log about failures


@dataclass(frozen=True)
class OfferedScan:
    """A scan with its labels, as it was answered.

    Attributes:
        points: (N, 4) or (N, 3) float32.
        scored: the answer.
        request_id: of the request.
        seconds: that labelling took.
        time: of the answer.
    """

    points: NDArray[np.float32]
    scored: CloudLabels
    request_id: str
    seconds: float
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def record(self) -> dict[str, Any] | None:
        """See `make_record`."""
        model = "/".join(self.scored.model.get(part, "") for part in ("name", "version"))
        return make_record(
            self.points,
            self.scored.raw_ids,
            self.scored.label_map,
            time=self.time,
            request_id=self.request_id,
            model=model,
            seconds=self.seconds,
        )


class Sink(Protocol):
    """Where records go; used by one thread."""

    def write(self, record: dict[str, Any], request_id: str) -> None:
        """Take a record."""

    def flush(self, *, all_of_it: bool) -> None:
        """Hand on what is due, or all that there is."""


class Collection:
    """Measures scans in a thread of its own.

    Args:
        sink: where records go.
        rate: the share of the requests that is collected, 0 to 1, chosen by a hash of their ids: the same on every server.
        log: is told of failures, once a minute at most.

    Attributes:
        counts: scans by what became of them: collected, dropped since too many waited, failed.
    """

    def __init__(self, sink: Sink, *, rate: float = 1.0, log: logging.Logger | None = None) -> None:
        self.rate, self.counts = rate, Counter({COLLECTED: 0, DROPPED: 0, FAILED: 0})
        self._sink, self._log = sink, log or logging.getLogger(__name__)
        self._waiting: deque[OfferedScan] = deque()
        self._points = 0
        self._changed = threading.Condition()
        self._closed = False
        self._said = -SAID_EVERY
        self._thread = threading.Thread(target=self._work, name="collect", daemon=True)
        self._thread.start()

    def wants(self, request_id: str) -> bool:
        """Whether a request is among those that are collected."""
        digest = hashlib.sha256(request_id.encode()).digest()
        return unit(random_key(int.from_bytes(digest[:8], "big"), Purpose.COLLECTION)) < self.rate

    def offer(self, scan: OfferedScan) -> None:
        """Collect a scan, if it is chosen and not too many wait; takes microseconds, and fails never."""
        if not self.wants(scan.request_id):
            return
        with self._changed:
            many = self._points + len(scan.points) > WAITING_POINTS and self._waiting
            if self._closed or many or len(self._waiting) >= WAITING_SCANS:
                self.counts[DROPPED] += 1
                return
            # without probabilities, which are many times the points and in no record
            self._waiting.append(replace(scan, scored=replace(scan.scored, probabilities=None)))
            self._points += len(scan.points)
            self._changed.notify()

    def close(self, seconds: float = 10.0) -> None:
        """Measure what waits, hand it on, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    # ---- the thread ------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed, timeout=1.0)
                scan = self._waiting.popleft() if self._waiting else None
                self._points -= len(scan.points) if scan else 0
                ends = self._closed and scan is None
            if scan is not None:
                self._attempt(partial(self._keep, scan), 1)
            scan = None  # its points are not held while nothing comes
            self._attempt(partial(self._sink.flush, all_of_it=ends), 0)
            if ends:
                return

    def _keep(self, scan: OfferedScan) -> None:
        record = scan.record()
        if record is not None:
            self._sink.write(record, scan.request_id)
            self.counts[COLLECTED] += 1

    def _attempt(self, action: Callable[[], None], scans: int) -> None:
        try:
            action()
        except Exception as error:  # whatever it is, the service goes on
            self.counts[FAILED] += getattr(error, "scans", scans)
            if time.monotonic() - self._said >= SAID_EVERY:
                self._said = time.monotonic()
                self._log.warning("collecting failed: %s: %s", type(error).__name__, error)


class FolderSink:
    """JSONL files below FOLDER/YYYY/MM/DD/HH, each written beside and then renamed: whole or not there.

    Args:
        folder: of all files; several services may share it.
        seconds: after which a record is in a file at the latest.
        records: of a file.
        clock: seconds since 1970.

    Raises:
        OutputError: if the folder cannot be written.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        seconds: float = 60.0,
        records: int = 1000,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.seconds, self.records, self._clock = Path(folder).expanduser(), seconds, records, clock
        check_writable(self.folder, "collect")
        self._lines: list[str] = []
        self._due = 0.0

    def write(self, record: dict[str, Any], request_id: str) -> None:
        """Take a record; it is in a file after `seconds` or `records`."""
        if not self._lines:
            self._due = self._clock() + self.seconds
        self._lines.append(json.dumps(record, separators=(",", ":"), ensure_ascii=False))

    def flush(self, *, all_of_it: bool) -> None:
        """Write a file, if one is due.

        Raises:
            LostRecords: if it cannot be written and too much has gathered; until then it is tried again.
        """
        if not self._lines or not (all_of_it or len(self._lines) >= self.records or self._clock() >= self._due):
            return
        now = datetime.fromtimestamp(self._clock(), UTC)
        path = self.folder / f"{now:%Y/%m/%d/%H}" / f"{now:%Y%m%dT%H%M%S}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        try:
            write_text(path, "\n".join([*self._lines, ""]))
        except OutputError as error:
            self._due = self._clock() + self.seconds
            lost = len(self._lines) if all_of_it else max(0, len(self._lines) - self.records)
            del self._lines[:lost]
            raise LostRecords(str(error), lost) from error
        self._lines.clear()


class LostRecords(Exception):
    """A file could not be written; `scans` records are lost."""

    def __init__(self, text: str, scans: int) -> None:
        super().__init__(text)
        self.scans = scans


class AzureSink:
    """The data collector of a managed online deployment, which writes to the workspace's storage.

    Its package sends each record to a process beside the container, from a queue and thread of its own.

    Raises:
        ConfigError: if the package is missing, or the deployment collects nothing.
    """

    def __init__(self) -> None:
        try:
            import pandas
            from azureml.ai.monitoring import Collector
            from azureml.ai.monitoring.context import BasicCorrelationContext
        except ImportError as error:
            raise ConfigError(
                f"the package of Azure's data collector is not installed ({error.name})",
                where="POINTSEG_COLLECT=azure",
                remedy="Install environments/serving-monitoring.txt on top of environments/serving.txt.",
            ) from error
        problems: list[str] = []
        self._collector = Collector(name=COLLECTION_NAME, on_error=lambda error: problems.append(str(error)))
        if problems:
            raise ConfigError(
                f"the deployment does not collect ({problems[0]})",
                where="POINTSEG_COLLECT=azure",
                remedy=f"Add a data collector with the collection {COLLECTION_NAME} to the deployment.",
            )
        self._problems = problems
        self._frame, self._context = pandas.DataFrame, BasicCorrelationContext

    def write(self, record: dict[str, Any], request_id: str) -> None:
        """Hand a record to the package, as a table of one row.

        Raises:
            RuntimeError: if it does not take it.
        """
        self._collector.collect(self._frame([record]), self._context(id=request_id))
        if self._problems:
            raise RuntimeError(self._problems.pop())

    def flush(self, *, all_of_it: bool) -> None:
        """The package sends by itself; at the end it is given the time to."""
        if all_of_it:
            with suppress(Exception):
                from azureml.ai.monitoring.init import teardown

                teardown(wait_for_flush=True)


def open_sink(target: str) -> Sink:
    """The sink that a setting names: "azure", or a folder.

    Raises:
        ConfigError, OutputError: if it cannot be used.
    """
    return AzureSink() if target == AZURE else FolderSink(target)


def collection_of_environment(log: logging.Logger) -> Collection | None:
    """What POINTSEG_COLLECT and POINTSEG_COLLECT_RATE ask for; it is closed when the process ends.

    Raises:
        ConfigError, OutputError: if that cannot be done.
    """
    target, text = os.environ.get("POINTSEG_COLLECT", ""), os.environ.get("POINTSEG_COLLECT_RATE", "") or "1"
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 1:
        remedy = "Give more than 0, and 1 at most."
        raise ConfigError(f"{text!r} is no share of the scans", where="POINTSEG_COLLECT_RATE", remedy=remedy)
    if not target:
        return None
    collection = Collection(open_sink(target), rate=rate, log=log)
    atexit.register(collection.close)
    return collection
