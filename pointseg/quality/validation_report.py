"""The result of a validation as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pointseg.core.labels import LabelMap
from pointseg.core.text import counted, duration
from pointseg.data.checks.findings import LEVELS, Finding

__all__ = ["FileRow", "SequenceRow", "ValidationReport"]

FORMAT = 1


@dataclass(frozen=True)
class FileRow:
    """A file.

    Attributes:
        path: below the data set's folder, as the manifest names it.
        kind: "scan", "labels", "poses", "calib" or "times".
        records: points or labels; None for text files, or if the size is wrong.
        ranges: of a scan, (lowest, highest) of x, y, z in metres and remission; None if it cannot be read.
        sha256: None if it cannot be read.
    """

    path: str
    sequence: str
    kind: str
    bytes: int
    records: int | None
    ranges: tuple[tuple[float, float], ...] | None
    sha256: str | None


@dataclass(frozen=True)
class SequenceRow:
    """A sequence: scans, their points, how many have a label file, scans of the full data set, errors."""

    name: str
    scans: int
    points: int
    labelled: int
    expected: int | None
    errors: int


@dataclass(frozen=True)
class ValidationReport:
    """The result of `validate`.

    Attributes:
        root: the data set's folder as given.
        label_map, columns: with which the files were read.
        findings: errors first.
        scan_counts: "SEQUENCE/FRAME" -> points by training id, K + 1 of them, 0 = ignored; of frames with good labels.
        with_manifest: whether the files were compared with a manifest.
    """

    root: str
    label_map: LabelMap
    columns: tuple[str, ...]
    files: list[FileRow] = field(repr=False)
    sequences: list[SequenceRow] = field(repr=False)
    findings: list[Finding]
    scan_counts: Mapping[str, list[int]] = field(repr=False)
    with_manifest: bool
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether there is no error, but perhaps warnings and notes."""
        return not any(finding.is_error for finding in self.findings)

    @property
    def scans(self) -> int:
        return sum(row.scans for row in self.sequences)

    @property
    def points(self) -> int:
        return sum(row.points for row in self.sequences)

    def count(self, level: str) -> int:
        """The number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def summary(self) -> str:
        """A sentence.

        Example:
            >>> report.summary
            '42 scans with 5,197,859 points: no errors, 11 notes (1 s)'
        """
        what = [counted(self.count(level), level) for level in LEVELS if level == "error" or self.count(level)]
        what[0] = what[0] if self.count("error") else "no errors"
        took = duration(max(self.seconds, 1))
        return f"{counted(self.scans, 'scan')} with {counted(self.points, 'point')}: {', '.join(what)} ({took})"

    def to_dict(self) -> dict[str, Any]:
        """The content of `validation.json`."""
        return {
            "format": FORMAT,
            "root": self.root,
            "ok": self.ok,
            "summary": self.summary,
            "seconds": round(self.seconds, 3),
            "label_map": self.label_map.name,
            "label_map_hash": self.label_map.hash,
            "columns": list(self.columns),
            "with_manifest": self.with_manifest,
            "sequences": [asdict(row) for row in self.sequences],
            "findings": [finding.to_dict() for finding in self.findings],
            "class_names": list(self.label_map.class_names),
            "scan_counts": {name: list(counts) for name, counts in self.scan_counts.items()},
            "files": [asdict(row) for row in self.files],
        }

    def to_json(self) -> str:
        """The text of `validation.json`, with a line for each row of a table: readable and small for many files."""
        parts = []
        for key, value in self.to_dict().items():
            if isinstance(value, list) and value and isinstance(value[0], dict):
                rows = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in value)
                text = f"[\n{rows}\n ]"
            elif isinstance(value, dict) and value:
                rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in value.items())
                text = f"{{\n{rows}\n }}"
            else:
                text = json.dumps(value, ensure_ascii=False)
            parts.append(f" {json.dumps(key)}: {text}")
        return "{\n" + ",\n".join(parts) + "\n}\n"
