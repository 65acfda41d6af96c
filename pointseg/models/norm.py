"""BatchNorm over the real rows of a batch, on one process or over all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["RowBatchNorm"]


class _SumOverRanks(torch.autograd.Function):
    """The sum of the processes' tensors; each gets the sum of their gradients back."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        total = grad.clone()
        distributed.all_reduce(total)
        return total


def _sum_over_ranks(own: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(own)
    return total


class RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm (Ioffe and Szegedy 2015) of rows (M, C), with a rule for a single row.

    One row has no variance. Then the running statistics are used, and left as they are, instead of the crash that
    torch's own layer ends in: a last batch of one cloud trains, it only does not inform the statistics of the T-Nets.

    Attributes:
        over_ranks: take the statistics of the rows of all processes of torch.distributed, as torch's SyncBatchNorm does.
    """

    over_ranks = False

    def forward(self, rows_MC: Tensor) -> Tensor:
        if not self.training:
            return super().forward(rows_MC)
        if self._shared():
            with torch.autocast(rows_MC.device.type, enabled=False):
                exact_MC = rows_MC.to(torch.promote_types(rows_MC.dtype, torch.float32))
                rows = len(exact_MC)
                mean_C = exact_MC.sum(dim=0) / max(1, rows)
                var_C = (exact_MC - mean_C).square().sum(dim=0) / max(1, rows)
                mean_C, var_C = self.statistics(mean_C, var_C, rows)
                scale_C = self.weight * torch.rsqrt(var_C + self.eps)
                return (exact_MC * scale_C + (self.bias - mean_C * scale_C)).to(rows_MC.dtype)
        if len(rows_MC) <= 1:
            return F.batch_norm(rows_MC, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(rows_MC)

    def statistics(self, mean_C: Tensor, var_C: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) to normalise a training batch with, from those of this process; moves the running ones.

        Args:
            mean_C, var_C: over the rows of this process; the variance divided by their number.
            rows: their number.
        """
        total = rows
        if self._shared():
            # law of total variance over ranks; the sum's gradient is the sum of the ranks' gradients
            counts = mean_C.new_tensor([float(rows)])
            distributed.all_reduce(counts)
            total = round(float(counts))
            share = rows / max(1, total)
            own_C = mean_C
            mean_C = _sum_over_ranks(own_C * share)
            var_C = _sum_over_ranks((var_C + (own_C - mean_C).square()) * share)
        if total <= 1:
            assert self.running_mean is not None
            assert self.running_var is not None
            return self.running_mean, self.running_var
        self._update(mean_C.detach(), var_C.detach(), total)
        return mean_C, var_C

    def summed_over_ranks(self, *totals: Tensor) -> tuple[Tensor, ...]:
        """Sums of this process to those of all, without a gradient; unchanged where ranks are not looked at."""
        if self._shared():
            for total in totals:
                distributed.all_reduce(total)
        return totals

    def _shared(self) -> bool:
        return self.over_ranks and distributed.is_available() and distributed.is_initialized()

    @torch.no_grad()
    def _update(self, mean_C: Tensor, variance_C: Tensor, rows: int) -> None:
        """Move the running statistics towards those of a batch of at least 2 rows."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance_C * (rows / (rows - 1))).to(self.running_var.dtype), momentum)
