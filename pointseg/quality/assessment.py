"""Where a model does well and where it does not: scores by scan, sequence and distance, and its calibration.

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

from pointseg.core.labels import LabelMap
from pointseg.data.sources import ScanSource
from pointseg.engine.evaluation import PredictedScan, ScoredScan, evenly_spaced, scored_scans
from pointseg.engine.metrics import Scores, score
from pointseg.engine.predictor import Predictor
from pointseg.quality.exploration_counts import scans_by_sequence

__all__ = ["RANGE_BANDS", "Assessment", "Reliability", "WorstScan", "assess", "band_names"]

RANGE_BANDS = (10.0, 20.0, 30.0, 50.0)  # metres to the sensor where one band ends and the next begins
BINS = 15  # of confidence, as usual since Guo et al., "On Calibration of Modern Neural Networks", ICML 2017


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy over the labelled points, in B equal bins of confidence in (0, 1].

    Attributes:
        points: (B,) int64 points in each bin.
        right: (B,) int64, how many of them are right.
        confidence: (B,) float64, the sum of their confidence.
    """

    points: NDArray[np.int64]
    right: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy over points; 0 is perfect."""
        total = max(int(self.points.sum()), 1)
        return float(np.abs(self.right - self.confidence).sum() / total)


@dataclass(frozen=True)
class WorstScan:
    """A badly scored scan, and its mIoU over the classes that occur in it."""

    miou_present: float
    scan: PredictedScan


@dataclass(frozen=True)
class Assessment:
    """The result of one pass over the scans.

    Attributes:
        names: "SEQUENCE/FRAME" of the S scans.
        confusions: (S, K + 1, K + 1) int64, rows truth, columns prediction.
        by_range: (R, K + 1, K + 1) int64, the same by distance to the sensor (`RANGE_BANDS`).
        shown: a few scans to look at, evenly spaced over the source.
        worst: the scans with the lowest mIoU over the classes that occur in them, the worst first.
    """

    label_map: LabelMap
    names: tuple[str, ...]
    confusions: NDArray[np.int64]
    by_range: NDArray[np.int64]
    reliability: Reliability
    shown: tuple[PredictedScan, ...]
    worst: tuple[WorstScan, ...]

    @cached_property
    def scores(self) -> Scores:
        """Over all scans, the same as `evaluate_model` gives."""
        return score(self.confusions.sum(axis=0))

    @cached_property
    def sequences(self) -> dict[str, NDArray[np.int64]]:
        """Sequence -> the indices of its scans."""
        return {name: np.array(members, np.int64) for name, members in sorted(scans_by_sequence(self.names).items())}


def band_names(bands: tuple[float, ...] = RANGE_BANDS) -> list[str]:
    """Names of the range bands.

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
    """Predict every scan of a source once and count what a report needs; `label_map` and errors as in `scored_scans`.

    Args:
        show: how many scans to keep for pictures, evenly spaced over the source.
        worst: how many of the worst scans to keep.

    Example:
        >>> assess(Predictor.load(run_folder), SemanticKITTIScans(root, ["08"])).reliability.error
    """
    label_map = label_map or predictor.label_map
    size = label_map.num_classes + 1
    confusions = np.zeros((len(source), size, size), np.int64)
    by_range = np.zeros((len(RANGE_BANDS) + 1, size, size), np.int64)
    reliability = Reliability(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS))
    kept, shown, bad = evenly_spaced(show, len(source)), list[PredictedScan](), list[WorstScan]()
    for scan in scored_scans(predictor, source, label_map=label_map, confidence=True, progress=progress):
        confusions[scan.index] = scan.confusion.numpy()
        by_range += _by_range(scan, size)
        _count_confidence(scan, reliability)
        if scan.index in kept:
            shown.append(scan)
        scores = score(scan.confusion)
        if scores.points and worst:
            bad.append(WorstScan(scores.miou_present, scan))
            bad = sorted(bad, key=lambda entry: entry.miou_present)[:worst]
    return Assessment(label_map, tuple(source.names), confusions, by_range, reliability, tuple(shown), tuple(bad))


def _by_range(scan: ScoredScan, size: int) -> NDArray[np.int64]:
    """(R, K + 1, K + 1) of one scan."""
    distance = np.linalg.norm(scan.points[:, :3].astype(np.float64), axis=1)
    band = np.searchsorted(RANGE_BANDS, distance, side="right")  # a point at 10 m is in 10-20 m
    places = (band * size + scan.truth) * size + scan.prediction
    count = (len(RANGE_BANDS) + 1) * size * size
    return np.bincount(places, minlength=count).reshape(-1, size, size).astype(np.int64)


def _count_confidence(scan: ScoredScan, reliability: Reliability) -> None:
    assert scan.confidence is not None
    labelled = scan.truth > 0
    confidence = scan.confidence[labelled].astype(np.float64)
    right = scan.truth[labelled] == scan.prediction[labelled]
    place = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)  # bins include their upper edge
    reliability.points[:] += np.bincount(place, minlength=BINS)
    reliability.right[:] += np.bincount(place[right], minlength=BINS)
    reliability.confidence[:] += np.bincount(place, weights=confidence, minlength=BINS)
