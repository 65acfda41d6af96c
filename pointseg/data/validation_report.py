"""What a validation found, as tables, as JSON and as a page."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pointseg.data.checking import LEVELS, Finding
from pointseg.files import write_text
from pointseg.labels import LabelMap
from pointseg.words import counted, duration

__all__ = ["FileRow", "SequenceRow", "ValidationReport"]

FORMAT = 1


@dataclass(frozen=True)
class FileRow:
    """One file.

    Attributes:
        path: below the data set's folder, as the manifest names it.
        sequence: its sequence.
        kind: "scan", "labels", "poses", "calib" or "times".
        bytes: its size.
        records: points or labels; None for text files, or if the size cannot be right.
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
    """One sequence: scans, their points, how many have a label file, scans of the full data set, errors."""

    name: str
    scans: int
    points: int
    labelled: int
    expected: int | None
    errors: int


@dataclass(frozen=True)
class ValidationReport:
    """What `validate` found.

    Attributes:
        root: the data set's folder, as it was given.
        label_map, columns: what the files were read with.
        files, sequences: tables.
        findings: errors first.
        scan_counts: "SEQUENCE/FRAME" -> points by training id, K + 1 of them, 0 = ignored; of frames with good labels.
        with_manifest: whether the files were compared with a manifest.
        seconds: how long it took.
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
        """Whether there is no error; warnings and notes may be there."""
        return not any(finding.is_error for finding in self.findings)

    @property
    def scans(self) -> int:
        return sum(row.scans for row in self.sequences)

    @property
    def points(self) -> int:
        return sum(row.points for row in self.sequences)

    def count(self, level: str) -> int:
        """Findings of one level."""
        return sum(finding.level == level for finding in self.findings)

    @property
    def summary(self) -> str:
        """One sentence.

        Example:
            >>> report.summary
            '42 scans with 5,197,859 points: no errors, 11 notes (1 s)'
        """
        what = [counted(self.count(level), level) for level in LEVELS if level == "error" or self.count(level)]
        what[0] = what[0] if self.count("error") else "no errors"
        took = duration(max(self.seconds, 1))
        return f"{counted(self.scans, 'scan')} with {counted(self.points, 'point')}: {', '.join(what)} ({took})"

    def to_dict(self) -> dict[str, Any]:
        """Plain values: what `validation.json` holds."""
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

    def write(self, folder: str | Path) -> list[Path]:
        """Write `validation.json` and `validation.html`, each whole or not at all.

        Raises:
            OutputError: if they cannot be written.
        """
        from pointseg.report.validation_page import validation_page

        paths = [Path(folder) / "validation.json", Path(folder) / "validation.html"]
        write_text(paths[0], _lines(self.to_dict()))
        write_text(paths[1], validation_page(self))
        return paths


def _lines(content: dict[str, Any]) -> str:
    """JSON with a line for each row of a table: a hundred thousand files stay readable and small."""
    parts = []
    for key, value in content.items():
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
