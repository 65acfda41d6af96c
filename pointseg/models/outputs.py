"""What a model gives in training: logits of the points, its own penalty, logits of auxiliary image heads.

Legend: B clouds, N points, K classes, H x W pixels.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

__all__ = ["ImageLogits", "TrainingOutputs"]


class ImageLogits(NamedTuple):
    """Logits of an auxiliary head (B, K, H, W), and each point's pixel (B, N) int64, counted through the images of the whole
    batch; -1 for padded points."""

    logits: Tensor
    pixel: Tensor


class TrainingOutputs(NamedTuple):
    """Logits (B, N, K), the penalty (a scalar mean over clouds), and the outputs of auxiliary heads, which train the layers
    below them and are not there in prediction."""

    logits: Tensor
    penalty: Tensor
    images: tuple[ImageLogits, ...] = ()
