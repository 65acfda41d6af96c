"""Layers that models share: the real points of a batch as rows, BatchNorm over them, and dropout that belongs to a cloud.

Legend: B clouds, N points, M real points of the batch, n rows of a cloud, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

__all__ = ["CloudDropout", "RowBatchNorm", "Rows"]


class Rows:
    """The real points of all clouds, one after the other, (M, C); everything that knows of padding is here.

    Without a mask the rows are a view of the batch.

    Args:
        shape: (B, N) of the batch.
        mask_BN: True = real point; None when all are.
    """

    def __init__(self, shape: Sequence[int], mask_BN: Tensor | None) -> None:
        self.clouds, self.points = int(shape[0]), int(shape[1])
        self.mask_BN = mask_BN
        self.cloud_M = None if mask_BN is None else torch.nonzero(mask_BN)[:, 0]

    def cloud_of_row(self, device: torch.device) -> Tensor:
        """(M,) int64: the cloud of each row."""
        if self.cloud_M is not None:
            return self.cloud_M
        return torch.arange(self.clouds, device=device).repeat_interleave(self.points)

    def take(self, x_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (M, C)"""
        return x_BNC.reshape(-1, x_BNC.shape[-1]) if self.mask_BN is None else x_BNC[self.mask_BN]

    def put(self, x_MC: Tensor) -> Tensor:
        """(M, C) -> (B, N, C), zeros where there is no point."""
        return self._padded(x_MC, 0.0)

    def max(self, x_MC: Tensor) -> Tensor:
        """(M, C) -> (B, C): the largest value in each cloud; 0 for a cloud without a point."""
        largest_BC = self._padded(x_MC, -torch.inf).max(dim=1).values
        return largest_BC if self.mask_BN is None else largest_BC.masked_fill(~self.mask_BN.any(dim=1)[:, None], 0.0)

    def transform(self, x_MC: Tensor, matrix_BCC: Tensor) -> Tensor:
        """Each row times its cloud's matrix."""
        return self.take(torch.bmm(self.put(x_MC), matrix_BCC))

    def add_per_cloud(self, x_MC: Tensor, y_BC: Tensor) -> Tensor:
        """Each row plus its cloud's vector."""
        if self.cloud_M is not None:
            return x_MC + y_BC[self.cloud_M]
        return (x_MC.view(self.clouds, self.points, -1) + y_BC[:, None]).view(x_MC.shape)

    @cached_property
    def counts(self) -> list[int]:
        """Points of each cloud."""
        if self.mask_BN is None:
            return [self.points] * self.clouds
        counts: list[int] = self.mask_BN.sum(dim=1).tolist()
        return counts

    def counts_like(self, x: Tensor) -> Tensor:
        """(B, 1) points of each cloud, at least 1 so that it can be a divisor, with the dtype and device of `x`."""
        return torch.tensor([max(1, count) for count in self.counts], dtype=x.dtype, device=x.device)[:, None]

    def shares_like(self, x: Tensor) -> Tensor:
        """(B, 1) share of all rows that belongs to each cloud, with the dtype and device of `x`."""
        total = max(1, self.total)
        return torch.tensor([count / total for count in self.counts], dtype=x.dtype, device=x.device)[:, None]

    @property
    def total(self) -> int:
        """M."""
        return sum(self.counts)

    def sum(self, x_MC: Tensor) -> Tensor:
        """(M, C) -> (B, C): sum over the points of each cloud."""
        if self.cloud_M is None:
            return x_MC.view(self.clouds, self.points, -1).sum(dim=1)
        return x_MC.new_zeros(self.clouds, x_MC.shape[1]).index_add_(0, self.cloud_M, x_MC)

    def _padded(self, x_MC: Tensor, value: float) -> Tensor:
        if self.mask_BN is None:
            return x_MC.view(self.clouds, self.points, -1)
        padded_BNC = x_MC.new_full((self.clouds, self.points, x_MC.shape[1]), value)
        padded_BNC[self.mask_BN] = x_MC
        return padded_BNC


class _SumOverRanks(torch.autograd.Function):
    """The sum of the processes' tensors; the gradient of each is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return _SumOverRanks.forward(ctx, grad)


class RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm (Ioffe and Szegedy 2015) of rows (M, C) that also accepts a single row.

    One row has no variance, and torch's own layer raises. Here the running statistics are used and left unchanged, so a
    last batch of one cloud still trains.

    Attributes:
        over_ranks: compute the statistics over the rows of all processes, as torch's SyncBatchNorm does on GPUs.
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

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What it does in prediction, as x * scale + shift, (C,) each, to be folded into a neighbouring layer."""
        assert self.running_mean is not None
        assert self.running_var is not None
        scale_C = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale_C, self.bias - self.running_mean * scale_C

    def statistics(self, mean_C: Tensor, var_C: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Mean and variance (C,) that normalise a training batch; updates the running statistics.

        Args:
            mean_C, var_C: over the rows of this process; the variance is divided by `rows`.
            rows: rows of this process.
        """
        total = rows
        if self._shared():
            # law of total variance over ranks; the sum's gradient is the sum of the ranks' gradients
            counts = mean_C.new_tensor([float(rows)])
            distributed.all_reduce(counts)
            total = round(float(counts))
            share = rows / max(1, total)
            own_C = mean_C
            mean_C = _SumOverRanks.apply(own_C * share)  # type: ignore[assignment]
            var_C = _SumOverRanks.apply((var_C + (own_C - mean_C).square()) * share)  # type: ignore[assignment]
        if total <= 1:
            assert self.running_mean is not None
            assert self.running_var is not None
            return self.running_mean, self.running_var
        self._update(mean_C.detach(), var_C.detach(), total)
        return mean_C, var_C

    def summed_over_ranks(self, *totals: Tensor) -> tuple[Tensor, ...]:
        """Sums of this process turned into sums over all, without a gradient; unchanged unless `over_ranks`."""
        if self._shared():
            for total in totals:
                distributed.all_reduce(total)
        return totals

    def _shared(self) -> bool:
        return self.over_ranks and distributed.is_available() and distributed.is_initialized()

    @torch.no_grad()
    def _update(self, mean_C: Tensor, variance_C: Tensor, rows: int) -> None:
        """Move the running statistics towards those of a batch of at least two rows."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance_C * (rows / (rows - 1))).to(self.running_var.dtype), momentum)


class CloudDropout(nn.Dropout):
    """Dropout of rows (M, C).

    Attributes:
        keys: a seed for each cloud, so that its draws do not depend on how clouds are batched, padded or shared among
            processes; None uses torch's generator.
    """

    keys: Sequence[int] | None = None

    def forward(self, x_MC: Tensor, rows: Rows) -> Tensor:  # type: ignore[override]
        if not self.training or self.p == 0:
            return x_MC
        if self.keys is None:
            return F.dropout(x_MC, self.p)
        generator = torch.Generator(x_MC.device)
        kept_MC = torch.empty_like(x_MC)
        for number, kept_nC in zip(self.keys, kept_MC.split(rows.counts), strict=True):
            kept_nC.bernoulli_(1 - self.p, generator=generator.manual_seed(number))
        return x_MC * kept_MC.div_(1 - self.p)
