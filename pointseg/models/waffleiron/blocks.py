"""The parts of a WaffleIron: the embedding of points with their neighbours, mixing on a plane, mixing of channels.

Legend: B clouds, V voxels of the batch, F features, C channels, E channels of the neighbours' branch, Q neighbours,
O occupied cells of a plane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointseg.models.layers import CloudDropout, RowBatchNorm
from pointseg.models.waffleiron.planes import Plane
from pointseg.models.waffleiron.rows import Moments, moments, scale_and_shift

__all__ = ["ACTIVATIONS", "NORMS", "ChannelMix", "DropPath", "Embedding", "SpatialMix", "factors_of_voxels"]

Activation = Callable[[Tensor], Tensor]
LinearMoments = Callable[[Tensor, Tensor], Moments]
ACTIVATIONS: dict[str, Activation] = {"relu": functional.relu_, "gelu": functional.gelu}
NORMS: dict[str, Callable[[int], RowBatchNorm | nn.LayerNorm]] = {"batch": RowBatchNorm, "layer": nn.LayerNorm}
PARTS = 4096  # voxels whose neighbours go through the embedding together: bounds memory
SMALL = 1e-6  # added to the number of points in a cell


class DropPath(CloudDropout):
    """Stochastic depth (Huang et al., ECCV 2016): leaves whole blocks out, for each cloud by itself."""

    def factors(self, blocks: int, clouds: int, like: Tensor) -> list[Tensor] | list[None]:
        """For each block (B,): 0 where it is left out, 1 / (1 - p) where not; None for no change."""
        if not self.training or self.p == 0:
            return [None] * blocks
        if self.keys is None:
            draws = torch.rand(clouds, blocks)
        else:  # on the processor, so that it is the same on every device
            generator = torch.Generator()
            draws = torch.stack([torch.rand(blocks, generator=generator.manual_seed(key)) for key in self.keys])
        kept = (draws >= self.p).to(dtype=like.dtype, device=like.device) / (1 - self.p)
        return list(kept.T.contiguous())


class Embedding(nn.Module):
    """Two branches joined: a linear map of the features, and the largest response to the differences to the neighbours.

    The paper's three BatchNorms are folded into the linear layers behind them. The statistics of a layer's output follow
    from the mean m and covariance S of its input: those of y = W x + b are W m + b and diag(W S W^T).

    Args:
        features: F.
        channels: C.
        inner: E.
    """

    def __init__(self, features: int, channels: int, inner: int) -> None:
        super().__init__()
        self.norm = RowBatchNorm(features)
        self.point = nn.Linear(features, channels)
        self.difference_norm = RowBatchNorm(features)
        self.difference = nn.Linear(features, inner, bias=False)
        self.inner_norm = RowBatchNorm(inner)
        self.inner = nn.Linear(inner, inner, bias=False)
        self.join = nn.Linear(channels + inner, channels)

    def forward(self, x_VF: Tensor, neighbours_VQ: Tensor) -> Tensor:
        """(V, C)"""
        with torch.autocast(x_VF.device.type, enabled=False):  # half precision would round coordinates to decimetres
            x_VF = x_VF.float() if x_VF.dtype in (torch.float16, torch.bfloat16) else x_VF
            scale_F, shift_F = scale_and_shift(self.norm, moments(x_VF) if self.norm.training else None)
            weight_CF, bias_C = self.point.weight, self.point.bias
            own_VC = functional.linear(x_VF, weight_CF * scale_F, bias_C + weight_CF @ shift_F)
            differences_VQF = x_VF[neighbours_VQ] - x_VF[:, None]
            moments_of = _linear_moments(differences_VQF.flatten(0, 1)) if self.difference_norm.training else None
            weight_EF, bias_E = self.folded(scale_F, moments_of)
        around = [self._response(part_vQF, weight_EF, bias_E) for part_vQF in differences_VQF.split(PARTS)]
        joined_VC: Tensor = self.join(torch.cat([own_VC, torch.cat(around).to(own_VC.dtype)], dim=1))
        return joined_VC

    def _response(self, differences_vQF: Tensor, weight_EF: Tensor, bias_E: Tensor) -> Tensor:
        with torch.autocast(differences_vQF.device.type, enabled=False):
            hidden_vQE = functional.relu_(functional.linear(differences_vQF, weight_EF, bias_E))
        largest_vE: Tensor = self.inner(hidden_vQE).max(dim=1).values
        return largest_vE

    def folded(self, scale_F: Tensor | None = None, moments_of: LinearMoments | None = None) -> tuple[Tensor, Tensor]:
        """Weight (E, F) and bias (E,) that act on plain differences as norm, difference_norm, difference and inner_norm.

        Args:
            scale_F: of `norm`; None for that of prediction.
            moments_of: in training, the moments of what a linear layer makes of the differences.
        """
        scale_F = self.norm.scale_and_shift()[0] if scale_F is None else scale_F
        first = None if moments_of is None else moments_of(torch.diag(scale_F), torch.zeros_like(scale_F))
        slope_F, shift_F = scale_and_shift(self.difference_norm, first)
        weight_EF = self.difference.weight * (slope_F * scale_F)
        bias_E = self.difference.weight @ shift_F
        second = None if moments_of is None else moments_of(weight_EF, bias_E)
        slope_E, shift_E = scale_and_shift(self.inner_norm, second)
        return slope_E[:, None] * weight_EF, slope_E * bias_E + shift_E


def _linear_moments(rows_RF: Tensor) -> LinearMoments:
    """A function (weight, bias) -> the moments of what a linear layer makes of the rows."""
    mean_F = rows_RF.mean(dim=0)
    centred_RF = rows_RF - mean_F
    covariance_FF = centred_RF.T @ centred_RF / len(rows_RF)

    def of(weight_EF: Tensor, bias_E: Tensor) -> Moments:
        var_E = ((weight_EF @ covariance_FF) * weight_EF).sum(dim=1)
        return Moments(weight_EF @ mean_F + bias_E, var_E, len(rows_RF))

    return of


class SpatialMix(nn.Module):
    """Mixes voxels on a plane: the mean of each cell, two depthwise 3 x 3 convolutions, back to the voxels; residual.

    BatchNorm acts on the means of cells instead of the voxels, and LayerScale is folded into the second convolution: the
    same function with fewer passes over the rows.

    Args:
        channels: C.
        norm: "batch" or "layer".
        activation: "relu" or "gelu".
    """

    def __init__(self, channels: int, norm: str = "batch", activation: str = "relu") -> None:
        super().__init__()
        self.norm = NORMS[norm](channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.scale = nn.Parameter(torch.empty(channels).uniform_(-1.0, 1.0))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_VC: Tensor, plane: Plane, factor_B: Tensor | None = None) -> Tensor:
        """(V, C); `factor_B` scales what is added to each cloud."""
        image = plane.image(self._cell_means(x_VC, plane))
        image = self.activation(self.first(image))
        weight, bias = self.second.weight * self.scale[:, None, None, None], _bias(self.second) * self.scale
        mixed_OC = plane.cells(functional.conv2d(image, weight, bias, padding=1, groups=len(bias))).to(x_VC.dtype)
        if factor_B is not None:
            mixed_OC = mixed_OC * factor_B[plane.cloud_O][:, None]
        return x_VC + plane.groups.spread(mixed_OC)

    def _cell_means(self, x_VC: Tensor, plane: Plane) -> Tensor:
        """(O, C): means of the normalised voxels, in float32: sums over crowded cells."""
        counts_O1 = plane.groups.counts_G[:, None].to(x_VC.dtype)
        with torch.autocast(x_VC.device.type, enabled=False):
            if isinstance(self.norm, nn.LayerNorm):
                normalised: Tensor = self.norm(x_VC)
                return plane.groups.sum(normalised) / (counts_O1 + SMALL)
            scale_C, shift_C = scale_and_shift(self.norm, moments(x_VC) if self.norm.training else None)
            share_O1 = 1.0 / (counts_O1 + SMALL)
            return torch.addcmul(counts_O1 * share_O1 * shift_C, plane.groups.sum(x_VC), share_O1 * scale_C)


class ChannelMix(nn.Module):
    """Mixes the channels of each voxel by itself: a perceptron with one hidden layer of the same width; residual.

    BatchNorm is folded into the first linear layer in float32, LayerScale into the second.

    Args:
        channels: C.
        norm: "batch" or "layer".
        activation: "relu" or "gelu".
    """

    def __init__(self, channels: int, norm: str = "batch", activation: str = "relu") -> None:
        super().__init__()
        self.norm = NORMS[norm](channels)
        self.first = nn.Linear(channels, channels)
        self.second = nn.Linear(channels, channels)
        self.scale = nn.Parameter(torch.empty(channels).uniform_(-1.0, 1.0))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_VC: Tensor, factor_V1: Tensor | None = None) -> Tensor:
        """(V, C); `factor_V1` scales what is added to each voxel."""
        hidden_VC = self.activation(self._first(x_VC))
        added_VC = functional.linear(hidden_VC, self.second.weight * self.scale[:, None], self.second.bias * self.scale)
        added_VC = added_VC.to(x_VC.dtype)
        return x_VC + added_VC if factor_V1 is None else torch.addcmul(x_VC, added_VC, factor_V1)

    def _first(self, x_VC: Tensor) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            hidden_VC: Tensor = self.first(self.norm(x_VC))
            return hidden_VC
        scale_C, shift_C = scale_and_shift(self.norm, moments(x_VC) if self.norm.training else None)
        weight, bias = self.first.weight, self.first.bias
        if torch.is_autocast_enabled(
            x_VC.device.type
        ):  # half precision keeps too few digits of a row's distance to the mean
            return functional.linear(torch.addcmul(shift_C, x_VC, scale_C), weight, bias)
        return functional.linear(x_VC, weight * scale_C, bias + weight @ shift_C)


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def factors_of_voxels(factor_B: Tensor | None, counts: Sequence[int]) -> Tensor | None:
    """(B,) -> (V, 1)"""
    if factor_B is None:
        return None
    return torch.cat([factor.expand(count) for factor, count in zip(factor_B, counts, strict=True)])[:, None]
