"""Whether a model may take another's place: both scored on the same scans, which neither was trained on.

Legend: S scans, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.bootstrap import Interval, draw_scans, interval, resampled
from pointseg.data.seen import read_hashes
from pointseg.data.sources import ScanSource
from pointseg.errors import ConfigError
from pointseg.evaluation import scored_scans
from pointseg.labels import LabelMap
from pointseg.metrics import score
from pointseg.predictor import Predictor
from pointseg.words import counted

__all__ = ["Judgement", "Row", "Rule", "confusions_of", "judge", "why_not_fair"]

ROUNDING = 1e-9  # equal scores stay equal whatever order they were added in


@dataclass(frozen=True)
class Rule:
    """How much may be lost. All in IoU from 0 to 1: 0.01 is one percentage point.

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
class Row:
    """One score of both models, from 0 to 1.

    Attributes:
        name: of the class, or of the mean.
        points: labelled points.
        allowed: the loss that is allowed; None where nothing is asked, since there are too few points.
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
        """Whether more is lost than is allowed."""
        return self.allowed is not None and self.difference < -self.allowed - ROUNDING

    @property
    def verdict(self) -> str:
        """In words."""
        if self.allowed is None:
            return "too few points to count"
        if self.fails:
            return f"worse by more than {100 * self.allowed:g} points" if self.allowed else "worse"
        if abs(self.difference) <= ROUNDING:
            return "the same"
        return "better" if self.difference > 0 else f"worse by less than {100 * self.allowed:g} points"


@dataclass(frozen=True)
class Judgement:
    """What the comparison found.

    Attributes:
        overall: mIoU by the official rule.
        classes: those that occur in the scans' labels, the greatest loss first.
        spread: the middle 95 % of the difference in mIoU over resamples of the scans; None for a single scan. It is
            said and not asked for: the rule compares the scores themselves.
        scans: how many.
    """

    overall: Row
    classes: tuple[Row, ...]
    spread: Interval | None
    scans: int

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the candidate is refused, in words; empty where it is accepted."""
        return tuple(
            f"{row.name}: {100 * row.candidate:.2f} % against {100 * row.champion:.2f} %, {row.verdict}"
            for row in (self.overall, *self.classes)
            if row.fails
        )

    def table(self) -> str:
        """Overall and by class: champion, candidate, difference, verdict."""
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
        """Plain values."""

        def plain(row: Row) -> dict[str, Any]:
            return {
                "points": row.points,
                "champion": row.champion,
                "candidate": row.candidate,
                "difference": row.difference,
                "verdict": row.verdict,
            }

        return {
            "accepted": not self.reasons,
            "scans": self.scans,
            "miou": plain(self.overall),
            "spread": None if self.spread is None else [self.spread.low, self.spread.high],
            "classes": {row.name: plain(row) for row in self.classes},
        }


def why_not_fair(role: str, provenance: Mapping[str, Any], scans: frozenset[bytes]) -> str | None:
    """Why a comparison on these scans would not be fair to the other model; None where it is.

    Args:
        role: what the model is called, such as "the champion".
        provenance: of its bundle: which scans it was trained on.
        scans: hashes of those it shall be scored on (`data.seen.hashes_of`).
    """
    seen = read_hashes(provenance)
    if seen is None:
        return f"{role} does not say which scans it was trained on"
    both = seen & scans
    if both:
        return f"{role} was trained on {len(both)} of these {counted(len(scans), 'scan')}"
    return None


def confusions_of(
    predictor: Predictor,
    source: ScanSource,
    label_map: LabelMap,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.int64]:
    """(S, K + 1, K + 1): a confusion matrix of each scan, rows truth, columns prediction.

    Raises:
        CheckpointError: if the model has other classes than the data.
        DataError: if there is no scan, or one without labels.
    """
    scored = scored_scans(predictor, source, label_map=label_map, progress=progress)
    return np.stack([scan.confusion.numpy() for scan in scored])


def judge(
    champion: NDArray[np.int64],
    candidate: NDArray[np.int64],
    class_names: tuple[str, ...],
    rule: Rule,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Judgement:
    """Compare two models on the same scans.

    Args:
        champion, candidate: (S, K + 1, K + 1) from `confusions_of`, of the same scans in the same order.
        draws: resamples of the scans, the same for both models.

    Raises:
        ConfigError: if they were not scored on the same labels.

    Example:
        >>> judge(confusions_of(old, scans, labels), confusions_of(new, scans, labels), labels.class_names, Rule()).reasons
        ()
    """
    if champion.shape != candidate.shape or not np.array_equal(champion.sum(axis=2), candidate.sum(axis=2)):
        raise ConfigError("the two models were scored on other scans", where="data")
    before, now = score(champion.sum(axis=0)), score(candidate.sum(axis=0))
    classes = [
        Row(
            name,
            int(points),
            float(before.iou[k]),
            float(now.iou[k]),
            rule.class_margin if points >= rule.class_points else None,
        )
        for k, (name, points) in enumerate(zip(class_names, now.support, strict=True))
        if points
    ]
    spread = None
    if len(champion) > 1:
        counts = draw_scans(len(champion), draws, seed)
        spread = interval(resampled(candidate, counts).miou - resampled(champion, counts).miou)
    overall = Row("mIoU", now.points, before.miou, now.miou, rule.margin)
    return Judgement(overall, tuple(sorted(classes, key=lambda row: row.difference)), spread, len(champion))
