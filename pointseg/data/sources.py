"""Sources of scans: anything with a length that gives a `Scan` by number, and what a pass over all of them finds."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Update
from pointseg.data.scan import Scan

__all__ = ["DataSummary", "ResidentScans", "ScanSource", "in_order", "inspect", "missing_sequence"]


class ScanSource(Protocol):
    """Scans by number. `names[i]` is "SEQUENCE/FRAME", unique within the source; `expected_points` is an estimate of the
    number of points of all scans, made without reading them."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def expected_points(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Scan: ...


class ResidentScans:
    """The scans of another source, read once and kept in memory.

    Example:
        >>> street = ResidentScans(SyntheticScans(scans=8, seed=0))
    """

    def __init__(self, source: ScanSource, progress: Update | None = None) -> None:
        self.names = list(source.names)
        self._scans: list[Scan] = []
        for index in range(len(source)):
            self._scans.append(source[index])
            if progress:
                progress(index + 1, len(source))

    @property
    def expected_points(self) -> int:
        return sum(len(scan.points) for scan in self._scans)

    def __len__(self) -> int:
        return len(self._scans)

    def __getitem__(self, index: int) -> Scan:
        return self._scans[index]


@dataclass(frozen=True)
class DataSummary:
    """What a pass over all scans of a source finds.

    Attributes:
        scans, points: how many.
        class_counts: (K + 1,) int64 points by training id, 0 = ignored.
        remission_mean: over all points, in [0, 1].
        out_of_domain: name of the first scan whose remission leaves [0, 1], or None.
        scan_counts: (scans, K + 1) int64, the same for each scan.
    """

    scans: int
    points: int
    class_counts: NDArray[np.int64]
    remission_mean: float
    out_of_domain: str | None
    scan_counts: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: Sequence[DataSummary]) -> DataSummary:
        """Of the scans of all parts, one after the other."""
        points = sum(part.points for part in parts)
        return cls(
            sum(part.scans for part in parts),
            points,
            np.sum([part.class_counts for part in parts], axis=0),
            sum(part.remission_mean * part.points for part in parts) / max(points, 1),
            next((part.out_of_domain for part in parts if part.out_of_domain is not None), None),
            np.concatenate([part.scan_counts for part in parts]),
        )

    @property
    def lengths(self) -> list[int]:
        """Points of each scan."""
        lengths: list[int] = self.scan_counts.sum(axis=1).tolist()
        return lengths

    @property
    def fingerprint(self) -> str:
        """SHA-256 of each scan's points by class, in order: the same for raw files and a store of them, different for other
        scans or labels."""
        return hashlib.sha256(np.ascontiguousarray(self.scan_counts, "<i8").tobytes()).hexdigest()

    def to_dict(self, label_map: LabelMap) -> dict[str, Any]:
        """Plain values for tracking and bundles."""
        return {
            "scans": self.scans,
            "points": self.points,
            "remission_mean": round(self.remission_mean, 6),
            "label_map": label_map.name,
            "ignored_points": int(self.class_counts[0]),
            "sha256": self.fingerprint,
            "points_by_class": dict(zip(label_map.class_names, map(int, self.class_counts[1:]), strict=True)),
        }


def inspect(
    source: ScanSource, label_map: LabelMap, *, threads: int = 4, progress: Update | None = None
) -> DataSummary:
    """Read every scan once: each must be whole and finite, its labels must fit and be known.

    Raises:
        DataError, LabelMapError: for the first file, in order, that cannot be used.

    Example:
        >>> inspect(SemanticKITTIScans(root, [8]), LabelMap.load("semantickitti")).points
    """

    def count(index: int) -> tuple[NDArray[np.int64], float, bool]:
        scan = source[index]
        train_ids = scan.train_ids(label_map)
        remission = scan.points[:, 3]
        counts = np.bincount(train_ids, minlength=label_map.num_classes + 1).astype(np.int64)
        return counts, float(remission.sum(dtype=np.float64)), bool(remission.min() < 0 or remission.max() > 1)

    scan_counts = np.zeros((len(source), label_map.num_classes + 1), np.int64)
    remission_sum, out_of_domain = 0.0, None
    for index, (counts, scan_remission, outside) in enumerate(in_order(count, len(source), threads)):
        scan_counts[index] = counts
        remission_sum += scan_remission
        if outside and out_of_domain is None:
            out_of_domain = source.names[index]
        if progress:
            progress(index + 1, len(source))
    counts = scan_counts.sum(axis=0)
    points = int(counts.sum())
    return DataSummary(len(source), points, counts, remission_sum / max(points, 1), out_of_domain, scan_counts)


def missing_sequence(sequence: str, present: Sequence[str], where: object) -> DataError:
    """The error about a sequence that is not in the data."""
    return DataError(
        f"sequence {sequence} is missing",
        where=where,
        remedy=f"The folder has {', '.join(present)}; choose with data.split.train=[..] and data.split.val=[..].",
    )


def in_order(read: Callable[[int], Any], count: int, threads: int = 4) -> Iterator[Any]:
    """Results of `read(0..count-1)` in order, made by threads; few are in flight, so that an error stops the reading."""
    window = threads * 8
    with ThreadPoolExecutor(max_workers=max(threads, 1)) as pool:
        for start in range(0, count, window):
            yield from pool.map(read, range(start, min(start + window, count)))
