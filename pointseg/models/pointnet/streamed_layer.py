"""A layer and everything that needs its output, streamed: one pass forward, one pass backward.

Forward, for each part of the rows while it is in the cache: z = relu(W x + b), the sums of z - c and (z - c)(z - c)^T for the
moments (`moments`), and, if the next layer is pooled, the search for the winning rows (`sparse_max`).

Backward, with m the mean and S the second moment over n rows: their gradient reaches z through one product with a symmetric
matrix,

    dz = z Q + (dm / n - c Q),    Q = (dS + dS^T) / n                                                       (1)

to which the gradients of z itself and of the winning rows are added; then dz goes through the ReLU to W, b and x. So only z
is kept between two layers.

Legend: M rows, n rows of a part, B clouds, C input channels, O output channels, P pooled channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointseg.models.layers import Rows
from pointseg.models.pointnet.moments import Folded, Moments
from pointseg.models.pointnet.products import RowPart, parts_of
from pointseg.models.pointnet.sparse_max import WinnerSearch

__all__ = ["Streamed", "streamed_layer"]


class Streamed(NamedTuple):
    """Rows (M, O), their moments, and the winning rows (clouds with a point, P, O) if they were searched."""

    rows_MO: Tensor
    moments: Moments
    winners: Tensor


def streamed_layer(
    x_MC: Tensor, rows: Rows, layer: Folded | None, *, each_cloud: bool = False, pooled: Tensor | None = None
) -> Streamed:
    """relu(W x + b) with its moments and winners; without a layer, those of x itself.

    Args:
        rows: which cloud each row belongs to.
        layer: with its BatchNorm folded in.
        each_cloud: compute second moments for each cloud, because the next layer has other weights for each.
        pooled: weights (P, O) or (B, P, O) whose largest products are searched in each cloud.
    """
    kind = x_MC.device.type
    weight, bias = (None, None) if layer is None else (layer.weight, layer.bias)
    if layer is not None and torch.is_autocast_enabled(kind):
        half = torch.get_autocast_dtype(kind)
        x_MC, weight, bias = x_MC.to(half), layer.weight.to(half), layer.bias.to(half)
    with torch.autocast(kind, enabled=False):
        rows_MO, mean, second, shift, winners = _StreamedLayer.apply(x_MC, weight, bias, pooled, rows, each_cloud)
    return Streamed(rows_MO, Moments(mean, second, shift, rows), winners)


class _StreamedLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_MC: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        pooled: Tensor | None,
        rows: Rows,
        each_cloud: bool,
    ) -> Any:
        ctx.set_materialize_grads(False)
        exact = torch.promote_types(x_MC.dtype, torch.float32)
        z_MO = x_MC if weight is None else x_MC.new_empty(len(x_MC), weight.shape[-2])
        channels = z_MO.shape[1]
        mean = z_MO.new_zeros(rows.clouds, channels, dtype=exact)
        second = z_MO.new_zeros(*((rows.clouds,) if each_cloud else ()), channels, channels, dtype=exact)
        parts = parts_of(rows, x_MC.device, max(channels, x_MC.shape[1]))
        search = None if pooled is None else WinnerSearch(pooled.detach().to(z_MO.dtype), rows)
        shift = z_MO.new_zeros(channels, dtype=exact)
        for number, part in enumerate(parts):
            z = part.of(z_MO)
            if weight is not None and bias is not None:
                part.linear(part.of(x_MC), weight, bias, relu=True, out=z)
            if number == 0 and len(part):
                shift = z.mean(dim=0, dtype=exact)  # any constant near the mean keeps the moments from cancelling
            centred = z - shift
            part.add_sum(mean, centred)
            part.add_outer(second, centred, centred)
            if search is not None:
                search.look(part, z)
        mean /= rows.counts_like(mean)
        second /= rows.counts_like(mean)[..., None] if each_cloud else max(1, rows.total)
        places = z_MO.new_zeros(0, dtype=torch.int64) if search is None else search.places()
        ctx.save_for_backward(x_MC, z_MO, weight, bias, shift, places)
        ctx.rows, ctx.parts = rows, parts
        ctx.mark_non_differentiable(shift)
        return z_MO.view_as(z_MO) if weight is None else z_MO, mean, second, shift, z_MO[places]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> Any:  # type: ignore[override]
        x_MC, z_MO, weight, bias, shift, places = ctx.saved_tensors
        incoming = _Incoming(ctx.rows, ctx.parts, z_MO, shift, places, grads)
        if weight is None:
            grad_MO = torch.empty_like(z_MO)
            for part in ctx.parts:
                place = part.of(grad_MO)
                place.copy_(incoming.of(part, place))
            return grad_MO, None, None, None, None, None
        grad_x = torch.empty_like(x_MC) if ctx.needs_input_grad[0] else None
        exact = torch.promote_types(z_MO.dtype, torch.float32)
        grad_weight, grad_bias = (torch.zeros_like(t, dtype=exact) for t in (weight, bias))
        buffer = z_MO.new_empty(max(map(len, ctx.parts), default=0), z_MO.shape[1])
        for part in ctx.parts:
            z = part.of(z_MO)
            grad = _threshold_(incoming.of(part, buffer[: len(part)]), z)
            part.add_outer(grad_weight, grad, part.of(x_MC))
            part.add_sum(grad_bias, grad)
            if grad_x is not None:
                part.product(grad, weight, out=part.of(grad_x))
        return grad_x, grad_weight, grad_bias, None, None, None


def _threshold_(grad: Tensor, z: Tensor) -> Tensor:
    """The gradient of a ReLU, in place."""
    return torch.ops.aten.threshold_backward.grad_input(grad, z, 0, grad_input=grad)  # type: ignore[no-any-return]


class _Incoming:
    """The gradient of z: equation (1), the gradients of the rows themselves, and those of the winning rows."""

    def __init__(
        self,
        rows: Rows,
        parts: list[RowPart],
        z_MO: Tensor,
        shift_O: Tensor,
        places: Tensor,
        grads: tuple[Tensor | None, ...],
    ) -> None:
        self.z_MO = z_MO
        self.own_MO, mean, second, _, winners = grads
        self.symmetric: Tensor | None = None
        if mean is not None and second is not None:  # both are used or neither
            counts_B1 = rows.counts_like(second)
            self.symmetric = (second + second.mT) / (max(1, rows.total) if second.ndim == 2 else counts_B1[..., None])
            self.constant = mean / counts_B1 - shift_O @ self.symmetric
        self.order: Tensor | None = None
        if winners is not None:
            # sorted by row, so that each part finds its winners, and sums stay in order
            self.places, self.order = places.flatten().sort(stable=True)
            starts = [part.place.start for part in parts] + [parts[-1].place.stop if parts else 0]
            self.bounds = torch.searchsorted(self.places, torch.tensor(starts, device=places.device)).tolist()
            self.first = {part.place.start: number for number, part in enumerate(parts)}
            self.winners = winners.reshape(-1, winners.shape[-1])

    def of(self, part: RowPart, room: Tensor) -> Tensor:
        """(n, O), possibly in `room`."""
        if self.symmetric is None:
            out = room.zero_()
        elif room.dtype == self.symmetric.dtype:
            out = part.linear(part.of(self.z_MO), self.symmetric, self.constant, room=room)
        else:
            out = room.copy_(part.linear(part.of(self.z_MO).to(self.symmetric.dtype), self.symmetric, self.constant))
        if self.own_MO is not None:
            out += part.of(self.own_MO)
        if self.order is not None:
            number = self.first[part.place.start]
            mine = slice(self.bounds[number], self.bounds[number + 1])
            out.index_add_(0, self.places[mine] - part.place.start, self.winners[self.order[mine]].to(out.dtype))
        return out
