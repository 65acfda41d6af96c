"""The largest value of a linear layer over a cloud without the layer's output: search the winning rows, compute only them.

With BatchNorm folded into W' = s W (see `moments`), the max over points of relu(W' x + b') is relu(max(W' x) + b'), and the
winner of channel o depends on sign(gamma_o) W_o x alone, so it can be searched while x is computed. Then the values and
gradients of B x O products are computed instead of M x O. Of equal points the first one wins, as in `torch.max`.

Legend: M rows, n rows of a part, B clouds, C input channels, O output channels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.models.layers import Rows
from pointseg.models.pointnet import products
from pointseg.models.pointnet.moments import Folded
from pointseg.models.pointnet.products import RowPart, rows_at_once

__all__ = ["WinnerSearch", "sparse_max"]

BLOCK = 64  # rows: if products improve a channel, only the best block of them is searched
GPU_ROWS = 1 << 14


def sparse_max(winners: Tensor, folded: Folded, rows: Rows) -> Tensor:
    """(B, O): relu of the largest value in each cloud of the folded layer; 0 for a cloud without a point.

    Args:
        winners: the winning rows of each channel (clouds with a point, O, C).
        folded: the layer with its BatchNorm.
        rows: all rows.
    """
    filled = [cloud for cloud, count in enumerate(rows.counts) if count]
    weight = folded.weight if folded.weight.ndim == 2 else folded.weight[filled]
    bias = folded.bias if folded.bias.ndim == 1 else folded.bias[filled]
    values = F.relu((winners.to(weight.dtype) * weight).sum(dim=-1) + bias)
    if len(filled) == rows.clouds:
        return values
    places = torch.tensor(filled, device=values.device)
    return values.new_zeros(rows.clouds, values.shape[1]).index_copy(0, places, values)


class WinnerSearch:
    """For each cloud and channel, the first row whose product with the weights is the largest.

    Args:
        weight: (O, C), or (B, O, C) where each cloud has its own.
        rows: all rows, which `look` gets in order.
    """

    def __init__(self, weight: Tensor, rows: Rows) -> None:
        self.weight, self.rows = weight, rows
        channels = weight.shape[-2]
        self.best_BO = weight.new_full((rows.clouds, channels), -torch.inf)
        self.place_BO = torch.zeros(rows.clouds, channels, dtype=torch.int64, device=weight.device)
        start = 0
        for cloud, count in enumerate(rows.counts):  # if no product is a number, the cloud's first row
            self.place_BO[cloud] = start
            start += count
        longest = -(-max(rows.counts, default=0) // BLOCK) * BLOCK
        self._size = min(longest, rows_at_once(weight.device, channels)) if weight.device.type == "cpu" else GPU_ROWS
        self._products = weight.new_empty(channels, self._size if weight.device.type == "cpu" else 0)

    def look(self, part: RowPart, x_nC: Tensor) -> None:
        """Compare the rows of a part with earlier ones."""
        start = part.place.start
        clouds = enumerate(x_nC.split(self.rows.counts)) if part.cloud is None else [(part.cloud, x_nC)]
        for cloud, x_NC in clouds:
            for first in range(0, len(x_NC), self._size):
                self._look(cloud, start + first, x_NC[first : first + self._size])
            start += len(x_NC)

    def places(self) -> Tensor:
        """The winning rows (clouds with a point, O) int64."""
        return self.place_BO[[count > 0 for count in self.rows.counts]]

    def _look(self, cloud: int, first: int, x_nC: Tensor) -> None:
        weight_OC = self.weight if self.weight.ndim == 2 else self.weight[cloud]
        best_O, place_O = self.best_BO[cloud], self.place_BO[cloud]
        if x_nC.device.type != "cpu":
            product_On = weight_OC @ x_nC.mT
            largest_O, index_O = product_On.max(dim=1)
            # a GPU's argmax may give any of several equal values
            number_n = torch.arange(len(x_nC), device=x_nC.device)
            index_O = torch.where(product_On == largest_O[:, None], number_n, len(x_nC))
            better = largest_O > best_O
            place_O.copy_(torch.where(better, index_O.amin(dim=1) + first, place_O))
            best_O.copy_(torch.where(better, largest_O, best_O))
            return
        product_On = self._products
        if len(x_nC) == self._size:
            product_On = products.channels_first(weight_OC, x_nC, room=product_On)
        else:
            torch.mm(weight_OC, x_nC.mT, out=product_On[:, : len(x_nC)])
            product_On[:, len(x_nC) :] = -torch.inf
        product_Okn = product_On.view(len(product_On), -1, BLOCK)
        largest_Ok = product_Okn.amax(dim=2)
        improved = (largest_Ok.amax(dim=1) > best_O).nonzero()[:, 0]
        if len(improved):
            best_O[improved], block = largest_Ok[improved].max(dim=1)
            place_O[improved] = product_Okn[improved, block].argmax(dim=1).add_(block, alpha=BLOCK).add_(first)
