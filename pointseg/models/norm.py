"""BatchNorm over the real rows of a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["RowBatchNorm"]


class RowBatchNorm(nn.BatchNorm1d):
    """BatchNorm (Ioffe and Szegedy 2015) of rows (M, C), with a rule for a single row.

    One row has no variance. Then the running statistics are used, and left as they are, instead of the crash that
    torch's own layer ends in: a last batch of one cloud trains, it only does not inform the statistics of the T-Nets.
    """

    def forward(self, rows_MC: Tensor) -> Tensor:
        if self.training and len(rows_MC) <= 1:
            return F.batch_norm(rows_MC, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(rows_MC)

    @torch.no_grad()
    def update(self, mean_C: Tensor, variance_C: Tensor, rows: int) -> None:
        """Move the running statistics towards those of a batch, as `forward` does in training.

        Args:
            mean_C, variance_C: over the batch; the variance divided by the number of rows.
            rows: at least 2.
        """
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_((variance_C * (rows / (rows - 1))).to(self.running_var.dtype), momentum)
