"""BatchNorm of a linear layer from the moments of its input: exact, and without a pass over its output.

Let rows x of C channels go through y = W x + b and BatchNorm. With mu = E[x] and S = Cov[x] over the batch,

    E[y] = W mu + b                                                                                        (1)
    Var[y] = diag(W S W^T)                                                                                 (2)

so that, with s = gamma / sqrt(Var[y] + eps), BatchNorm(y) = (s W) x + (s (b - E[y]) + beta): another linear layer   (3)

is known before the product, from a C x C matrix. If each cloud c has its own weights W_c and bias b_c (a transform folded in,
a global feature added), the law of total variance pools the clouds, c having the share p_c of all rows:

    E[y] = sum p_c m_c,  m_c = W_c mu_c + b_c                                                              (4)
    Var[y] = sum p_c diag(W_c S_c W_c^T) + sum p_c (m_c - E[y])^2                                          (5)

Moments are kept in float32 or better, of rows minus a constant, so that nothing cancels. `streamed_layer` computes them and
their backward pass, one product of the rows with a symmetric C x C matrix.

Legend: M rows (real points of the batch), B clouds, C input channels, O output channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.models.layers import RowBatchNorm, Rows

__all__ = ["Folded", "Moments", "fold"]


@dataclass(frozen=True)
class Folded:
    """Equation (3): weight (O, C) or (B, O, C), bias (O) or (B, O); scale (O), gamma / sqrt(var + eps)."""

    weight: Tensor
    bias: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Moments:
    """Moments of the rows that go into a layer.

    Attributes:
        mean_BC: means of each cloud, minus the shift.
        second: second moments about the shift, (C, C) of all rows, or (B, C, C) of each cloud if clouds differ in weights.
        shift_C: a constant near the mean.
        rows: which cloud each row belongs to.
    """

    mean_BC: Tensor
    second: Tensor
    shift_C: Tensor
    rows: Rows

    def of_linear(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (O,) of a linear layer's output: equations (1), (2), (4), (5).

        Args:
            weight: (O, C), or (B, O, C) with moments of each cloud.
            bias: (O), or (B, O).
        """
        share_B1 = self.rows.shares_like(weight)
        shifted_BO = self.mean_BC @ weight.mT if weight.ndim == 2 else (weight @ self.mean_BC[..., None])[..., 0]
        constant = weight @ self.shift_C + bias  # (O) or (B, O)
        mean_BO = shifted_BO + constant
        mean_O = (share_B1 * mean_BO).sum(dim=0)
        between_O = (share_B1 * (mean_BO - mean_O).square()).sum(dim=0)
        outer_BCC = self.mean_BC[:, :, None] * self.mean_BC[:, None]
        if weight.ndim == 2:
            total_CC = self.second
            if total_CC.ndim == 3:
                total_CC = (share_B1[..., None] * total_CC).sum(dim=0)
            within_CC = total_CC - (share_B1[..., None] * outer_BCC).sum(dim=0)
            within_O = (weight @ within_CC * weight).sum(dim=-1)
        else:
            within_BO = (weight @ (self.second - outer_BCC) * weight).sum(dim=-1)
            within_O = (share_B1 * within_BO).sum(dim=0)
        return mean_O, within_O.clamp(min=0.0) + between_O


def fold(moments: Moments, weight: Tensor, bias: Tensor, norm: RowBatchNorm) -> Folded:
    """A linear layer and its BatchNorm as one linear layer, equation (3); updates the running statistics.

    Args:
        weight: (O, C), or (B, O, C).
        bias: (O), or (B, O).
        norm: in training mode.
    """
    with torch.autocast(weight.device.type, enabled=False):
        weight, bias = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (weight, bias))
        mean_O, var_O = norm.statistics(*moments.of_linear(weight, bias), moments.rows.total)
        scale_O = norm.weight * torch.rsqrt(var_O + norm.eps)
        return Folded(scale_O[:, None] * weight, scale_O * (bias - mean_O) + norm.bias, scale_O)
