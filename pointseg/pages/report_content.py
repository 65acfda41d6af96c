"""The numbers of a report, from an assessment: by class, sequence, range and frequency, each with its interval.

Percentages are made by the page; here every score is between 0 and 1. Legend: S scans, K classes, D draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pointseg.engine.metrics import Scores, score
from pointseg.quality.assessment import Assessment, band_names
from pointseg.quality.bootstrap import Draws, Interval, draw_scans, interval, resampled

__all__ = ["ClassRow", "Content", "Group", "Part", "Score"]

COMMON, RARE = 0.05, 0.005  # shares of the labelled points


@dataclass(frozen=True)
class Score:
    """A score and the middle 95 % of its resamples; None where there is nothing to resample."""

    value: float
    interval: Interval | None = None


@dataclass(frozen=True)
class ClassRow:
    """A class over all scans.

    Attributes:
        train_id: 1..K.
        support: its labelled points; 0: the class is absent, and its IoU says nothing of the model.
        share: of the labelled points.
        predicted: labelled points that are predicted as it.
        iou: with its interval.
        recall, precision: None where nothing is, or is predicted as, the class.
    """

    train_id: int
    name: str
    support: int
    share: float
    predicted: int
    iou: Score
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class Part:
    """Scores of some of the scans or points, such as a sequence or a range band."""

    name: str
    scans: int | None
    scores: Scores
    miou: Score
    miou_present: Score


@dataclass(frozen=True)
class Group:
    """Classes that are about as frequent."""

    name: str
    classes: tuple[str, ...]
    points: int
    share: float
    iou: Score


class Content:
    """What a report says of one assessment.

    Args:
        assessment: what was found.
        draws: resamples of scans behind each interval.
        seed: of the resamples.

    Example:
        >>> Content(assessment).classes[0].iou
        Score(value=0.91, interval=Interval(low=0.90, high=0.92))
    """

    def __init__(self, assessment: Assessment, *, draws: int = 1000, seed: int = 0) -> None:
        self.assessment, self.label_map, self.scores = assessment, assessment.label_map, assessment.scores
        self._draws, self._seed = draws, seed

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(D, S): the resamples of all scans; the same for every model that is scored on them."""
        return draw_scans(len(self.assessment.names), self._draws, self._seed)

    @cached_property
    def draws(self) -> Draws | None:
        """Scores of the resamples of all scans; None for a single scan, whose resamples are all itself."""
        if len(self.assessment.names) < 2:
            return None
        return resampled(self.assessment.confusions, self.counts)

    @cached_property
    def overall(self) -> Part:
        """All scans together."""
        return _part("all", self.assessment.confusions, self.draws)

    @cached_property
    def classes(self) -> list[ClassRow]:
        """The commonest first."""
        scores = self.scores
        counted = scores.confusion[1:]
        hits, predicted = np.diag(scores.confusion)[1:], counted[:, 1:].sum(axis=0)
        rows = []
        for place in np.argsort(-scores.support, kind="stable"):
            support, said = int(scores.support[place]), int(predicted[place])
            spread = interval(self.draws.iou[:, place]) if self.draws and support else None
            rows.append(
                ClassRow(
                    train_id=int(place) + 1,
                    name=self.label_map.class_names[place],
                    support=support,
                    share=support / max(scores.points, 1),
                    predicted=said,
                    iou=Score(float(scores.iou[place]), spread),
                    recall=int(hits[place]) / support if support else None,
                    precision=int(hits[place]) / said if said else None,
                )
            )
        return rows

    @cached_property
    def sequences(self) -> list[Part]:
        """Each sequence, by name."""
        parts = []
        for number, (name, rows) in enumerate(self.assessment.sequences.items(), start=1):
            confusions = self.assessment.confusions[rows]
            draws = None
            if len(rows) > 1:
                draws = resampled(confusions, draw_scans(len(rows), self._draws, self._seed + number))
            parts.append(_part(name, confusions, draws))
        return parts

    @cached_property
    def bands(self) -> list[Part]:
        """Each range band, the nearest first; without intervals."""
        named = zip(band_names(), self.assessment.by_range, strict=True)
        return [_part(name, matrix[None], None, of_scans=False) for name, matrix in named]

    @cached_property
    def groups(self) -> list[Group]:
        """Common, middle and rare classes, by their share of the labelled points; those that are empty are left out."""
        limits = {
            f"common: more than {100 * COMMON:g} %": (COMMON, np.inf),
            f"middle: {100 * RARE:g} to {100 * COMMON:g} %": (RARE, COMMON),
            f"rare: less than {100 * RARE:g} %": (0.0, RARE),
        }
        groups = []
        for name, (low, high) in limits.items():
            rows = [row for row in self.classes if row.support and _within(row.share, low, high)]
            if rows:
                places = [row.train_id - 1 for row in rows]
                spread = interval(self.draws.iou[:, places].mean(axis=1)) if self.draws else None
                mean = float(self.scores.iou[places].mean())
                points = sum(row.support for row in rows)
                share = points / max(self.scores.points, 1)
                groups.append(Group(name, tuple(row.name for row in rows), points, share, Score(mean, spread)))
        return groups

    @property
    def absent(self) -> list[str]:
        """Classes without a labelled point."""
        return [row.name for row in self.classes if not row.support]


def _within(share: float, low: float, high: float) -> bool:
    """low <= share <= high, the common and the rare without the edge that the middle has."""
    return share > low if np.isinf(high) else share < high if low == 0 else low <= share <= high


def _part(name: str, confusions: NDArray[np.int64], draws: Draws | None, *, of_scans: bool = True) -> Part:
    scores = score(confusions.sum(axis=0))
    return Part(
        name,
        len(confusions) if of_scans else None,
        scores,
        Score(scores.miou, interval(draws.miou) if draws else None),
        Score(scores.miou_present, interval(draws.miou_present) if draws else None),
    )
