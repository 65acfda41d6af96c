"""The loss of a model's auxiliary image heads: cross-entropy, Lovasz-softmax and boundary loss on the pixels' labels.

Legend: B clouds, N points, K classes, H x W pixels, P pixels of the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.core.errors import ConfigError
from pointseg.data.batches import Batch
from pointseg.engine.losses import LossTerm, lovasz_softmax
from pointseg.models.base import SegmentationModel
from pointseg.models.outputs import ImageLogits, TrainingOutputs

__all__ = ["AuxiliaryHeads", "boundary_loss", "pixel_labels"]


class AuxiliaryHeads(LossTerm):
    """The sum over a model's image heads of three terms, each a mean over clouds.

    A pixel has the most frequent label of its points, those included that the point head is not trained on.

    Args:
        cross_entropy, lovasz, boundary: weights of the terms; the defaults are those of FRNet.

    Raises:
        ConfigError: from `check`, if the model has no image head.
    """

    def __init__(
        self, weight: float = 1.0, *, cross_entropy: float = 1.0, lovasz: float = 1.5, boundary: float = 1.0
    ) -> None:
        super().__init__(weight)
        self.cross_entropy, self.lovasz, self.boundary = cross_entropy, lovasz, boundary

    def check(self, model: SegmentationModel) -> None:
        if not model.has_image_heads:
            raise ConfigError(
                "the model has no auxiliary head",
                where="loss",
                remedy="Leave this term out, or use a model with image heads, such as model=frnet.",
            )

    def of_outputs(self, outputs: TrainingOutputs, batch: Batch) -> Tensor:
        first = outputs.images[0]
        labels_BHW = pixel_labels(first, batch.known_labels)
        return torch.stack([self._of_head(image.logits.float(), labels_BHW) for image in outputs.images]).sum()

    def _of_head(self, logits_BKHW: Tensor, labels_BHW: Tensor) -> Tensor:
        total = logits_BKHW.new_zeros(())
        logits_BHWK = logits_BKHW.permute(0, 2, 3, 1)
        for logits_HWK, labels_HW in zip(logits_BHWK, labels_BHW, strict=True):
            labelled_HW = labels_HW > 0
            logits_PK, labels_P = logits_HWK[labelled_HW], labels_HW[labelled_HW]
            if len(labels_P) == 0:
                continue
            if self.cross_entropy:
                total = total + self.cross_entropy * F.cross_entropy(logits_PK, labels_P - 1)
            if self.lovasz:
                total = total + self.lovasz * lovasz_softmax(logits_PK.softmax(dim=1), labels_P)
            if self.boundary:
                total = total + self.boundary * boundary_loss(logits_HWK.softmax(dim=2).permute(2, 0, 1), labels_HW)
        return total


def pixel_labels(image: ImageLogits, labels_BN: Tensor) -> Tensor:
    """(B, H, W) int64: the most frequent label among a pixel's points, the smaller of two equally frequent ones; 0 where no
    point is labelled."""
    batch, classes, height, width = image.logits.shape
    known_BN = (labels_BN > 0) & (image.pixel >= 0)
    votes = image.pixel[known_BN] * classes + labels_BN[known_BN] - 1
    counts_PK = torch.bincount(votes, minlength=batch * height * width * classes).view(-1, classes)
    most_P, label_P = counts_PK.max(dim=1)
    return torch.where(most_P > 0, label_P + 1, 0).view(batch, height, width)


def boundary_loss(probabilities_KHW: Tensor, labels_HW: Tensor) -> Tensor:
    """1 - F1 of the classes' boundaries in an image, a mean over the classes that have one (Bokhovkin and Burnaev,
    "Boundary Loss for Remote Sensing Imagery Semantic Segmentation", ISNN 2019, with a boundary of one pixel).

    Args:
        probabilities_KHW: of each class.
        labels_HW: training ids; pixels with 0 belong to no class, and what is predicted there does not count.
    """
    labelled_HW = labels_HW > 0
    present_C = torch.unique(labels_HW[labelled_HW])
    truth_CHW = _boundary((labels_HW[None] == present_C[:, None, None]).to(probabilities_KHW.dtype))
    predicted_CHW = _boundary(probabilities_KHW[present_C - 1] * labelled_HW)
    truth_C, predicted_C = truth_CHW.sum(dim=(1, 2)), predicted_CHW.sum(dim=(1, 2))
    common_C = (truth_CHW * predicted_CHW).sum(dim=(1, 2))
    f1_C = 2 * common_C / (truth_C + predicted_C).clamp(min=1e-7)  # = 2 P R / (P + R)
    bounded_C = truth_C > 0  # not a class that fills the image
    return (1 - f1_C[bounded_C]).mean() if bool(bounded_C.any()) else probabilities_KHW.sum() * 0.0


def _boundary(shares_CHW: Tensor) -> Tensor:
    """What lies within a pixel of the outside: the largest complement in 3 x 3 pixels, less the own one."""
    outside_CHW = 1.0 - shares_CHW
    widest_CHW = outside_CHW
    for dim in (1, 2):  # along rows, then columns: the same as over squares, in two thirds of the comparisons
        widest_CHW = _largest_of_three(widest_CHW, dim)
    return widest_CHW - outside_CHW


def _largest_of_three(x_CHW: Tensor, dim: int) -> Tensor:
    """Each value, or a larger neighbour's along a dimension."""
    size = x_CHW.shape[dim]
    before = torch.cat([x_CHW.narrow(dim, 0, 1), x_CHW.narrow(dim, 0, size - 1)], dim=dim)
    after = torch.cat([x_CHW.narrow(dim, 1, size - 1), x_CHW.narrow(dim, size - 1, 1)], dim=dim)
    return torch.maximum(torch.maximum(before, after), x_CHW)
