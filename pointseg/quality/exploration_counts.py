"""Count the points of scans by class, distance and height, and choose scans evenly: what `quality.exploration` is made of.

Legend: N points of a scan, S scans, K classes. Arrays by class have K + 2 columns: ignored, the classes, and the points of
scans without labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.data.scan import Scan
from pointseg.data.sources import ScanSource
from pointseg.data.store.reader import PackedScans

__all__ = [
    "HEIGHT_STEP",
    "RANGE_BINS",
    "RANGE_STEP",
    "Counter",
    "Sample",
    "choose_scans",
    "index_counts",
    "part_centres",
    "scans_by_sequence",
    "sequence_of",
]

RANGE_STEP, RANGE_BINS = 5.0, 17  # metres; the last bin has no upper end
HEIGHT_STEP, HEIGHT_BINS = 0.5, 400  # metres; the bins are centred on 0, and the outermost count what lies beyond


@dataclass(frozen=True)
class Sample:
    """A scan to look at.

    Attributes:
        name: "SEQUENCE/FRAME".
        points: (N, 4) float32: x, y, z in metres, remission.
        train_ids: (N,) uint8, 0 = ignored; None where there are no labels.
    """

    name: str
    points: NDArray[np.float32]
    train_ids: NDArray[np.uint8] | None


@dataclass(frozen=True)
class _Counted:
    """One scan: ranges (17, K + 2), heights (400, K + 2) points; remission (K + 2,) sums."""

    scan: int
    labelled: bool
    ranges: NDArray[np.int64]
    heights: NDArray[np.int64]
    remission: NDArray[np.float64]


class Counter:
    """Counts scans: `count` one in any thread, and `add` the results in one thread.

    Attributes:
        labelled: (S,) whether a scan has labels.
        scan_counts: (S, K + 2) points by class.
        ranges: (17, K + 2) points by distance to the sensor.
        heights: (400, K + 2) points by z.
        remission: (K + 2,) sums.
    """

    def __init__(self, source: ScanSource, label_map: LabelMap) -> None:
        self.source, self.label_map, self.columns = source, label_map, label_map.num_classes + 2
        self.labelled = np.zeros(len(source), np.bool_)
        self.scan_counts = np.zeros((len(source), self.columns), np.int64)
        self.ranges = np.zeros((RANGE_BINS, self.columns), np.int64)
        self.heights = np.zeros((HEIGHT_BINS, self.columns), np.int64)
        self.remission = np.zeros(self.columns)

    def count(self, number: int) -> _Counted:
        """Read a scan and count its points."""
        sample = self.sample(number)
        by_class = np.full(len(sample.points), self.columns - 1) if sample.train_ids is None else sample.train_ids
        xyz = sample.points[:, :3].astype(np.float64)
        distances = np.minimum(np.sqrt(np.einsum("ij,ij->i", xyz, xyz)) / RANGE_STEP, RANGE_BINS - 1).astype(np.int64)
        heights = np.floor(xyz[:, 2] / HEIGHT_STEP) + HEIGHT_BINS // 2
        heights = heights.clip(0, HEIGHT_BINS - 1).astype(np.int64)

        def table(bins: NDArray[np.int64], count: int) -> NDArray[np.int64]:
            flat = np.bincount(bins * self.columns + by_class, minlength=count * self.columns)
            return flat.reshape(count, self.columns)

        remission = np.bincount(by_class, weights=sample.points[:, 3], minlength=self.columns).astype(np.float64)
        labelled = sample.train_ids is not None
        return _Counted(number, labelled, table(distances, RANGE_BINS), table(heights, HEIGHT_BINS), remission)

    def add(self, counted: _Counted) -> None:
        """Add a result of `count`."""
        self.labelled[counted.scan] = counted.labelled
        self.scan_counts[counted.scan] = counted.ranges.sum(axis=0)
        self.ranges += counted.ranges
        self.heights += counted.heights
        self.remission += counted.remission

    def sample(self, number: int) -> Sample:
        """Read a scan."""
        scan: Scan = self.source[number]
        labels = None if scan.labels is None else self.label_map.to_train(scan.labels, where=scan.labels_source)
        return Sample(self.source.names[number], scan.points, labels)


def index_counts(source: PackedScans, label_map: LabelMap) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """What a store's index knows without reading a scan: (S,) labelled, (S, K + 2) points by class.

    Raises:
        DataError: if the store was packed with another label map.
    """
    index, rows = source.store.index, source.numbers
    labelled = index.labelled[rows]
    if labelled.any():
        source.store.require_labels(label_map)
    counts = np.zeros((len(rows), label_map.num_classes + 2), np.int64)
    counts[labelled, :-1] = index.class_counts[rows[labelled]]
    counts[~labelled, -1] = index.points[rows[~labelled]]
    return labelled, counts


def sequence_of(name: str) -> str:
    """08/000123 -> 08"""
    return name.rpartition("/")[0]


def scans_by_sequence(names: Sequence[str]) -> dict[str, list[int]]:
    """Sequence -> the indices of its scans, both in the order of the names."""
    groups: dict[str, list[int]] = {}
    for scan, name in enumerate(names):
        groups.setdefault(sequence_of(name), []).append(scan)
    return groups


def part_centres(count: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` of 0 .. count - 1, at the centres of equal parts, ascending."""
    wanted = min(wanted, count)
    return ((2 * np.arange(wanted) + 1) * count) // max(2 * wanted, 1)


def choose_scans(names: Sequence[str], labelled: NDArray[np.bool_], wanted: int) -> list[int]:
    """Scans evenly chosen from the sequences and within each; unlabelled ones only if no scan has labels."""
    usable = [scan for scan in range(len(names)) if labelled[scan] or not labelled.any()]
    members = [[usable[i] for i in group] for group in scans_by_sequence([names[i] for i in usable]).values()]
    sizes = np.array([len(scans) for scans in members], np.int64)
    share = np.zeros_like(sizes)
    while (left := min(wanted, int(sizes.sum())) - int(share.sum())) > 0:
        not_full = np.flatnonzero(share < sizes)
        share[not_full[part_centres(len(not_full), left)]] += 1
    return [scans[i] for scans, count in zip(members, share, strict=True) for i in part_centres(len(scans), int(count))]
