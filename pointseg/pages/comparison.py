"""Two models on the same scans: what got better and worse, by class."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import CheckpointError
from pointseg.pages.report_content import Content
from pointseg.quality.bootstrap import Interval, interval

__all__ = ["FEWEST_SCANS", "Change", "changes"]

FEWEST_SCANS = 6  # with fewer, all of them agree by chance more often than 1 time in 20 (2 / 2^5)


@dataclass(frozen=True)
class Change:
    """One score of both models.

    Attributes:
        name: of the class or mean.
        train_id: of the class; None for a mean.
        support: labelled points.
        now, before: the score of the model that is reported, and of the one it is compared with.
        interval: of the difference, over resamples that draw the same scans for both; None for a single scan.
        scans: how many there are.
    """

    name: str
    train_id: int | None
    support: int
    now: float
    before: float
    interval: Interval | None
    scans: int

    @property
    def difference(self) -> float:
        """Positive where the model that is reported is better."""
        return self.now - self.before

    @property
    def verdict(self) -> str:
        """better or worse where the interval excludes 0 and there are scans enough; else that nothing is certain."""
        if self.interval is None or self.scans < FEWEST_SCANS:
            return "too few scans"
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else "not certain"


def changes(now: Content, before: Content) -> tuple[list[Change], list[Change]]:
    """The means, then the classes that occur: the greatest gain first.

    Args:
        now: of the model that is reported.
        before: of the one it is compared with, on the same scans, with the same seed and number of draws.

    Raises:
        CheckpointError: if their classes or scans differ.

    Example:
        >>> means, classes = changes(Content(assess(new, scans)), Content(assess(old, scans)))
        >>> means[0].verdict
        'better'
    """
    if now.label_map.hash != before.label_map.hash:
        raise CheckpointError(
            f"one model has the classes of label map {now.label_map.name!r} and the other those of "
            f"{before.label_map.name!r}",
            where="against",
            remedy="Compare models of the same classes.",
        )
    if now.assessment.names != before.assessment.names or not np.array_equal(now.scores.support, before.scores.support):
        raise CheckpointError("the two models were scored on other scans", where="against")
    points, scans = now.scores.points, len(now.assessment.names)
    means = [
        Change(
            name,
            None,
            points,
            getattr(now.scores, key),
            getattr(before.scores, key),
            _difference(now, before, key),
            scans,
        )
        for name, key in (("mIoU, official", "miou"), ("mIoU, classes present", "miou_present"))
    ]
    ids = [row.train_id for row in now.classes if row.support]
    iou = _difference_of_classes(now, before)
    classes = [
        Change(
            now.label_map.class_names[i - 1],
            i,
            int(now.scores.support[i - 1]),
            float(now.scores.iou[i - 1]),
            float(before.scores.iou[i - 1]),
            None if iou is None else interval(iou[:, i - 1]),
            scans,
        )
        for i in ids
    ]
    return means, sorted(classes, key=lambda change: -change.difference)


def _difference(now: Content, before: Content, key: str) -> Interval | None:
    if now.draws is None or before.draws is None:
        return None
    return interval(getattr(now.draws, key) - getattr(before.draws, key))


def _difference_of_classes(now: Content, before: Content) -> NDArray[np.float64] | None:
    if now.draws is None or before.draws is None:
        return None
    return now.draws.iou - before.draws.iou
