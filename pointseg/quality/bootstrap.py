"""Confidence intervals of scores by resampling scans (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993).

Whole scans are drawn, since points of one scan are far from independent. Neighbouring frames of one drive show nearly the
same scene, which resampling of frames ignores, so intervals over them are too narrow.
Legend: S scans, K classes, D draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointseg.engine.metrics import EPSILON

__all__ = ["Draws", "Interval", "draw_scans", "interval", "resampled"]


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of the resamples."""

    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """Scores of D resamples, by the rules of `metrics.score`.

    Attributes:
        iou: (D, K).
        miou: (D,) over all classes; a class without points counts 0.
        miou_present: (D,) over the classes that occur in the resample's truth.
    """

    iou: NDArray[np.float64]
    miou: NDArray[np.float64]
    miou_present: NDArray[np.float64]


def draw_scans(scans: int, draws: int, seed: int) -> NDArray[np.int64]:
    """(D, S): how often each scan is in each resample of S scans, drawn with replacement.

    Example:
        >>> draw_scans(scans=40, draws=1000, seed=0).sum(axis=1)[0]
        40
    """
    return np.random.default_rng(seed).multinomial(scans, np.full(scans, 1 / scans), size=draws).astype(np.int64)


def resampled(confusions: NDArray[np.int64], counts: NDArray[np.int64]) -> Draws:
    """Scores of each resample, from the sum of its scans' matrices.

    Args:
        confusions: (S, K + 1, K + 1), rows truth, columns prediction.
        counts: (D, S) from `draw_scans`; use the same counts for two models to pair their differences.

    Example:
        >>> draws = resampled(assessment.confusions, draw_scans(40, 1000, seed=0))
        >>> interval(draws.miou)
    """
    scored = confusions.copy()
    scored[:, 0, :] = 0  # truth 0 is not scored
    hits = np.diagonal(scored, axis1=1, axis2=2)[:, 1:]
    support = scored[:, 1:, :].sum(axis=2)
    predicted = scored[:, :, 1:].sum(axis=1)
    parts = np.stack([hits, support, predicted], axis=1).astype(np.float64)  # (S, 3, K); sums below 2^53 are exact
    drawn = np.einsum("ds,spk->dpk", counts.astype(np.float64), parts, optimize=True)
    hits_DK, support_DK, predicted_DK = drawn[:, 0], drawn[:, 1], drawn[:, 2]
    iou = hits_DK / (support_DK + predicted_DK - hits_DK + EPSILON)
    present = support_DK > 0
    miou_present = np.where(present, iou, 0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
    return Draws(iou, iou.mean(axis=1), miou_present)


def interval(values: NDArray[np.float64]) -> Interval:
    """The 2.5 and 97.5 percentiles of (D,) values."""
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))
