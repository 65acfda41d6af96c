"""Dropout whose draws belong to a cloud: the same however clouds are batched, padded, or shared by processes.

Legend: M rows, n rows of a cloud, B clouds, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.rows import Rows

__all__ = ["CloudDropout"]


class CloudDropout(nn.Dropout):
    """Dropout of rows (M, C); where `keys` are set, a number for each cloud, what is dropped is a function of them."""

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
