"""Parts of the rows that are worked on together, and the products that take a part at a time.

On a processor a part is a piece of one cloud that stays in the cache while all that is asked of it is done; on a GPU, which
wants much work at once, it is everything. Totals may be in a higher precision than the rows.

Legend: M rows, n rows of a part, B clouds, C, O channels. Per-cloud tensors have B in front: weights (B, O, C), bias (B, O).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.models import products
from pointseg.models.rows import Rows

__all__ = ["Part", "parts_of", "rows_at_once"]

SIZE = 1 << 19  # numbers in the widest rows of a part: 2 MB; smaller parts stay closer, and cost more in calls
LEAST, MOST = products.ROWS, 8 * products.ROWS


@dataclass(frozen=True)
class Part:
    """Rows `place` of `rows`; those of one `cloud`, or of all clouds (None)."""

    rows: Rows
    place: slice
    cloud: int | None

    def of(self, x_MC: Tensor) -> Tensor:
        """The part's rows (n, C): a view."""
        return x_MC[self.place]

    def __len__(self) -> int:
        return self.place.stop - self.place.start

    def linear(
        self,
        x_nC: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        relu: bool = False,
        out: Tensor | None = None,
        room: Tensor | None = None,
    ) -> Tensor:
        """x W^T + b (n, O), with weights (O, C) or (B, O, C) and bias (O) or (B, O); the rest as in `products.linear`."""
        if self.cloud is not None:
            return products.linear(x_nC, self._own(weight, 3), self._own(bias, 2), relu=relu, out=out, room=room)
        result = self._all_linear(x_nC, weight, bias)
        if relu:
            result.relu_()
        return result if out is None else out.copy_(result)

    def product(self, grad_nO: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """grad W (n, C) into `out`: what a linear layer gives back to its input."""
        if self.cloud is not None or weight.ndim == 2:
            return products.product(grad_nO, self._own(weight, 3), out=out)
        return out.copy_(self._all_linear(grad_nO, weight.mT, grad_nO.new_zeros(weight.shape[2])))

    def add_outer(self, total: Tensor, y_nO: Tensor, x_nC: Tensor) -> None:
        """Add y^T x to a total (O, C), or to that of each cloud (B, O, C)."""
        if total.dtype != y_nO.dtype:
            half = torch.zeros_like(total, dtype=y_nO.dtype)
            self.add_outer(half, y_nO, x_nC)
            total += half
        elif self.cloud is not None or total.ndim == 2:
            products.add_outer(self._own(total, 3), y_nO, x_nC)
        elif self.rows.cloud_M is None:
            shape = self.rows.clouds, self.rows.points, -1
            total.baddbmm_(y_nO.view(shape).mT, x_nC.view(shape))
        else:
            counts = self.rows.counts
            for own_OC, y, x in zip(total, y_nO.split(counts), x_nC.split(counts), strict=True):
                products.add_outer(own_OC, y, x)

    def add_sum(self, total: Tensor, x_nC: Tensor) -> None:
        """Add the sum of rows to a total (C), or to that of each cloud (B, C)."""
        if self.cloud is not None or total.ndim == 1:
            self._own(total, 2).add_(x_nC.sum(dim=0, dtype=total.dtype))
        else:
            total.add_(self.rows.sum(x_nC.to(total.dtype)))

    def _own(self, t: Tensor, dimensions: int) -> Tensor:
        """The cloud's share of a tensor that has one for each cloud."""
        return t[self.cloud] if self.cloud is not None and t.ndim == dimensions else t

    def _all_linear(self, x_MC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = self.rows
        if weight.ndim == 2 and bias.ndim == 1:
            return F.linear(x_MC, weight, bias)
        if rows.cloud_M is None:
            x_BNC, bias = x_MC.view(rows.clouds, rows.points, -1), bias.view(-1, 1, bias.shape[-1])
            matrix = weight.mT.expand(rows.clouds, -1, -1)
            return torch.baddbmm(bias.expand(rows.clouds, -1, -1), x_BNC, matrix).view(len(x_MC), -1)
        weights = weight.expand(rows.clouds, *weight.shape[-2:])
        biases = bias.expand(rows.clouds, bias.shape[-1])
        pieces = zip(x_MC.split(rows.counts), weights, biases, strict=True)
        return torch.cat([F.linear(piece, w, b) for piece, w, b in pieces])


def rows_at_once(device: torch.device, channels: int) -> int:
    """Rows of a part when the widest of its activations has so many channels; a GPU takes all."""
    return max(LEAST, min(MOST, SIZE // channels // LEAST * LEAST)) if device.type == "cpu" else sys.maxsize


def parts_of(rows: Rows, device: torch.device, channels: int) -> list[Part]:
    """All parts of the rows, in order; none crosses from one cloud to the next, but where it is everything."""
    if device.type != "cpu":
        return [Part(rows, slice(0, rows.total), None)]
    size = rows_at_once(device, channels)
    parts, start = [], 0
    for cloud, count in enumerate(rows.counts):
        end = start + count
        parts += [Part(rows, slice(first, min(first + size, end)), cloud) for first in range(start, end, size)]
        start = end
    return parts
