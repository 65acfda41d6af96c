"""The largest value of a linear layer over a cloud without the layer's output: find who wins, compute only winners.

With BatchNorm folded into W' = s W (see `moments`), max over points of relu(W' x + b') is relu(max(W' x) + b'), and who
wins channel o depends on sign(s_o) W_o x alone. The winners are searched chunk by chunk without a gradient; then the value,
and through it the gradient, of B x O products is computed instead of M x O. Of equal points the first one wins, as in
`torch.max`.

Legend: M rows, B clouds, C input channels, O output channels, n rows of a chunk.
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.models.moments import Folded
from pointseg.models.rows import Rows

__all__ = ["CHUNK", "sparse_max", "winners"]

CHUNK = 512  # rows: a chunk's products, 2 MB of 1,024 channels, stay in the processor's cache


def sparse_max(x_MC: Tensor, weight: Tensor, folded: Folded, rows: Rows) -> Tensor:
    """(B, O): relu of the largest value in each cloud of the folded layer; 0 for a cloud without a point.

    Args:
        x_MC: rows that go into the layer.
        weight: (O, C) of the layer before folding, or (B, O, C) where each cloud has its own.
        folded: the layer with its BatchNorm.
        rows: which cloud each row belongs to.
    """
    filled = [cloud for cloud, count in enumerate(rows.counts) if count]
    with torch.no_grad():
        signed = (weight * torch.sign(folded.scale)[:, None]).to(x_MC.dtype)
        ends = list(accumulate(rows.counts))
        won = []
        for cloud in filled:
            first = ends[cloud] - rows.counts[cloud]
            signed_OC = signed if signed.ndim == 2 else signed[cloud]
            won.append(winners(x_MC[first : ends[cloud]], signed_OC) + first)
    taken = x_MC[torch.stack(won)].to(folded.weight.dtype)  # (filled, O, C)
    folded_weight = folded.weight if folded.weight.ndim == 2 else folded.weight[filled]
    values = F.relu((taken * folded_weight).sum(dim=-1) + folded.bias)
    if len(filled) == rows.clouds:
        return values
    places = torch.tensor(filled, device=values.device)
    return values.new_zeros(rows.clouds, values.shape[1]).index_copy(0, places, values)


def winners(x_NC: Tensor, weight_OC: Tensor) -> Tensor:
    """(O,) int64: for each channel the first row of one cloud whose product with the weights is the largest.

    Channels are compared chunk by chunk; only those that a chunk improves, ever fewer of them, are looked at closely.
    """
    best_O = x_NC.new_full((len(weight_OC),), -torch.inf)
    index_O = torch.zeros(len(weight_OC), dtype=torch.int64, device=x_NC.device)
    buffer = x_NC.new_empty(len(weight_OC) * min(CHUNK, len(x_NC)))
    for start in range(0, len(x_NC), CHUNK):
        chunk_nC = x_NC[start : start + CHUNK]
        product_On = buffer[: len(weight_OC) * len(chunk_nC)].view(len(weight_OC), -1)
        torch.mm(weight_OC, chunk_nC.mT, out=product_On)
        largest_O = product_On.amax(dim=1)
        improved = (largest_O > best_O).nonzero()[:, 0]
        if len(improved):
            index_O[improved] = product_On[improved].argmax(dim=1) + start
            best_O[improved] = largest_O[improved]
    return index_O
