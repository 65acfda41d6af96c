"""What every segmentation model is, whatever is inside.

Legend: B clouds, N points, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from pointseg.models.dropout import CloudDropout

__all__ = ["SegmentationModel"]


class SegmentationModel(nn.Module):
    """Features of clouds -> logits of the K real classes; class k stands at logit k - 1, so "ignored" is never predicted.

    A subclass implements `logits_and_penalty` and names its plain arguments in `hyperparameters`, from which a
    checkpoint or bundle builds it again.
    """

    in_features: int
    num_classes: int
    hyperparameters: dict[str, Any]

    def forward(self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Logits (B, N, K) of features (B, N, F).

        Args:
            features: (B, N, F) float32.
            coords: (B, N, 3) metres, for models that need neighbourhoods.
            mask: (B, N) bool, True = real point; None when all are. Padded points get logits 0 and touch nothing.
        """
        return self.logits_and_penalty(features, coords, mask)[0]

    def logits_and_penalty(
        self, features: Tensor, coords: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N, K), and the model's own regulariser as a mean over clouds: a scalar, 0 where it has none."""
        raise TypeError(f"{type(self).__name__} does not implement logits_and_penalty")

    def draw_by(self, keys: Sequence[int] | None) -> None:
        """Make dropout of the next clouds a function of these numbers, one a cloud; None: of torch's generator."""
        for module in self.modules():
            if isinstance(module, CloudDropout):
                module.keys = keys
