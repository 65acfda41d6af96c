"""Checks a scan by reading it; it reports findings instead of raising the first error, so that all are listed.

The readers refuse what cannot be used. Beyond that, values that no working sensor gives are errors, and unusual ones are
warnings. What bare files cannot show (a flipped low bit, two whole scans swapped) only a manifest or a store can.

Legend: N points.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import PointsegError
from pointseg.core.labels import LabelMap
from pointseg.core.limits import require_positive
from pointseg.data.checks.findings import Finding, finding_of
from pointseg.data.checks.value_checks import (
    as_other_type,
    look_at_coordinates,
    look_at_remission,
    unlabelled_instances,
)
from pointseg.data.scan import COLUMNS, Scan
from pointseg.data.sources import ScanSource

__all__ = ["ScanCheck"]


@dataclass(frozen=True)
class ScanCheck:
    """Checks the values of one scan.

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
        require_positive(self.max_range, "check.max_range")
        require_positive(self.max_height, "check.max_height")

    def read(self, source: ScanSource, number: int) -> tuple[Scan | None, list[Finding]]:
        """The scan, or None if it cannot be read, and its findings."""
        try:
            scan = source[number]
        except PointsegError as error:
            columns = len(getattr(source, "columns", COLUMNS))
            return None, [self.refused(error, source.names[number], columns)]
        return scan, self.look(scan)

    def refused(self, error: PointsegError, where: object = None, columns: int = len(COLUMNS)) -> Finding:
        """A reader's error as a finding; values that are not finite may be numbers of another type."""
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
            path: the file, for messages; if it exists, it is read again when the values look like another number type.
            columns: number of columns in the file.
        """
        fault = look_at_coordinates(points, self.max_range, self.max_height)
        if fault is not None and fault.many and (other := self._other_type(path, columns)):
            return [self._wrong_type(path, other)]
        faults = [fault]
        if fault is None or fault.level != "error":  # one error a file: a damaged record often has all values wrong
            faults.append(look_at_remission(points))
        return [Finding(f.level, f.kind, path, f.what, f.remedy) for f in faults if f is not None]

    def look_at_labels(self, labels: NDArray[np.uint32], path: str) -> tuple[list[Finding], NDArray[np.int64] | None]:
        """What is wrong with raw labels (N,), and how many points each training id has, (K + 1,); None if unknown."""
        try:
            train_ids = self.label_map.to_train(labels, where=path)
        except PointsegError as error:
            if self._is_known(labels.byteswap()):
                return [self._wrong_type(path, "big-endian numbers")], None
            return [Finding("error", "unknown label", path, error.what, error.remedy)], None
        # instance ids without a class: the two halves of a label, or its bytes, are swapped
        if not train_ids.any() and (count := unlabelled_instances(labels)):
            if self._is_known(labels.byteswap()):
                return [self._wrong_type(path, "big-endian numbers")], None
            what = f"all points are unlabelled, yet {count} have an instance id: not 32-bit whole numbers"
            return [Finding("error", "wrong dtype", path, what, "Write labels as uint32, little-endian.")], None
        return [], np.bincount(train_ids, minlength=self.label_map.num_classes + 1).astype(np.int64)

    def _is_known(self, labels: NDArray[np.uint32]) -> bool:
        try:
            return bool(self.label_map.to_train(labels).any())
        except PointsegError:
            return False

    def _other_type(self, path: str, columns: int) -> str | None:
        return as_other_type(Path(path), columns, self.max_range, self.max_height)

    @staticmethod
    def _wrong_type(path: str, other: str) -> Finding:
        what = f"the values make no sense as they are read, but do as {other}"
        remedy = "Write the file again, little-endian: float32, labels uint32."
        return Finding("error", "wrong dtype", path, what, remedy)
