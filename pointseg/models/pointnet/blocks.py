"""The building blocks of a PointNet, and the layer names that its fast implementations rely on.

Legend: B clouds, M real points of the batch, C, O channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pointseg.models.base import SegmentationModel
from pointseg.models.layers import CloudDropout, RowBatchNorm, Rows

__all__ = ["PointNetLayers", "SharedMLP", "TNet", "folded_transform"]


class SharedMLP(nn.Sequential):
    """Linear, BatchNorm, ReLU for each width, the same for every row: (M, in) -> (M, widths[-1])."""

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(in_channels, width), RowBatchNorm(width), nn.ReLU(inplace=True)]
            in_channels = width
        super().__init__(*layers)

    @property
    def layers(self) -> list[tuple[nn.Linear, RowBatchNorm]]:
        """Each linear layer with its BatchNorm."""
        return [(self[i], self[i + 1]) for i in range(0, len(self), 3)]  # type: ignore[misc]


class TNet(nn.Module):
    """A small PointNet that predicts a C x C matrix for each cloud, initially the identity (section 4.2)."""

    def __init__(self, in_channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.point_mlp = SharedMLP(in_channels, (64, 128, 1024))
        self.cloud_mlp = SharedMLP(1024, (512, 256))
        self.matrix = nn.Linear(256, size * size)
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.eye(size).flatten())

    def forward(self, rows_MC: Tensor, rows: Rows) -> Tensor:
        """(B, C, C) matrices, applied as x T to row vectors x."""
        return self.matrix_of(rows.max(self.point_mlp(rows_MC)))

    def matrix_of(self, pooled_BC: Tensor) -> Tensor:
        """(B, C, C) matrices from the features after the max."""
        matrix: Tensor = self.matrix(self.cloud_mlp(pooled_BC))
        return matrix.view(-1, self.size, self.size)


def folded_transform(weight_OC: Tensor, transform_CC: Tensor | None) -> Tensor:
    """The weight that does to x what `weight_OC` does to x T, (O, C) or (B, O, C): (x T) W^T = x (W T^T)^T."""
    return weight_OC if transform_CC is None else weight_OC @ transform_CC.mT


class PointNetLayers(SegmentationModel):
    """A model with the layers of a PointNet, which `network.PointNetSeg` creates."""

    input_transform: TNet | None
    local_mlp: SharedMLP
    feature_transform: TNet | None
    global_mlp: SharedMLP
    head_first: nn.Linear
    head_norm: RowBatchNorm
    head_mlp: SharedMLP
    dropout: CloudDropout
    classifier: nn.Linear
