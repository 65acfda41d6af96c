"""Records of scans that a service has labelled, as they were collected: folders of JSONL files, and their statistics.

Both layouts are read: one record a line, as `pointseg.serving.collection` writes them, and the lines of Azure ML's data
collector, events whose `data` is a list of records. In both, files may lie below YYYY/MM/DD/HH.

A stream has no sequences. Frames of one drive are nearly alike and come one after another, so the scans of one clock hour
(UTC) stand for a sequence.
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

from pointseg.data.input_quantities import QUANTITIES, class_kind
from pointseg.data.scan_record import MARK, ScanRecord, parse_record
from pointseg.data.sources import Progress
from pointseg.data.statistics import SCANS, SEQUENCES, InputStatistics, measure_vectors
from pointseg.errors import DataError
from pointseg.files import expanded, is_file, is_folder
from pointseg.labels import LabelMap
from pointseg.words import counted

__all__ = ["BadLine", "CollectedScans", "is_collected", "measure_collected", "what_was_read"]

ENDINGS = (".jsonl", ".json", ".ndjson", "")
LOOKED_AT = 50  # lines of a file, and files, until one says what the folder holds
LONGEST_LINE = 64 << 20  # bytes; Azure puts the records of several requests into one line
HOUR = re.compile(r"(\d{4})/(\d{2})/(\d{2})/(\d{2})(?:/|$)")
SLACK = timedelta(hours=2)  # a record may come into the folder of a later hour


@dataclass(frozen=True)
class BadLine:
    """A line that is no record: where, and why."""

    path: Path
    number: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.number}: {self.reason}"


@dataclass(frozen=True)
class _Place:
    """Where a record stands: the file's number, the line's first byte, and the record's number within the line."""

    time: datetime
    file: int
    offset: int
    within: int


class CollectedScans:
    """The records of a folder, or of one file, in the order of time.

    Args:
        root: the folder.
        since: the first time that counts; None: from the beginning.
        until: the first time that does not count any more; None: to the end.

    Attributes:
        names: "HOUR/NUMBER" of each record.
        bad: lines that are no records; the others are used.
        unfinished: files whose last line is still being written.
        models: records by the model that labelled them.

    Raises:
        DataError: if no record lies within the time, or a file cannot be read.

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
        places: list[_Place] = []
        for number, path in enumerate(self._files):
            for offset, within, record in self._records(path):
                if (since and record.time < since) or (until and record.time >= until):
                    self.outside += 1
                    continue
                self.models[record.model] += 1
                places.append(_Place(record.time, number, offset, within))
        if not places:
            raise self._nothing(since, until)
        self._places = sorted(places, key=lambda place: place.time)  # of two at one time, the one read first
        self.first, self.last = self._places[0].time, self._places[-1].time
        self.names = [
            f"{place.time.astimezone(UTC):%Y-%m-%dT%H}/{number:06d}" for number, place in enumerate(self._places)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> ScanRecord:
        """Read again from its file: a month of records need not fit into memory.

        Raises:
            DataError: if the file has changed.
        """
        place = self._places[index]
        path = self._files[place.file]
        try:
            with open(path, "rb") as stream:
                stream.seek(place.offset)
                return parse_record(_rows(json.loads(stream.readline()))[place.within])
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
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n") and not isinstance(error, _Foreign):
                self.unfinished.append(path)
            else:
                reason = str(error) if isinstance(error, _Foreign) else "no JSON"
                self.bad.append(BadLine(path, number, reason))
            return
        for within, row in enumerate(rows):
            try:
                yield offset, within, parse_record(row)
            except ValueError as error:
                self.bad.append(BadLine(path, number, str(error)))

    def _nothing(self, since: datetime | None, until: datetime | None) -> DataError:
        if self.outside or len(self._files) < len(_files(self.root)):
            span = " ".join(f"{word} {time.isoformat()}" for word, time in (("from", since), ("until", until)) if time)
            return DataError(
                f"no scan was collected in the time asked for ({span})",
                where=self.root,
                remedy="Look whether the service runs and collects, or ask for a longer time.",
            )
        said = f"; {self.bad[0]}" if self.bad else ""
        return DataError(
            f"no line is a record of a scan{said}", where=self.root, remedy="Name what a service collected."
        )


class _Foreign(ValueError):
    """Well-formed, and of something else."""


def _rows(content: Any) -> list[Any]:
    """The records of a line: itself, or those of an event of Azure's."""
    if isinstance(content, dict) and MARK not in content and "data" in content:
        if not isinstance(content["data"], list):
            raise _Foreign(f"no records, but an event of the kind {str(content.get('type'))[:60]}")
        return content["data"]
    return [content]


def is_collected(root: str | Path) -> bool:
    """Whether a folder or file holds collected scans, judged by what stands in its files.

    Example:
        >>> is_collected("collected"), is_collected("semantickitti")
        (True, False)
    """
    return any(_holds_record(path) for path in _files(expanded(root))[:LOOKED_AT])


def _holds_record(path: Path) -> bool:
    try:
        with open(path, "rb") as stream:
            for _ in range(LOOKED_AT):
                line = stream.readline(LONGEST_LINE)
                if not line or (not line.lstrip().startswith(b"{") and line.strip()):
                    return False
                try:
                    rows = _rows(json.loads(line)) if line.strip() else []
                except (ValueError, RecursionError):
                    continue
                if any(isinstance(row, dict) and MARK in row for row in rows):
                    return True
    except OSError:
        pass
    return False


def _files(root: Path) -> list[Path]:
    if is_file(root):
        return [root]
    if not is_folder(root):
        return []
    found = [path for path in sorted(root.rglob("*")) if path.suffix.lower() in ENDINGS]
    return [
        path
        for path in found
        if not any(part.startswith(".") for part in path.relative_to(root).parts) and is_file(path)
    ]


def _may_hold(path: Path, since: datetime | None, until: datetime | None) -> bool:
    """Whether a file can hold records of the time, by the hour that its folder is called after."""
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
    progress: Progress | None = None,
) -> InputStatistics:
    """`pointseg.data.statistics.measure` of collected scans, each hour as a sequence: what it would find in the scans.

    Args:
        collected: the records.
        scans, sequences: as for `measure`.
        label_map: where given, the shares of the predicted classes are a quantity as well.

    Example:
        >>> compare(measure_collected(CollectedScans("collected")), training).verdict
        'like the training data'
    """
    kinds = dict(QUANTITIES)
    if label_map is not None:
        kinds["predicted classes"] = class_kind(label_map)

    def vectors_of(number: int) -> dict[str, Any]:
        record = collected[number]
        found: dict[str, Any] = record.vectors()
        shares = None if label_map is None else record.class_shares(label_map)
        return found if shares is None else {**found, "predicted classes": shares}

    return measure_vectors(collected.names, vectors_of, kinds, scans=scans, sequences=sequences, progress=progress)


def what_was_read(collected: CollectedScans) -> list[str]:
    """What a reader of the report has to know, as sentences without a full stop."""
    span = f"{collected.first:%Y-%m-%d %H:%M} to {collected.last:%Y-%m-%d %H:%M} UTC"
    models = ", ".join(f"{name} ({counted(n, 'scan')})" for name, n in collected.models.most_common(5))
    notes = [
        f"these are {counted(len(collected), 'collected scan')}, {span}, labelled by {models}",
        "collected scans have no sequences: the scans of each hour (UTC) count as one. Where many vehicles share an hour, "
        "hours differ less than the training's sequences do, and a weak shift is missed rather than a false one named",
    ]
    if collected.bad:
        notes.append(f"{counted(len(collected.bad), 'line')} could not be used; the first is {collected.bad[0]}")
    if collected.unfinished:
        notes.append(f"the last line of {counted(len(collected.unfinished), 'file')} was still being written")
    return notes
