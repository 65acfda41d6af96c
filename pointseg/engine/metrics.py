"""Scores by SemanticKITTI's official rule (semantic-kitti-api, `evaluate_semantics.py`).

A confusion matrix over training ids 0..K, rows truth, columns prediction. Points whose truth is 0 are left out.
Predicting 0 on a labelled point is a false negative of the true class. IoU = TP / (TP + FP + FN + 1e-15) per class;
mIoU is the plain mean over classes 1..K, where a class absent from truth and prediction counts 0.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Scores", "confusion_matrix", "score"]

EPSILON = 1e-15
LOGGED = ("miou", "miou_present", "accuracy")  # the larger, the better


def confusion_matrix(truth: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """(K + 1, K + 1) int64 counts of training ids, [truth, prediction], on the device where the labels lie.

    Raises:
        ValueError: if the shapes differ or an id is not between 0 and K.
    """
    size = num_classes + 1
    if truth.shape != prediction.shape:
        raise ValueError(f"{tuple(truth.shape)} labels and {tuple(prediction.shape)} predictions")
    pairs = truth.reshape(-1).to(torch.int64) * size + prediction.reshape(-1).to(torch.int64)
    for name, ids in (("label", truth), ("prediction", prediction)):
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) <= num_classes:
            raise ValueError(f"a {name} is not between 0 and {num_classes}")
    return torch.bincount(pairs, minlength=size * size).view(size, size)


class Scores(NamedTuple):
    """Official scores of a confusion matrix.

    Attributes:
        iou: (K,) per class.
        support: (K,) labelled points per class.
        miou: mean IoU over all K classes, the official figure.
        miou_present: mean IoU over the classes that occur in the truth.
        classes_present: how many those are.
        accuracy: share of the labelled points that are right; a predicted 0 is wrong.
        points: labelled points.
        confusion: (K + 1, K + 1), rows truth, columns prediction.
    """

    iou: NDArray[np.float64]
    support: NDArray[np.int64]
    miou: float
    miou_present: float
    classes_present: int
    accuracy: float
    points: int
    confusion: NDArray[np.int64]

    def summary(self, split: str) -> dict[str, float]:
        """The scores of a split by the names under which they are logged, such as "val/miou".

        Example:
            >>> self.log_dict(iou.compute().summary("val"))
        """
        return {f"{split}/{name}": getattr(self, name) for name in LOGGED}

    def to_dict(self, class_names: tuple[str, ...], scans: int) -> dict[str, Any]:
        """The content of `metrics.json`."""
        return {
            "miou": self.miou,
            "miou_present": self.miou_present,
            "classes_present": self.classes_present,
            "accuracy": self.accuracy,
            "iou": dict(zip(class_names, map(float, self.iou), strict=True)),
            "support": dict(zip(class_names, map(int, self.support), strict=True)),
            "points": self.points,
            "scans": scans,
        }


def score(confusion: Tensor | NDArray[np.int64]) -> Scores:
    """The official scores of a (K + 1, K + 1) confusion matrix, in float64.

    Example:
        >>> score(confusion_matrix(truth, prediction, num_classes=19)).miou
    """
    matrix = confusion.cpu().numpy() if isinstance(confusion, Tensor) else np.asarray(confusion)
    matrix = matrix.astype(np.int64)
    counted = matrix.copy()
    counted[0, :] = 0  # truth 0: left out altogether
    hits = np.diag(counted)[1:].astype(np.float64)
    support = counted[1:, :].sum(axis=1)
    predicted = counted[:, 1:].sum(axis=0)
    iou = hits / (support + predicted - hits + EPSILON)
    present = support > 0
    points = int(support.sum())
    return Scores(
        iou=iou,
        support=support,
        miou=float(iou.mean()),
        miou_present=float(iou[present].mean()) if present.any() else 0.0,
        classes_present=int(present.sum()),
        accuracy=float(hits.sum() / points) if points else 0.0,
        points=points,
        confusion=matrix,
    )
