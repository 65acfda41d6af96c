"""Read the records that a service collects of labelled scans, folders of JSONL files, and compute their statistics.

Two layouts are read: one record a line, as `pointseg.serving.collection` writes them, and the lines of Azure ML's data
collector, events whose `data` is a list of records. In both, files may lie below YYYY/MM/DD/HH.

A stream has no sequences. Frames of one drive are nearly alike and arrive one after another, so the scans of each hour (UTC)
count as a sequence.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pointseg.core.errors import DataError
from pointseg.core.files import expanded, is_file, is_folder
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Update
from pointseg.core.text import counted
from pointseg.quality.input_quantities import QUANTITIES, class_kind
from pointseg.quality.input_statistics import SCANS, SEQUENCES, InputStatistics, measure_vectors
from pointseg.quality.scan_record import RECORD_MARK, ScanRecord, parse_record

__all__ = ["BadLine", "CollectedScans", "collection_notes", "is_collected", "measure_collected"]

ENDINGS = (".jsonl", ".json", ".ndjson", "")
PROBED = 50  # lines of a file, and files, that are read to recognise a folder of records
LONGEST_LINE = 64 << 20  # bytes; Azure puts the records of several requests into one line
HOUR = re.compile(r"(\d{4})/(\d{2})/(\d{2})/(\d{2})(?:/|$)")
SLACK = timedelta(hours=2)  # a record may come into the folder of a later hour


@dataclass(frozen=True)
class BadLine:
    """A line that is not a record: where, and why."""

    path: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}: {self.reason}"


@dataclass(frozen=True)
class _Position:
    """Where a record is: the file's index, the line's first byte, and the record's index within the line."""

    time: datetime
    file: int
    offset: int
    within: int


class CollectedScans:
    """The records of a folder, or of one file, in chronological order.

    Args:
        root: the folder or file.
        since: the first time included; None for no limit.
        until: the first time excluded; None for no limit.

    Attributes:
        names: "HOUR/NUMBER" of each record.
        bad: lines that are not records.
        unfinished: files whose last line is still being written.
        models: number of records by the model that labelled them.

    Raises:
        DataError: if there is no record of that time, or a file cannot be read.

    Example:
        >>> CollectedScans("collected").names[0]
        '2026-11-21T23/000000'
    """

    def __init__(self, root: str | Path, *, since: datetime | None = None, until: datetime | None = None) -> None:
        self.root = expanded(root)
        self.bad: list[BadLine] = []
        self.unfinished: list[Path] = []
        self.models: Counter[str] = Counter()
        self.outside = 0
        self._files = [path for path in _files(self.root) if _may_hold(path, since, until)]
        positions: list[_Position] = []
        for number, path in enumerate(self._files):
            for offset, within, record in self._records(path):
                if (since and record.time < since) or (until and record.time >= until):
                    self.outside += 1
                    continue
                self.models[record.model] += 1
                positions.append(_Position(record.time, number, offset, within))
        if not positions:
            raise self._no_records(since, until)
        self._positions = sorted(positions, key=lambda position: position.time)
        times = [position.time for position in self._positions]
        self.first, self.last = times[0], times[-1]
        self.names = [f"{time.astimezone(UTC):%Y-%m-%dT%H}/{number:06d}" for number, time in enumerate(times)]

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> ScanRecord:
        """Read a record again from its file: a month of records need not fit into memory.

        Raises:
            DataError: if the file has changed.
        """
        position = self._positions[index]
        path = self._files[position.file]
        try:
            with open(path, "rb") as stream:
                stream.seek(position.offset)
                return parse_record(_rows(json.loads(stream.readline()))[position.within])
        except (OSError, ValueError, IndexError) as error:
            raise DataError("the file changed while it was read", where=path, remedy="Try again.") from error

    def _records(self, path: Path) -> Iterator[tuple[int, int, ScanRecord]]:
        try:
            with open(path, "rb") as stream:
                offset, number = 0, 0
                while line := stream.readline(LONGEST_LINE):
                    number += 1
                    if line.strip():
                        yield from self._of_line(path, number, offset, line)
                    offset += len(line)
        except OSError as error:
            raise DataError(f"the file cannot be read ({error.strerror})", where=path) from error

    def _of_line(self, path: Path, number: int, offset: int, line: bytes) -> Iterator[tuple[int, int, ScanRecord]]:
        try:
            rows = _rows(json.loads(line))
        except _OtherEvent as error:
            self.bad.append(BadLine(path, number, str(error)))
            return
        except (ValueError, RecursionError):
            if line.endswith(b"\n"):
                self.bad.append(BadLine(path, number, "not JSON"))
            else:
                self.unfinished.append(path)
            return
        for within, row in enumerate(rows):
            try:
                yield offset, within, parse_record(row)
            except ValueError as error:
                self.bad.append(BadLine(path, number, str(error)))

    def _no_records(self, since: datetime | None, until: datetime | None) -> DataError:
        if self.outside or len(self._files) < len(_files(self.root)):
            span = " ".join(f"{word} {time.isoformat()}" for word, time in (("from", since), ("until", until)) if time)
            return DataError(
                f"no scan was collected in this time ({span})",
                where=self.root,
                remedy="Check that the service runs and collects, or ask for a longer time.",
            )
        example = f"; {self.bad[0]}" if self.bad else ""
        what = f"no line is a record of a scan{example}"
        return DataError(what, where=self.root, remedy="Name a folder that a service collected.")


class _OtherEvent(ValueError):
    """A valid event of Azure's collector that holds no records."""


def _rows(content: Any) -> list[Any]:
    """The records of a line: itself, or those of an Azure event."""
    if isinstance(content, dict) and RECORD_MARK not in content and "data" in content:
        if not isinstance(content["data"], list):
            raise _OtherEvent(f"an event of the kind {str(content.get('type'))[:60]}, without records")
        return content["data"]
    return [content]


def is_collected(root: str | Path) -> bool:
    """Whether a folder or file holds collected scans, judged by the content of its files.

    Example:
        >>> is_collected("collected"), is_collected("semantickitti")
        (True, False)
    """
    return any(_holds_record(path) for path in _files(expanded(root))[:PROBED])


def _holds_record(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            for _ in range(PROBED):
                line = stream.readline(LONGEST_LINE)
                if not line or (not line.lstrip().startswith(b"{") and line.strip()):
                    return False
                try:
                    rows = _rows(json.loads(line)) if line.strip() else []
                except (ValueError, RecursionError):
                    continue
                if any(isinstance(row, dict) and RECORD_MARK in row for row in rows):
                    return True
    except OSError:
        pass
    return False


def _files(root: Path) -> list[Path]:
    if is_file(root):
        return [root]
    if not is_folder(root):
        return []

    def visible(path: Path) -> bool:
        return not any(part.startswith(".") for part in path.relative_to(root).parts)

    candidates = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in ENDINGS]
    return [path for path in candidates if visible(path) and is_file(path)]


def _may_hold(path: Path, since: datetime | None, until: datetime | None) -> bool:
    """Whether a file can hold records of the time, by the hour in the name of its folder."""
    match = HOUR.search(path.parent.as_posix())
    if match is None or path.parent.as_posix()[match.end() :]:
        return True
    try:
        hour = datetime(*(int(part) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc,arg-type]
    except ValueError:
        return True
    return (since is None or hour + SLACK > since) and (until is None or hour - SLACK < until)


def measure_collected(
    collected: CollectedScans,
    *,
    scans: int = SCANS,
    sequences: int = SEQUENCES,
    label_map: LabelMap | None = None,
    progress: Update | None = None,
) -> InputStatistics:
    """The statistics that `input_statistics.measure` would compute from the scans, each hour being a sequence.

    Args:
        scans, sequences: as for `measure`.
        label_map: adds the shares of the predicted classes as a quantity.

    Example:
        >>> compare(measure_collected(CollectedScans("collected")), training).verdict
        'like the training data'
    """
    kinds = dict(QUANTITIES)
    if label_map is not None:
        kinds["predicted classes"] = class_kind(label_map)

    def vectors_of(number: int) -> dict[str, Any]:
        record = collected[number]
        shares = None if label_map is None else record.class_shares(label_map)
        return record.vectors() if shares is None else {**record.vectors(), "predicted classes": shares}

    return measure_vectors(collected.names, vectors_of, kinds, scans=scans, sequences=sequences, progress=progress)


def collection_notes(collected: CollectedScans) -> list[str]:
    """What a reader of a drift report must know, as sentences without a full stop."""
    span = f"{collected.first:%Y-%m-%d %H:%M} to {collected.last:%Y-%m-%d %H:%M} UTC"
    models = ", ".join(f"{name} ({counted(n, 'scan')})" for name, n in collected.models.most_common(5))
    notes = [
        f"these are {counted(len(collected), 'collected scan')}, {span}, labelled by {models}",
        "collected scans have no sequences: the scans of each hour (UTC) count as one. If many vehicles share an hour, hours "
        "differ less than training sequences do, so a weak shift is missed rather than a false one reported",
    ]
    if collected.bad:
        notes.append(f"{counted(len(collected.bad), 'line')} could not be used; the first is {collected.bad[0]}")
    if collected.unfinished:
        notes.append(f"the last line of {counted(len(collected.unfinished), 'file')} was still being written")
    return notes
