"""What can be wrong with a scan, found by reading it: findings instead of an exception, so that all are listed.

The readers refuse what cannot be used; beyond that, values that no working sensor gives are errors, and what is unusual is
a warning. What bare files cannot show (a flipped low bit, two whole scans swapped) only a manifest or a store can.

Legend: N points.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.data.scan import COLUMNS, Scan
from pointseg.data.sources import ScanSource
from pointseg.data.values import as_other_type, look_at_coordinates, look_at_remission, unlabelled_instances
from pointseg.errors import ConfigError, PointsegError
from pointseg.labels import LabelMap

__all__ = ["LEVELS", "Finding", "ScanCheck", "finding_lines", "finding_of", "shown"]

LEVELS = ("error", "warning", "note")


def shown(path: object) -> str:
    """A path as text that can be printed and written anywhere: bytes that are no UTF-8 and control characters escaped.

    Example:
        >>> shown(b"0000\\xff\\n.bin")
        '0000\\\\xff\\\\n.bin'
    """
    raw = os.fsencode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path).encode()
    text = raw.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or unusual.

    Attributes:
        level: "error" (the file cannot be used), "warning" or "note".
        kind: a short name, the same for the same kind of fault.
        file: the file or folder it is about.
        what: what is wrong.
        remedy: what to do.
        or_file: the other file of a pair that does not fit, where that one may be at fault instead.
    """

    level: str
    kind: str
    file: str
    what: str
    remedy: str = ""
    or_file: str = ""

    def __post_init__(self) -> None:
        for key in ("file", "what", "or_file"):
            object.__setattr__(self, key, shown(getattr(self, key)))

    @property
    def is_error(self) -> bool:
        return self.level == "error"

    def to_dict(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.level}: {self.what}: {self.file}." + (f" {self.remedy}" if self.remedy else "")


def finding_of(error: PointsegError, where: object = None) -> Finding:
    """An error as a finding; `where` is the file if the error names none."""
    place = where if error.where is None else error.where
    return Finding("error", _kind(error), shown(place), error.what, error.remedy)


def finding_lines(findings: Iterable[Finding], limit: int = 20) -> list[str]:
    """Lines for a terminal, errors first: at most `limit`, then how many more there are.

    Example:
        >>> finding_lines([Finding("error", "empty file", "000000.bin", "the point file is empty", "Copy it again.")])
        ['error: the point file is empty: 000000.bin. Copy it again.']
    """
    ordered = sorted(findings, key=lambda finding: LEVELS.index(finding.level))
    lines = [str(finding) for finding in ordered[:limit]]
    left = [finding.level for finding in ordered[limit:]]
    if left:
        counts = [f"{left.count(level):,} {level}{'s' if left.count(level) > 1 else ''}" for level in LEVELS]
        lines.append(f"and {', '.join(count for count in counts if not count.startswith('0 '))} more")
    return lines


@dataclass(frozen=True)
class ScanCheck:
    """Looks at the values of one scan.

    Args:
        label_map: that must know every raw id.
        max_range: the farthest a sensor sees, metres.
        max_height: the largest |z|, metres.

    Raises:
        ConfigError: for a limit that is not positive.

    Example:
        >>> scan, findings = ScanCheck(LabelMap.load("semantickitti")).read(source, 0)
    """

    label_map: LabelMap
    max_range: float = 250.0
    max_height: float = 60.0

    def __post_init__(self) -> None:
        for key in ("max_range", "max_height"):
            if not getattr(self, key) > 0:
                raise ConfigError(f"{getattr(self, key)} is not positive", where=f"check.{key}")

    def read(self, source: ScanSource, number: int) -> tuple[Scan | None, list[Finding]]:
        """The scan, or None if it cannot be read, and what was found."""
        try:
            scan = source[number]
        except PointsegError as error:
            columns = len(getattr(source, "columns", COLUMNS))
            return None, [self.refused(error, source.names[number], columns)]
        return scan, self.look(scan)

    def refused(self, error: PointsegError, where: object = None, columns: int = len(COLUMNS)) -> Finding:
        """What a reader refused, as a finding; values that are not finite may be numbers of another type."""
        finding = finding_of(error, where)
        if finding.kind == "not finite" and (other := self._other_type(str(error.where), columns)):
            return self._wrong_type(str(error.where), other)
        return finding

    def look(self, scan: Scan) -> list[Finding]:
        """What is wrong with the values of a scan."""
        columns = scan.points.shape[1] + (0 if scan.extra is None else scan.extra.shape[1])
        findings = self.look_at_points(scan.points, scan.path, columns)
        if scan.labels is not None:
            findings += self.look_at_labels(scan.labels, scan.labels_source)[0]
        return findings

    def look_at_points(self, points: NDArray[np.float32], path: str, columns: int = len(COLUMNS)) -> list[Finding]:
        """What is wrong with the points of a scan.

        Args:
            points: (N, 4) finite: x, y, z in metres, remission in [0, 1].
            path: the file, for messages; if it exists, it is read again where the values look like another number type.
            columns: of the file.
        """
        fault = look_at_coordinates(points, self.max_range, self.max_height)
        if fault is not None and fault.many and (other := self._other_type(path, columns)):
            return [self._wrong_type(path, other)]
        faults = [fault]
        if (
            fault is None or fault.level != "error"
        ):  # one error a file: a damaged record is often wrong in all its values
            faults.append(look_at_remission(points))
        return [Finding(f.level, f.kind, path, f.what, f.remedy) for f in faults if f is not None]

    def look_at_labels(self, labels: NDArray[np.uint32], path: str) -> tuple[list[Finding], NDArray[np.int64] | None]:
        """What is wrong with raw labels (N,), and how many points each training id has, (K + 1,); None if unknown."""
        try:
            train_ids = self.label_map.to_train(labels, where=path)
        except PointsegError as error:
            if self._makes_sense(labels.byteswap()):
                return [self._wrong_type(path, "big-endian numbers")], None
            return [Finding("error", "unknown label", path, error.what, error.remedy)], None
        # instance ids of nothing: the two halves of a label, or its bytes, have changed places
        if not train_ids.any() and (count := unlabelled_instances(labels)):
            if self._makes_sense(labels.byteswap()):
                return [self._wrong_type(path, "big-endian numbers")], None
            what = f"all points are unlabelled, yet {count} have an instance id: not 32-bit whole numbers"
            return [Finding("error", "wrong dtype", path, what, "Write labels as uint32, little-endian.")], None
        return [], np.bincount(train_ids, minlength=self.label_map.num_classes + 1).astype(np.int64)

    def _makes_sense(self, labels: NDArray[np.uint32]) -> bool:
        try:
            return bool(self.label_map.to_train(labels).any())
        except PointsegError:
            return False

    def _other_type(self, path: str, columns: int) -> str | None:
        return as_other_type(Path(path), columns, self.max_range, self.max_height)

    @staticmethod
    def _wrong_type(path: str, other: str) -> Finding:
        what = f"the values make no sense as they are read, but do as {other}"
        return Finding(
            "error", "wrong dtype", path, what, "Write the file again, little-endian: float32, labels uint32."
        )


def _kind(error: PointsegError) -> str:
    words = error.what.lower()
    for kind, words_of in (
        ("missing file", ("missing",)),
        ("not a file", ("folder where a file",)),
        ("empty file", ("empty",)),
        ("cut off", ("multiple",)),
        ("not finite", ("nan", "infinite")),
        ("label count", ("labels for",)),
    ):
        if any(word in words for word in words_of):
            return kind
    return "unreadable"
