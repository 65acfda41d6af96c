"""Rows of voxels: mean and variance, and sums over cells, each with a backward pass of one read over the rows.

torch's own are exact too, and several times slower on a processor: `var_mean` over rows, and `index_add`.

Legend: V voxels, C channels, G groups of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pointseg.models.layers import RowBatchNorm

__all__ = ["Groups", "Moments", "moments", "scale_and_shift"]

CHUNK = 2048  # rows that stay in a processor's cache


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_VC: Tensor) -> tuple[Tensor, Tensor]:
        mean_C = x_VC.mean(dim=0)
        var_C = torch.zeros_like(mean_C)
        for rows in x_VC.split(CHUNK if x_VC.device.type == "cpu" else max(1, len(x_VC))):
            var_C += (rows - mean_C).square_().sum(dim=0)
        ctx.save_for_backward(x_VC, mean_C)
        return mean_C, var_C.div_(len(x_VC))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_mean_C: Tensor, grad_var_C: Tensor) -> Any:  # type: ignore[override]
        x_VC, mean_C = ctx.saved_tensors
        slope_C = 2.0 * grad_var_C / len(x_VC)
        return torch.addcmul(grad_mean_C / len(x_VC) - mean_C * slope_C, x_VC, slope_C)


class Moments(NamedTuple):
    """Mean (C,) and variance (C,), divided by the number of rows."""

    mean: Tensor
    var: Tensor
    rows: int


def moments(x_VC: Tensor) -> Moments:
    """Over the rows."""
    mean_C, var_C = _Moments.apply(x_VC)  # type: ignore[no-untyped-call]
    return Moments(mean_C, var_C, len(x_VC))


def scale_and_shift(norm: RowBatchNorm, batch: Moments | None) -> tuple[Tensor, Tensor]:
    """What a BatchNorm does, as x * scale + shift, (C,) each, to be folded into what follows.

    Args:
        batch: of its input in training; None in prediction.
    """
    if batch is None:
        return norm.scale_and_shift()
    mean_C, var_C = norm.statistics(*batch)
    scale_C = norm.weight * torch.rsqrt(var_C + norm.eps)
    return scale_C, norm.bias - mean_C * scale_C


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_VC: Tensor, groups: Groups) -> Tensor:
        ctx.groups = groups
        return groups.summed(x_VC)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_GC: Tensor) -> Any:  # type: ignore[override]
        return grad_GC.index_select(0, ctx.groups.group_V), None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_GC: Tensor, groups: Groups) -> Tensor:
        ctx.groups = groups
        return x_GC.index_select(0, groups.group_V)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_VC: Tensor) -> Any:  # type: ignore[override]
        return ctx.groups.summed(grad_VC), None


@dataclass(frozen=True)
class Groups:
    """Rows in groups.

    Attributes:
        group_V: the group of each row.
        order_V: the rows, group after group.
        start_G: where each group begins in `order_V`.
        counts_G: rows of each group, at least one.
    """

    group_V: Tensor
    order_V: Tensor
    start_G: Tensor
    counts_G: Tensor

    @classmethod
    def of(cls, group_V: Tensor, counts_G: Tensor) -> Groups:
        start_G = counts_G.cumsum(0) - counts_G
        return cls(group_V, torch.argsort(group_V, stable=True), start_G, counts_G)

    def sum(self, x_VC: Tensor) -> Tensor:
        """(G, C): the sum of each group's rows, always in the same order."""
        total_GC: Tensor = _Sum.apply(x_VC, self)  # type: ignore[no-untyped-call]
        return total_GC

    def spread(self, x_GC: Tensor) -> Tensor:
        """(V, C): each row gets what its group has."""
        spread_VC: Tensor = _Spread.apply(x_GC, self)  # type: ignore[no-untyped-call]
        return spread_VC

    def summed(self, x_VC: Tensor) -> Tensor:
        """`sum`, without a gradient."""
        return F.embedding_bag(self.order_V, x_VC, self.start_G, mode="sum")
