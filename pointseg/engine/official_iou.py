"""SemanticKITTI's official scores as torchmetrics for any LightningModule, exact over any number of processes.

Apart from `metrics`, because torchmetrics takes seconds to import.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from pointseg.engine.metrics import Scores, confusion_matrix, score

__all__ = ["OfficialIoU", "OfficialMeanIoU"]


class OfficialIoU(Metric):
    """All official scores (see `metrics`). The state is an integer confusion matrix, so those of several processes add up
    exactly.

    Args:
        num_classes: K, without the ignored class 0.
        settings: of `torchmetrics.Metric`.

    Example:
        >>> iou = OfficialIoU(num_classes=19)
        >>> iou.update(prediction, truth)  # training ids 0..19 of one scan or several, of equal shapes
        >>> iou.compute().miou
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor  # not a buffer: weight averaging would swap and average it

    def __init__(self, num_classes: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.num_classes = num_classes
        size = num_classes + 1
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, truth: Tensor) -> None:
        """Count points by their predicted and true training ids.

        Raises:
            ValueError: if the shapes differ or an id is not between 0 and K.
        """
        self.confusion = self.confusion + confusion_matrix(truth, prediction, self.num_classes)

    def compute(self) -> Scores:
        """The scores of all points since the last `reset`, over all processes."""
        return score(self.confusion)


class OfficialMeanIoU(OfficialIoU):
    """The official mIoU alone: a scalar for `self.log`.

    Example:
        >>> self.miou = OfficialMeanIoU(19)  # in a LightningModule's __init__
        >>> self.miou.update(prediction, truth)
        >>> self.log("val/miou", self.miou)
    """

    def compute(self) -> Tensor:  # type: ignore[override]  # torchmetrics lets each metric choose its result
        """The mean IoU over classes 1..K, float64."""
        return torch.tensor(score(self.confusion).miou, dtype=torch.float64, device=self.confusion.device)
