"""Decide whether a model may replace another: both are scored on the same scans, which neither was trained on.

Legend: S scans, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.core.text import counted
from pointseg.data.scan_hashes import read_hashes
from pointseg.data.sources import ScanSource
from pointseg.engine.evaluation import scored_scans
from pointseg.engine.metrics import score
from pointseg.engine.predictor import Predictor
from pointseg.quality.bootstrap import Interval, draw_scans, interval, resampled

__all__ = ["Judgement", "PromotionRule", "ScorePair", "confusions_of", "judge", "why_not_fair"]

ROUNDING = 1e-9  # equal scores stay equal in whatever order they were summed


@dataclass(frozen=True)
class PromotionRule:
    """How much IoU may be lost, from 0 to 1: 0.01 is one percentage point.

    Args:
        margin: of mIoU over all classes.
        class_margin: of the IoU of any one class ...
        class_points: ... that has at least so many labelled points in the scans.

    Raises:
        ConfigError: for a margin that is not between 0 and 1, or a negative number of points.
    """

    margin: float = 0.0
    class_margin: float = 0.05
    class_points: int = 1000

    def __post_init__(self) -> None:
        for key in ("margin", "class_margin"):
            if not 0 <= getattr(self, key) <= 1:
                raise ConfigError(
                    f"{getattr(self, key)} is not between 0 and 1",
                    where=key,
                    remedy="It is the IoU that may be lost: 0.01 is one percentage point.",
                )
        if self.class_points < 0:
            raise ConfigError(f"{self.class_points} is negative", where="class_points")


@dataclass(frozen=True)
class ScorePair:
    """A score of both models, from 0 to 1.

    Attributes:
        name: of the class, or of the mean.
        points: labelled points.
        allowed: the allowed loss; None if there are too few points to judge.
    """

    name: str
    points: int
    champion: float
    candidate: float
    allowed: float | None

    @property
    def difference(self) -> float:
        """Positive where the candidate is better."""
        return self.candidate - self.champion

    @property
    def fails(self) -> bool:
        """Whether the loss is larger than allowed."""
        return self.allowed is not None and self.difference < -self.allowed - ROUNDING

    @property
    def verdict(self) -> str:
        if self.allowed is None:
            return "too few points to count"
        if self.fails:
            return f"worse by more than {100 * self.allowed:g} points" if self.allowed else "worse"
        if abs(self.difference) <= ROUNDING:
            return "the same"
        return "better" if self.difference > 0 else f"worse by less than {100 * self.allowed:g} points"


@dataclass(frozen=True)
class Judgement:
    """The result of a comparison.

    Attributes:
        overall: mIoU by the official rule.
        classes: those that occur in the scans' labels, the greatest loss first.
        spread: the middle 95 % of the difference in mIoU over resamples of the scans; None for a single scan. It is only
            reported: the rule compares the scores themselves.
        scans: how many.
    """

    overall: ScorePair
    classes: tuple[ScorePair, ...]
    spread: Interval | None
    scans: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate is refused; empty if it is accepted."""
        return tuple(
            f"{row.name}: {100 * row.candidate:.2f} % against {100 * row.champion:.2f} %, {row.verdict}"
            for row in (self.overall, *self.classes)
            if row.fails
        )

    def table(self) -> str:
        """A table for people: overall and by class."""
        rows = (self.overall, *self.classes)
        width = max(len(row.name) for row in rows)
        lines = [f"{'':<{width}} {'points':>12}  champion %  candidate %  difference  verdict"]
        for row in rows:
            lines.append(
                f"{row.name:<{width}} {row.points:>12,}  {100 * row.champion:>10.2f}  {100 * row.candidate:>11.2f}  "
                f"{100 * row.difference:>+10.2f}  {row.verdict}"
            )
        if self.spread is not None:
            lines += [
                "",
                f"Over resamples of the {counted(self.scans, 'scan')} the difference in mIoU is between "
                f"{100 * self.spread.low:+.2f} and {100 * self.spread.high:+.2f} in 95 of 100.",
            ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        def plain(row: ScorePair) -> dict[str, Any]:
            return {key: getattr(row, key) for key in ("points", "champion", "candidate", "difference", "verdict")}

        return {
            "accepted": not self.reasons,
            "scans": self.scans,
            "miou": plain(self.overall),
            "spread": None if self.spread is None else [self.spread.low, self.spread.high],
            "classes": {row.name: plain(row) for row in self.classes},
        }


def why_not_fair(role: str, provenance: Mapping[str, Any], scans: frozenset[bytes]) -> str | None:
    """Why a comparison on these scans would be unfair to the other model; None if it is fair.

    Args:
        role: the name of the model in the answer, such as "the champion".
        provenance: of its bundle, with the scans that it was trained on.
        scans: hashes of the scans to score (`data.scan_hashes.hashes_of`).
    """
    trained_on = read_hashes(provenance)
    if trained_on is None:
        return f"{role} does not say which scans it was trained on"
    if both := trained_on & scans:
        return f"{role} was trained on {len(both)} of these {counted(len(scans), 'scan')}"
    return None


def confusions_of(
    predictor: Predictor,
    source: ScanSource,
    label_map: LabelMap,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """(S, K + 1, K + 1) confusion matrices of the scans, rows truth, columns prediction; errors as in `scored_scans`."""
    scored = scored_scans(predictor, source, label_map=label_map, progress=progress)
    return np.stack([scan.confusion.numpy() for scan in scored])


def judge(
    champion: NDArray[np.int64],
    candidate: NDArray[np.int64],
    class_names: tuple[str, ...],
    rule: PromotionRule,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Judgement:
    """Compare two models on the same scans.

    Args:
        champion, candidate: (S, K + 1, K + 1) from `confusions_of`, of the same scans in the same order.
        draws: number of resamples of the scans, the same for both models.

    Raises:
        ConfigError: if they were scored on different labels.

    Example:
        >>> matrices = [confusions_of(model, scans, labels) for model in (old, new)]
        >>> judge(*matrices, labels.class_names, PromotionRule()).reasons
        ()
    """
    if champion.shape != candidate.shape or not np.array_equal(champion.sum(axis=2), candidate.sum(axis=2)):
        raise ConfigError("the two models were scored on different scans", where="data")
    before, now = score(champion.sum(axis=0)), score(candidate.sum(axis=0))
    classes = []
    for name, points, old, new in zip(class_names, now.support, before.iou, now.iou, strict=True):
        if points:
            allowed = rule.class_margin if points >= rule.class_points else None
            classes.append(ScorePair(name, int(points), float(old), float(new), allowed))
    spread = None
    if len(champion) > 1:
        counts = draw_scans(len(champion), draws, seed)
        spread = interval(resampled(candidate, counts).miou - resampled(champion, counts).miou)
    overall = ScorePair("mIoU", now.points, before.miou, now.miou, rule.margin)
    return Judgement(overall, tuple(sorted(classes, key=lambda row: row.difference)), spread, len(champion))
