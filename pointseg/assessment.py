"""Where a model is good and where it is not: scores by scan, by sequence and by distance, and how sure it is.

One pass over the scans collects confusion matrices; everything else follows from them. Legend: S scans, K classes,
R range bands, B confidence bins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointseg.data.sources import ScanSource
from pointseg.evaluation import ScoredScan, Shown, scored_scans, spread
from pointseg.labels import LabelMap
from pointseg.metrics import Scores, score
from pointseg.predictor import Predictor

__all__ = ["BANDS", "Assessment", "Reliability", "Worst", "assess", "band_names"]

BANDS = (10.0, 20.0, 30.0, 50.0)  # metres to the sensor where one band ends and the next begins
BINS = 15  # of confidence, as usual since Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


@dataclass(frozen=True)
class Reliability:
    """How often the model is right when it is that sure, over the labelled points.

    Attributes:
        points: (B,) int64 points whose confidence falls into each of B equal bins of (0, 1].
        right: (B,) int64, how many of them are right.
        confidence: (B,) float64, the sum of their confidence.
    """

    points: NDArray[np.int64]
    right: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, by points; 0 is perfect."""
        total = max(int(self.points.sum()), 1)
        return float(np.abs(self.right - self.confidence).sum() / total)


@dataclass(frozen=True)
class Worst:
    """A scan that is scored badly: its mIoU over the classes that occur in it, and what a picture needs."""

    miou_present: float
    scan: Shown


@dataclass(frozen=True)
class Assessment:
    """What one pass over the scans found.

    Attributes:
        label_map: of the data.
        names: "SEQUENCE/FRAME" of the S scans.
        confusions: (S, K + 1, K + 1) int64, rows truth, columns prediction.
        by_range: (R, K + 1, K + 1) int64, the same by distance to the sensor (`BANDS`).
        reliability: confidence against accuracy.
        shown: a few scans to look at, spread over the source.
        worst: the scans with the lowest mIoU over the classes that occur in them, the worst first.
    """

    label_map: LabelMap
    names: tuple[str, ...]
    confusions: NDArray[np.int64]
    by_range: NDArray[np.int64]
    reliability: Reliability
    shown: tuple[Shown, ...]
    worst: tuple[Worst, ...]

    @cached_property
    def scores(self) -> Scores:
        """Over all scans, the same that `evaluate` gives."""
        return score(self.confusions.sum(axis=0))

    @cached_property
    def sequences(self) -> dict[str, NDArray[np.int64]]:
        """Sequence -> the numbers of its scans."""
        found: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            found.setdefault(name.rpartition("/")[0] or name, []).append(index)
        return {sequence: np.array(found[sequence], np.int64) for sequence in sorted(found)}


def band_names(bands: tuple[float, ...] = BANDS) -> list[str]:
    """What the range bands are called.

    Example:
        >>> band_names((10.0, 20.0))
        ['0-10 m', '10-20 m', '20+ m']
    """
    edges = [f"{edge:g}" for edge in (0.0, *bands)]
    return [f"{low}-{high} m" for low, high in itertools.pairwise(edges)] + [f"{edges[-1]}+ m"]


def assess(
    predictor: Predictor,
    source: ScanSource,
    *,
    label_map: LabelMap | None = None,
    show: int = 3,
    worst: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Assessment:
    """Predict every scan of a source once and count what a report needs.

    Args:
        label_map: of the source's labels, where it is not the model's; its classes must mean the same.
        show: how many scans to keep for looking at, spread over the source.
        worst: how many of the worst scans to keep.

    Raises:
        CheckpointError: if the model has other classes.
        DataError: if there is no scan, or one without labels.

    Example:
        >>> assess(Predictor.load(run_folder), SemanticKITTIScans(root, ["08"])).reliability.error
    """
    label_map = label_map or predictor.label_map
    size = label_map.num_classes + 1
    confusions = np.zeros((len(source), size, size), np.int64)
    by_range = np.zeros((len(BANDS) + 1, size, size), np.int64)
    reliability = Reliability(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS))
    kept, shown, bad = spread(show, len(source)), [], list[Worst]()
    for scan in scored_scans(predictor, source, label_map=label_map, confidence=True, progress=progress):
        confusions[scan.index] = scan.confusion.numpy()
        by_range += _by_range(scan, size)
        _count_confidence(scan, reliability)
        if scan.index in kept:
            shown.append(scan.shown)
        scores = score(scan.confusion)
        if scores.points and worst:
            bad.append(Worst(scores.miou_present, scan.shown))
            bad = sorted(bad, key=lambda entry: entry.miou_present)[:worst]
    return Assessment(label_map, tuple(source.names), confusions, by_range, reliability, tuple(shown), tuple(bad))


def _by_range(scan: ScoredScan, size: int) -> NDArray[np.int64]:
    """(R, K + 1, K + 1) of one scan."""
    distance = np.linalg.norm(scan.points[:, :3].astype(np.float64), axis=1)
    band = np.searchsorted(BANDS, distance, side="right")  # a point at 10 m is in 10-20 m
    places = (band * size + scan.truth) * size + scan.prediction
    count = (len(BANDS) + 1) * size * size
    return np.bincount(places, minlength=count).reshape(-1, size, size).astype(np.int64)


def _count_confidence(scan: ScoredScan, reliability: Reliability) -> None:
    assert scan.confidence is not None
    labelled = scan.truth > 0
    sure = scan.confidence[labelled].astype(np.float64)
    right = scan.truth[labelled] == scan.prediction[labelled]
    place = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)  # bins include their upper edge
    reliability.points[:] += np.bincount(place, minlength=BINS)
    reliability.right[:] += np.bincount(place[right], minlength=BINS)
    reliability.confidence[:] += np.bincount(place, weights=sure, minlength=BINS)
