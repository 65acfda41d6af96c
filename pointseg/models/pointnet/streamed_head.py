"""The segmentation head in training, streamed: layers with BatchNorm one after the other, a part of the rows at a time.

Between two BatchNorms only a layer's output before its BatchNorm, y, is kept. The next layer's input, relu(s y + t), is
computed again in the processor's cache wherever it is needed, and so is the head's first layer, which is cheap. So each pass
over the rows reads and writes little, and the widest activations never exist.

    z_0 = relu(W_0 local + b_0[cloud])        moments have folded BatchNorm into W_0 and b_0 (`moments`, equation 3)
    y_i = W_i z_(i-1) + b_i,   z_i = relu(s_i y_i + t_i),   s_i = gamma_i / sqrt(var_i + eps),  t_i = beta_i - s_i mean_i

Backward of BatchNorm over M rows (Ioffe and Szegedy 2015), with x = (y - mean) / sqrt(var + eps), g the gradient by s y + t:

    dy = s (g - sum(g) / M - x sum(g x) / M),   dgamma = sum(g x),   dbeta = sum(g)

The following layer computes both sums while it writes g. Moments of the input (`moments`) would be as exact but more work:
they grow with the square of its width, which here exceeds that of the output.

Legend: M rows, n rows of a part, C, O channels, B clouds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pointseg.models.layers import RowBatchNorm, Rows
from pointseg.models.pointnet import products
from pointseg.models.pointnet.moments import Folded
from pointseg.models.pointnet.products import RowPart, parts_of

__all__ = ["streamed_head"]


def streamed_head(local_MC: Tensor, first: Folded, layers: list[tuple[nn.Linear, RowBatchNorm]], rows: Rows) -> Tensor:
    """(M, O): relu of the first layer, then all `layers` with BatchNorm and ReLU.

    Args:
        local_MC: the local features.
        first: weight (O, C) or (B, O, C); bias (B, O), with the global feature in it.
        layers: at least one.
        rows: at least two.
    """
    parameters = [p for layer, norm in layers for p in (layer.weight, layer.bias, norm.weight, norm.bias)]
    kind = local_MC.device.type
    weight, bias_BO = first.weight, first.bias
    if torch.is_autocast_enabled(kind):
        half = torch.get_autocast_dtype(kind)
        local_MC, weight, bias_BO = local_MC.to(half), weight.to(half), bias_BO.to(half)
    with torch.autocast(kind, enabled=False):
        output: Tensor = _StreamedHead.apply(local_MC, weight, bias_BO, rows, [norm for _, norm in layers], *parameters)
    return output


class _Layer(NamedTuple):
    """A layer's weights in the precision of the rows, and its BatchNorm over the batch, (O,) each."""

    weight: Tensor
    bias: Tensor
    gamma: Tensor
    beta: Tensor
    mean: Tensor
    inverse: Tensor  # 1 / sqrt(var + eps)

    @property
    def scale(self) -> Tensor:
        return self.gamma * self.inverse

    @property
    def shift(self) -> Tensor:
        return self.beta - self.scale * self.mean


class _Activations:
    """Computes z_0, z_1, ... of a part from what is kept: y_1, y_2, ..., each a list with a tensor (n, O) for each part."""

    def __init__(self, local_MC: Tensor, weight: Tensor, bias_BO: Tensor) -> None:
        self.local_MC, self.weight, self.bias_BO = local_MC, weight, bias_BO
        self.ys: list[list[Tensor]] = []
        self.affine: list[tuple[Tensor, Tensor]] = []
        self._rooms: dict[int, Tensor] = {}

    def add(self, ys: list[Tensor], layer: _Layer) -> None:
        """The next y, with its BatchNorm."""
        self.ys.append(ys)
        self.affine.append((layer.scale.to(self.local_MC.dtype), layer.shift.to(self.local_MC.dtype)))

    def of(self, depth: int, number: int, part: RowPart, out: Tensor | None = None) -> Tensor:
        """z_depth of part `number` (n, O), in reused memory unless `out` is given."""
        if depth == 0:
            room = self.room(0, part, self.bias_BO.shape[1])
            return part.linear(part.of(self.local_MC), self.weight, self.bias_BO, relu=True, room=room)
        (scale_O, shift_O), y = self.affine[depth - 1], self.ys[depth - 1][number]
        out = self.room(depth, part, y.shape[1]) if out is None else out
        return torch.addcmul(shift_O, y, scale_O, out=out).relu_()

    def room(self, key: int, part: RowPart, channels: int) -> Tensor:
        """(n, channels) to write into, reused for the next part: fresh memory costs more than the work in it."""
        known = self._rooms.get(key)
        if known is None or len(known) < len(part) or known.shape[1] != channels:
            self._rooms[key] = known = self.local_MC.new_empty(len(part), channels)
        return known[: len(part)]


DY, DZ = -1, -2  # further rooms, beside those of the activations


class _StreamedHead(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        local_MC: Tensor,
        weight: Tensor,
        bias_BO: Tensor,
        rows: Rows,
        norms: list[RowBatchNorm],
        *parameters: Tensor,
    ) -> Tensor:
        parts = parts_of(rows, local_MC.device, bias_BO.shape[1])
        made = _Activations(local_MC, weight, bias_BO)
        layers: list[_Layer] = []
        for depth, norm in enumerate(norms):
            matrix, bias, gamma, beta = parameters[4 * depth : 4 * depth + 4]
            matrix, bias = matrix.to(local_MC.dtype), bias.to(local_MC.dtype)
            away = total = square = gamma.new_zeros(len(matrix))
            ys = []
            for number, part in enumerate(parts):
                y = products.linear(made.of(depth, number, part), matrix, bias)
                if number == 0:
                    away = y.mean(dim=0, dtype=gamma.dtype)  # near the mean, so that the squares do not cancel
                centred = y - away
                total, square = total + centred.sum(dim=0), square + centred.square_().sum(dim=0)
                ys.append(y)
            mean, variance = total / len(local_MC), square / len(local_MC)
            variance = (variance - mean.square()).clamp_(min=0.0)
            mean, variance = norm.statistics(mean + away, variance, len(local_MC))
            layers.append(_Layer(matrix, bias, gamma, beta, mean, torch.rsqrt(variance + norm.eps)))
            made.add(ys, layers[-1])
        output_MO = local_MC.new_empty(len(local_MC), len(layers[-1].bias))
        for number, part in enumerate(parts):
            made.of(len(layers), number, part, out=part.of(output_MO))
        kept = [tensor for layer in layers for tensor in layer]
        ctx.save_for_backward(local_MC, weight, bias_BO, output_MO, *kept, *(y for ys in made.ys for y in ys))
        ctx.norms, ctx.parts = norms, parts
        return output_MO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_MO: Tensor) -> Any:  # type: ignore[override]
        norms, parts = ctx.norms, ctx.parts
        local_MC, weight, bias_BO, output_MO, *rest = ctx.saved_tensors
        made, layers, y_of = _Activations(local_MC, weight, bias_BO), [], rest[6 * len(norms) :]
        for depth in range(len(norms)):
            layers.append(_Layer(*rest[6 * depth : 6 * depth + 6]))
            made.add(y_of[depth * len(parts) : (depth + 1) * len(parts)], layers[-1])
        sums, gs = _Sums(layers[-1]), []
        for number, part in enumerate(parts):
            gs.append(torch.ops.aten.threshold_backward(part.of(grad_MO), part.of(output_MO), 0))
            sums.add(gs[-1], made.ys[-1][number])
        exact = layers[0].gamma.dtype
        grad_local = torch.empty_like(local_MC)
        grad_weight, grad_bias = (torch.zeros_like(t, dtype=exact) for t in (weight, bias_BO))
        grads: list[Tensor] = []
        for depth in range(len(norms) - 1, -1, -1):
            layer, ys = layers[depth], made.ys[depth]
            grad_matrix = torch.zeros_like(layer.weight, dtype=exact)
            no_grad = torch.zeros_like(layer.mean)  # BatchNorm removes a bias: sum(dy) = 0
            grads = [grad_matrix, no_grad, sums.of_gamma(), sums.g, *grads]
            # dy = s g + (a + b y): two vectors instead of x
            b, a = (t.to(local_MC.dtype) for t in sums.mean_part(norms[depth], len(local_MC)))
            scale = layer.scale.to(local_MC.dtype)
            sums, below = _Sums(layers[depth - 1]), []
            for number, part in enumerate(parts):
                dy = torch.addcmul(a, ys[number], b, out=made.room(DY, part, len(b))).addcmul_(gs[number], scale)
                z = made.of(depth, number, part)
                part.add_outer(grad_matrix, dy, z)
                dz = products.product(dy, layer.weight, room=made.room(DZ, part, z.shape[1]) if depth == 0 else None)
                torch.ops.aten.threshold_backward.grad_input(dz, z, 0, grad_input=dz)
                if depth:
                    sums.add(dz, made.ys[depth - 1][number])
                    below.append(dz)
                else:
                    part.add_outer(grad_weight, dz, part.of(local_MC))
                    part.add_sum(grad_bias, dz)
                    part.product(dz, weight, out=part.of(grad_local))
            gs = below
        return grad_local, grad_weight, grad_bias, None, None, *grads


class _Sums:
    """sum(g) and sum(g (y - mean)) over the rows, for one BatchNorm."""

    def __init__(self, layer: _Layer) -> None:
        self.layer = layer
        self.g, self.centred = torch.zeros_like(layer.mean), torch.zeros_like(layer.mean)

    def add(self, g_nO: Tensor, y_nO: Tensor) -> None:
        self.g += g_nO.sum(dim=0, dtype=self.g.dtype)
        self.centred += ((y_nO - self.layer.mean) * g_nO).sum(dim=0)

    def of_gamma(self) -> Tensor:
        return self.centred * self.layer.inverse

    def mean_part(self, norm: RowBatchNorm, rows: int) -> tuple[Tensor, Tensor]:
        """b and a with -s (sum(g) + x sum(g x)) / M = a + b y, over the rows of all processes where BatchNorm is."""
        layer, rows_all = self.layer, self.g.new_tensor([float(rows)])
        g, centred, rows_all = norm.summed_over_ranks(self.g.clone(), self.of_gamma(), rows_all)
        b = -layer.scale * layer.inverse * centred / rows_all
        return b, -layer.scale * g / rows_all - b * layer.mean
