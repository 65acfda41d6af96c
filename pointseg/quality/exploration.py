"""What a data set holds: classes, distances and heights of points, classes of scans, and some scans to look at.

    >>> from pointseg.quality.exploration import explore
    >>> found = explore(SemanticKITTIScans(root, None, labelled=None), LabelMap.load("semantickitti"))
    >>> show(found)  # pages.exploration_page: the page in a notebook; elsewhere write_exploration(found, DIR)

Legend: S scans, K classes. Arrays by class have K + 2 columns: 0 for ignored points, 1..K for the classes, and K + 1 for
the points of scans without labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Update
from pointseg.data.semantickitti import OFFICIAL_SPLIT
from pointseg.data.sources import ScanSource, in_order
from pointseg.data.store.reader import PackedScans
from pointseg.engine.losses import CLASS_WEIGHTINGS, class_weights
from pointseg.quality.exploration_counts import (
    HEIGHT_STEP,
    RANGE_BINS,
    RANGE_STEP,
    Counter,
    Sample,
    choose_scans,
    index_counts,
    part_centres,
    scans_by_sequence,
)

__all__ = ["Exploration", "PointCounts", "explore"]

MOST = 3  # scans named for each class
OTHER = "other"  # the split of a sequence that has none


@dataclass(frozen=True)
class PointCounts:
    """The size of a group of scans.

    Attributes:
        scans, labelled_scans, points: how many.
        counts: (K + 2,) int64 points by class.
    """

    scans: int
    labelled_scans: int
    points: int
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Exploration:
    """The result of `explore`.

    Attributes:
        names: (S) "SEQUENCE/FRAME".
        split_of: sequence -> split, for every sequence.
        labelled: (S,) whether a scan has labels.
        scan_counts: (S, K + 2) int64 points by class.
        scans_looked_at: how many scans the next four come from: all, unless the source is a large packed store.
        range_counts: (17, K + 2) points by distance to the sensor in steps of 5 m; the last bin has no upper end.
        height_from: (H,) lower edges of the height bins, metres above the sensor; each is 0.5 m high.
        height_counts: (H, K + 2) points by height.
        remission_sums: (K + 2,) sum of remission by class.
        samples: scans evenly chosen from the sequences.
    """

    label_map: LabelMap
    names: Sequence[str]
    split_of: Mapping[str, str]
    labelled: NDArray[np.bool_]
    scan_counts: NDArray[np.int64]
    scans_looked_at: int
    range_counts: NDArray[np.int64]
    height_from: NDArray[np.float64]
    height_counts: NDArray[np.int64]
    remission_sums: NDArray[np.float64]
    samples: Sequence[Sample] = field(repr=False)

    @property
    def total(self) -> PointCounts:
        """All scans together."""
        return self._counted(range(len(self.names)))

    @property
    def sequences(self) -> dict[str, PointCounts]:
        """By sequence, in the order of the source."""
        return {sequence: self._counted(scans) for sequence, scans in scans_by_sequence(self.names).items()}

    @property
    def splits(self) -> dict[str, PointCounts]:
        """By split: train, val, test, then others."""
        groups: dict[str, list[int]] = {}
        for sequence, scans in scans_by_sequence(self.names).items():
            groups.setdefault(self.split_of[sequence], []).extend(scans)
        order = [*(split for split in OFFICIAL_SPLIT if split in groups), *groups]
        return {split: self._counted(groups[split]) for split in dict.fromkeys(order)}

    def _counted(self, scans: Sequence[int]) -> PointCounts:
        chosen = np.array(scans)
        counts = self.scan_counts[chosen].sum(axis=0)
        return PointCounts(len(chosen), int(self.labelled[chosen].sum()), int(counts.sum()), counts)

    @property
    def points_per_scan(self) -> tuple[int, float, int]:
        """Least, median and most."""
        lengths = self.scan_counts.sum(axis=1)
        return int(lengths.min()), float(np.median(lengths)), int(lengths.max())

    @property
    def mean_remission(self) -> NDArray[np.float64]:
        """(K + 2,) by class, in the scans that were read; NaN without points."""
        counts = self.range_counts.sum(axis=0)
        return np.divide(self.remission_sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)

    @property
    def scans_with(self) -> NDArray[np.int64]:
        """(K + 2,) how many scans contain a class."""
        return (self.scan_counts > 0).sum(axis=0)

    def most(self, train_id: int, count: int = MOST) -> list[tuple[str, int]]:
        """The scans with the most points of a class, as (name, points)."""
        points = self.scan_counts[:, train_id]
        order = np.argsort(-points, kind="stable")[:count]
        return [(self.names[scan], int(points[scan])) for scan in order if points[scan]]

    @property
    def weights_of(self) -> str:
        """Whose counts the class weights come from: "train", or "all" if the training split has no labels."""
        train = self.splits.get("train")
        return "train" if train is not None and train.counts[1:-1].any() else "all"

    @property
    def class_weights(self) -> dict[str, NDArray[np.float32]]:
        """Weighting -> (K,) weights of `pointseg.engine.losses.class_weights`; empty if no point has a class."""
        counts = (self.splits["train"] if self.weights_of == "train" else self.total).counts[1:-1]
        return {weighting: class_weights(counts, weighting) for weighting in CLASS_WEIGHTINGS} if counts.any() else {}

    def to_dict(self) -> dict[str, Any]:
        """The content of `exploration.json`; samples are only named."""
        names = self.label_map.class_names
        least, median, most = self.points_per_scan
        labelled, containing = self.total.labelled_scans, self.scans_with
        remission = [None if np.isnan(mean) else round(float(mean), 6) for mean in self.mean_remission]
        mean = round(float(self.remission_sums.sum() / max(self.range_counts.sum(), 1)), 6)

        def by_class(counts: NDArray[np.int64]) -> dict[str, Any]:
            columns = counts.T.tolist()
            return {
                "points_by_class": dict(zip(names, columns[1:-1], strict=True)),
                "ignored_points": columns[0],
                "unlabelled_points": columns[-1],
            }

        def summary(group: PointCounts) -> dict[str, Any]:
            sizes = {"scans": group.scans, "labelled_scans": group.labelled_scans, "points": group.points}
            return {**sizes, **by_class(group.counts)}

        return {
            "label_map": self.label_map.name,
            **summary(self.total),
            "scans_looked_at": self.scans_looked_at,
            "points_per_scan": {"min": least, "median": median, "max": most},
            "splits": {split: summary(group) for split, group in self.splits.items()},
            "sequences": {
                sequence: {"split": self.split_of[sequence], **summary(group)}
                for sequence, group in self.sequences.items()
            },
            "range": {"from_m": [RANGE_STEP * i for i in range(RANGE_BINS)], **by_class(self.range_counts)},
            "height": {"from_m": self.height_from.tolist(), **by_class(self.height_counts)},
            "mean_remission": {"by_class": dict(zip(names, remission[1:-1], strict=True)), "all": mean},
            "content": {
                name: {
                    "scans": int(containing[train_id]),
                    "share_of_labelled_scans": round(float(containing[train_id]) / labelled, 6) if labelled else None,
                    "most": [{"scan": scan, "points": points} for scan, points in self.most(train_id)],
                }
                for train_id, name in enumerate(names, start=1)
            },
            "class_weights_of": self.weights_of,
            "class_weights": {
                weighting: {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)}
                for weighting, weights in self.class_weights.items()
            },
            "samples": [sample.name for sample in self.samples],
        }


def explore(
    source: ScanSource,
    label_map: LabelMap,
    *,
    split_of: Mapping[str, str] | None = None,
    samples: int = 6,
    progress: Update | None = None,
    threads: int = 2,
    geometry_scans: int = 500,
) -> Exploration:
    """Read every scan of a source once, labelled or not.

    The index of a packed store holds the class counts, so only some scans of a large store are read, for distances, heights
    and remission. `Exploration.scans_looked_at` says how many.

    Args:
        split_of: sequence -> split; None for SemanticKITTI's official one. Sequences that it lacks are in "other".
        samples: how many scans to keep for the contact sheet, evenly chosen from the sequences, labelled ones first.
        threads: how many threads read scans.
        geometry_scans: at most so many scans of a packed store are read.

    Raises:
        DataError: if there is no scan, a file cannot be used, or a store was packed with another label map.
        LabelMapError: for a raw id that the map lacks.
        ConfigError: for a number that is too small.

    Example:
        >>> explore(PackedScans(PackedStore("packed")), LabelMap.load("semantickitti")).write("exploration")
    """
    for key, value, least in (("samples", samples, 0), ("threads", threads, 1), ("geometry_scans", geometry_scans, 1)):
        if value < least:
            raise ConfigError(f"{value} is less than {least}", where=key)
    if len(source) == 0:
        raise DataError("there is no scan to explore", where="source", remedy="Name sequences that have scans.")
    known = index_counts(source, label_map) if isinstance(source, PackedScans) else None
    numbers = np.arange(len(source)) if known is None else part_centres(len(source), geometry_scans)
    counter = Counter(source, label_map)
    for done, counted in enumerate(in_order(lambda i: counter.count(int(numbers[i])), len(numbers), threads), start=1):
        counter.add(counted)
        if progress:
            progress(done, len(numbers))
    labelled, counts = known or (counter.labelled, counter.scan_counts)
    if split_of is None:
        split_of = {sequence: split for split, members in OFFICIAL_SPLIT.items() for sequence in members}
    occupied = np.flatnonzero(counter.heights.any(axis=1))
    heights = np.arange(occupied[0], occupied[-1] + 1) if len(occupied) else occupied
    return Exploration(
        label_map=label_map,
        names=list(source.names),
        split_of={name: split_of.get(name, OTHER) for name in scans_by_sequence(source.names)},
        labelled=labelled,
        scan_counts=counts,
        scans_looked_at=len(numbers),
        range_counts=counter.ranges,
        height_from=HEIGHT_STEP * (heights - len(counter.heights) // 2).astype(np.float64),
        height_counts=counter.heights[heights],
        remission_sums=counter.remission,
        samples=[counter.sample(number) for number in choose_scans(source.names, labelled, samples)],
    )
