"""BatchNorm over the real rows of a batch."""

from __future__ import annotations

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
