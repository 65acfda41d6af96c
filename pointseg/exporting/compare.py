"""Compare two forms of a model on the same scans: agreement, mIoU and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.core.text import counted
from pointseg.data.sources import ScanSource
from pointseg.engine.evaluation import evenly_spaced
from pointseg.engine.metrics import confusion_matrix, score
from pointseg.engine.predictor import Predictor

__all__ = ["Comparison", "compare", "refuse_changed"]


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`; each pair is (before, after).

    Attributes:
        names: of the two forms.
        scans, points: how many were compared.
        agreement: share of points that get the same class.
        miou: over all classes, by the official rule.
        milliseconds: from points to classes, the median over scans.
    """

    names: tuple[str, str]
    scans: int
    points: int
    agreement: float
    miou: tuple[float, float]
    milliseconds: tuple[float, float]

    @property
    def miou_loss(self) -> float:
        """How much mIoU the second form loses; 0.01 is one percentage point."""
        return self.miou[0] - self.miou[1]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        (first, second), width = self.names, max(map(len, self.names))
        lines = [
            f"{second} gives the class of {first} to {100 * self.agreement:.2f} % of "
            f"{counted(self.points, 'point')} of {counted(self.scans, 'scan')}"
        ]
        for name, miou, milliseconds in zip(self.names, self.miou, self.milliseconds, strict=True):
            lines.append(f"{name:<{width}}  mIoU {100 * miou:6.2f} %  {milliseconds:8.1f} ms a scan")
        return "\n".join(lines)


def compare(
    before: tuple[str, Predictor],
    after: tuple[str, Predictor],
    source: ScanSource,
    *,
    label_map: LabelMap,
    scans: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Predict some scans, evenly spaced over the source, with both predictors in turns, so that other work on the machine
    slows both.

    Args:
        before, after: name and predictor.

    Raises:
        ConfigError: if there is no scan to compare on.
        DataError: if a scan cannot be read or has no labels.
    """
    chosen = sorted(evenly_spaced(scans, len(source)))
    if not chosen:
        raise ConfigError("there is no scan to compare on", where="scans", remedy="Give scans=1 or more, and a split.")
    predictors = before[1], after[1]
    size = label_map.num_classes + 1
    confusion = torch.zeros(2, size, size, dtype=torch.int64)
    seconds: list[list[float]] = [[], []]
    total = same = 0
    for number, index in enumerate(chosen):
        scan = source[index]
        truth = torch.from_numpy(label_map.to_train(scan.required_labels, where=scan.labels_source))
        points = scan.with_columns(before[1].extra)
        if number == 0:
            for predictor in predictors:  # warm up
                predictor.train_ids(points)
        predictions = [truth, truth]
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            began = time.perf_counter()
            predictions[which] = torch.from_numpy(predictors[which].train_ids(points))
            seconds[which].append(time.perf_counter() - began)
            confusion[which] += confusion_matrix(truth, predictions[which], label_map.num_classes)
        total += len(truth)
        same += int((predictions[0] == predictions[1]).sum())
        if progress:
            progress(number + 1, len(chosen))
    return Comparison(
        names=(before[0], after[0]),
        scans=len(chosen),
        points=total,
        agreement=same / total,
        miou=(score(confusion[0]).miou, score(confusion[1]).miou),
        milliseconds=(1000 * float(np.median(seconds[0])), 1000 * float(np.median(seconds[1]))),
    )


def refuse_changed(comparison: Comparison, form: str, min_agreement: float, max_miou_loss: float) -> None:
    """Refuse a form of a model that changes too much.

    Args:
        form: what it is, such as "8 bits".
        min_agreement: the smallest share of points that must keep their class.
        max_miou_loss: the largest loss of mIoU; 0.01 is one percentage point.

    Raises:
        ConfigError: naming the limit.
    """
    if comparison.agreement < min_agreement:
        raise ConfigError(
            f"in {form} only {100 * comparison.agreement:.2f} % of the points keep their class; the limit is "
            f"{100 * min_agreement:g} %",
            where=f"min_agreement={min_agreement}",
            remedy="Use another format, or lower the limit.",
        )
    if comparison.miou_loss > max_miou_loss:
        raise ConfigError(
            f"{form} loses {100 * comparison.miou_loss:.2f} percentage points of mIoU, more than the limit of "
            f"{100 * max_miou_loss:g}",
            where=f"max_miou_loss={max_miou_loss}",
            remedy="Use another format, or raise the limit.",
        )
