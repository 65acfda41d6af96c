"""The real points of a padded batch as rows, and the way back: all that knows of padding.

Legend: B clouds, N points, M real points of the batch, C, O channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Rows"]


class Rows:
    """The real points of all clouds, one after the other, (M, C). Without a mask they are a view of the batch.

    Args:
        shape: (B, N) of the batch.
        mask_BN: True = real point; None when all are.
    """

    def __init__(self, shape: Sequence[int], mask_BN: Tensor | None) -> None:
        self.clouds, self.points = int(shape[0]), int(shape[1])
        self.mask_BN = mask_BN
        self.cloud_M = None if mask_BN is None else torch.nonzero(mask_BN)[:, 0]

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

    # ---- what the fast form needs -------------------------------------------------------------------------------

    @cached_property
    def counts(self) -> list[int]:
        """Points of each cloud."""
        if self.mask_BN is None:
            return [self.points] * self.clouds
        counts: list[int] = self.mask_BN.sum(dim=1).tolist()
        return counts

    def counts_like(self, x: Tensor) -> Tensor:
        """Points of each cloud, at least 1 so that it may divide, (B, 1), of the type and device of a tensor."""
        return torch.tensor([max(1, count) for count in self.counts], dtype=x.dtype, device=x.device)[:, None]

    def shares_like(self, x: Tensor) -> Tensor:
        """The part of all rows that each cloud has, (B, 1)."""
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
