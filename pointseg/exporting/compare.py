"""Two forms of one model on the same scans: how often they agree, how well each does, how long each takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from pointseg.data.sources import ScanSource
from pointseg.errors import ConfigError
from pointseg.labels import LabelMap
from pointseg.metrics import confusion_matrix, score
from pointseg.predictor import Predictor
from pointseg.words import counted

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found; each pair is (before, after).

    Attributes:
        names: of the two forms.
        scans, points: what was compared.
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
        """How much mIoU the second form loses, 0.01 being one percentage point."""
        return self.miou[0] - self.miou[1]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        (first, second), width = self.names, max(map(len, self.names))
        rows = [
            f"{name:<{width}}  mIoU {100 * miou:6.2f} %  {milliseconds:8.1f} ms a scan"
            for name, miou, milliseconds in zip(self.names, self.miou, self.milliseconds, strict=True)
        ]
        return "\n".join(
            [
                f"{second} gives the class of {first} to {100 * self.agreement:.2f} % of "
                f"{counted(self.points, 'point')} of {counted(self.scans, 'scan')}",
                *rows,
            ]
        )


def compare(
    before: tuple[str, Predictor],
    after: tuple[str, Predictor],
    source: ScanSource,
    *,
    label_map: LabelMap,
    scans: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Predict some scans with both, in turns, so that a busy machine is busy for both.

    Args:
        before, after: name and predictor.
        scans: how many, spread over the source.

    Raises:
        ConfigError: if there is no scan to compare on.
        DataError: if a scan cannot be read or has no labels.
    """
    chosen = sorted({round(i) for i in np.linspace(0, len(source) - 1, min(scans, len(source)))})
    if not chosen:
        raise ConfigError("there is no scan to compare on", where="scans", remedy="Give scans=1 or more, and a split.")
    size = label_map.num_classes + 1
    confusion = [torch.zeros(size, size, dtype=torch.int64) for _ in range(2)]
    seconds: list[list[float]] = [[], []]
    points = same = 0
    for number, index in enumerate(chosen):
        scan = source[index]
        truth = torch.from_numpy(label_map.to_train(scan.required_labels, where=scan.labels_source))
        predictors = (before[1], after[1])
        if number == 0:
            for predictor in predictors:  # the first run of each prepares
                predictor.train_ids(scan.points)
        predictions: dict[int, torch.Tensor] = {}
        for which in (0, 1) if number % 2 == 0 else (1, 0):
            began = time.perf_counter()
            ids = predictors[which].train_ids(scan.points)
            seconds[which].append(time.perf_counter() - began)
            predictions[which] = torch.from_numpy(ids)
            confusion[which] += confusion_matrix(truth, predictions[which], label_map.num_classes)
        points += len(truth)
        same += int((predictions[0] == predictions[1]).sum())
        if progress:
            progress(number + 1, len(chosen))
    return Comparison(
        names=(before[0], after[0]),
        scans=len(chosen),
        points=points,
        agreement=same / points,
        miou=(score(confusion[0]).miou, score(confusion[1]).miou),
        milliseconds=(1000 * float(np.median(seconds[0])), 1000 * float(np.median(seconds[1]))),
    )
