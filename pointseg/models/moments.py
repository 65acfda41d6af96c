"""BatchNorm of a linear layer from the moments of its input, exact and without a pass over its output.

Let rows x of C channels go through y = W x + b, then BatchNorm. With mu = E[x] and S = Cov[x] over the batch,

    E[y] = W mu + b                                                                                        (1)
    Var[y] = diag(W S W^T)                                                                                 (2)

so that, with s = gamma / sqrt(Var[y] + eps), BatchNorm(y) = (s W) x + (s (b - E[y]) + beta): another linear layer   (3)

is known before the product is made, from a C x C matrix. Where cloud c has weights W_c and bias b_c of its own (a transform
folded in, a global feature added), the law of total variance pools clouds of the share p_c of all rows:

    E[y] = sum p_c m_c,  m_c = W_c mu_c + b_c                                                              (4)
    Var[y] = sum p_c diag(W_c S_c W_c^T) + sum p_c (m_c - E[y])^2                                          (5)

The backward pass of the moments is one product of the rows with a symmetric C x C matrix. Moments are kept in float32 or
better, of rows less a constant, so that nothing cancels.

Legend: M rows (real points of the batch), B clouds, C input channels, O output channels; V = B, or 1 where clouds are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.norm import RowBatchNorm
from pointseg.models.rows import Rows

__all__ = ["Folded", "Moments", "fold", "linear_norm_relu"]


@dataclass(frozen=True)
class Folded:
    """Equation (3): weight (O, C) or (B, O, C), bias (O) or (B, O); scale (O), gamma / sqrt(var + eps)."""

    weight: Tensor
    bias: Tensor
    scale: Tensor


class _ShiftedMoments(torch.autograd.Function):
    """Means (B, C) and second moments (V, C, C) of rows less a constant."""

    @staticmethod
    def forward(ctx: Any, x_MC: Tensor, shift_C: Tensor, rows: Rows, pooled: bool) -> tuple[Tensor, Tensor]:
        centred_MC = x_MC - shift_C
        mean_BC = rows.sum(centred_MC) / rows.counts_like(x_MC)
        if pooled:
            second_VCC = (centred_MC.mT @ centred_MC)[None] / max(1, len(x_MC))
        else:
            second_VCC = rows.gram(centred_MC) / rows.counts_like(x_MC)[..., None]
        ctx.save_for_backward(x_MC, shift_C)
        ctx.rows, ctx.pooled = rows, pooled
        return mean_BC, second_VCC

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_mean_BC, grad_second_VCC = grads
        x_MC, shift_C = ctx.saved_tensors
        rows: Rows = ctx.rows
        counts_B1 = rows.counts_like(x_MC)
        both_VCC = (grad_second_VCC + grad_second_VCC.mT) / (max(1, len(x_MC)) if ctx.pooled else counts_B1[..., None])
        bias_BC = grad_mean_BC / counts_B1 - (shift_C @ both_VCC).view(-1, len(shift_C))
        weight = both_VCC[0] if ctx.pooled else both_VCC  # symmetric: no transpose
        return rows.linear(x_MC, weight, bias_BC), None, None, None


class Moments:
    """Moments of the rows that go into a layer; of each cloud, or pooled where all clouds share their weights.

    Args:
        x_MC: the rows.
        rows: which cloud each belongs to.
        pooled: keep one second moment for all clouds.
    """

    def __init__(self, x_MC: Tensor, rows: Rows, *, pooled: bool = True) -> None:
        with torch.autocast(x_MC.device.type, enabled=False):
            x_MC = x_MC.float() if x_MC.dtype in (torch.float16, torch.bfloat16) else x_MC
            self.shift_C = x_MC.detach().mean(dim=0)
            self.mean_BC, self.second_VCC = _ShiftedMoments.apply(x_MC, self.shift_C, rows, pooled)
        self.rows = rows

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
            total_CC = self.second_VCC[0]
            if len(self.second_VCC) > 1:
                total_CC = (share_B1[..., None] * self.second_VCC).sum(dim=0)
            within_CC = total_CC - (share_B1[..., None] * outer_BCC).sum(dim=0)
            within_O = (weight @ within_CC * weight).sum(dim=-1)
        else:
            within_BO = (weight @ (self.second_VCC - outer_BCC) * weight).sum(dim=-1)
            within_O = (share_B1 * within_BO).sum(dim=0)
        return mean_O, within_O.clamp(min=0.0) + between_O


def fold(moments: Moments, weight: Tensor, bias: Tensor, norm: RowBatchNorm) -> Folded:
    """A linear layer and its BatchNorm as one linear layer, equation (3); updates the running statistics as BatchNorm does.

    Args:
        weight: (O, C), or (B, O, C).
        bias: (O), or (B, O).
        norm: in training mode.
    """
    with torch.autocast(weight.device.type, enabled=False):
        weight, bias = (t.to(torch.promote_types(t.dtype, torch.float32)) for t in (weight, bias))
        rows = moments.rows.total
        if rows <= 1:  # no variance: see RowBatchNorm
            assert norm.running_mean is not None
            assert norm.running_var is not None
            mean_O, var_O = norm.running_mean, norm.running_var
        else:
            mean_O, var_O = moments.of_linear(weight, bias)
            norm.update(mean_O.detach(), var_O.detach(), rows)
        scale_O = norm.weight * torch.rsqrt(var_O + norm.eps)
        return Folded(scale_O[:, None] * weight, scale_O * (bias - mean_O) + norm.bias, scale_O)


def linear_norm_relu(x_MC: Tensor, layer: nn.Linear, norm: RowBatchNorm, rows: Rows) -> Tensor:
    """relu(BatchNorm(W x + b)) of rows, by moments or from the output, whichever is less work."""
    if x_MC.shape[1] > WORTH * layer.out_features:
        return F.relu(norm(layer(x_MC)), inplace=True)
    folded = fold(Moments(x_MC, rows), layer.weight, layer.bias, norm)
    return rows.linear_relu(x_MC, folded.weight, folded.bias)


WORTH = 1.0  # input channels per output channel up to which moments are less work than passes over the output
