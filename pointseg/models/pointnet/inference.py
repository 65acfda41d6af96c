"""PointNetSeg's prediction: exact up to rounding, in constant memory, several times faster than the plain implementation.

1. BatchNorm is folded into the layer before it, in float64: s = gamma / sqrt(var + eps), W' = s W, b' = s (b - mean) + beta.
2. Transforms are folded into the weights that follow (`folded_transform`).
3. The head's first layer is W_local local + (W_global global + b): the global vector becomes a bias (`_predict`).
4. Max before bias and ReLU: max(relu(x W + b)) = relu(max(x W) + b) (`_Chunks.pool`).
5. Points are processed in chunks that stay in the processor's cache, in reused buffers, so no activation of a whole scan
   exists. Passes exchange one vector a cloud; local features are cheap and are computed again.

A point costs 621,568 multiply-adds instead of 1,149,961 with the paper's widths. The folded weights are cached and compared
with the model's at every call, so they are never stale, however the model was changed.

Legend: B clouds, N points, n points of a chunk, F features, C, O channels, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.layers import RowBatchNorm
from pointseg.models.pointnet import products
from pointseg.models.pointnet.blocks import PointNetLayers, SharedMLP, TNet, folded_transform

__all__ = ["FoldedPointNet", "fold_model", "logits"]

CPU_CHUNK, GPU_CHUNK = products.ROWS, 1 << 17  # points: a processor wants its cache, a GPU wants work


class Layer(NamedTuple):
    """A linear layer with its BatchNorm folded in: weight (O, C), bias (O)."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class FoldedTNet:
    """A T-Net: the layers before the max, those after it, and the one that gives the matrix."""

    shared: list[Layer]
    pooled: list[Layer]
    matrix: Layer
    size: int


@dataclass(frozen=True)
class FoldedPointNet:
    """The network without BatchNorm; the head's first layer is split into `head_local` and `head_global`."""

    input_transform: FoldedTNet | None
    local: list[Layer]
    feature_transform: FoldedTNet | None
    pooled: list[Layer]
    head_local: Tensor
    head_global: Layer
    head: list[Layer]


def fold_model(model: PointNetLayers) -> FoldedPointNet:
    """Copies of the model's weights with their BatchNorm folded in."""
    first = _fold(model.head_first, model.head_norm)
    widths = [mlp.layers[-1][0].out_features for mlp in (model.local_mlp, model.global_mlp)]
    local, pooled = first.weight.split(widths, dim=1)
    head = [*_fold_mlp(model.head_mlp), Layer(model.classifier.weight.clone(), model.classifier.bias.clone())]
    return FoldedPointNet(
        input_transform=_fold_t_net(model.input_transform),
        local=_fold_mlp(model.local_mlp),
        feature_transform=_fold_t_net(model.feature_transform),
        pooled=_fold_mlp(model.global_mlp),
        head_local=local.contiguous(),
        head_global=Layer(pooled.contiguous(), first.bias),
        head=head,
    )


def _fold(layer: nn.Linear, norm: RowBatchNorm) -> Layer:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale_O = norm.weight.double() * torch.rsqrt(norm.running_var.double() + norm.eps)
    weight = scale_O[:, None] * layer.weight.double()
    bias = scale_O * (layer.bias.double() - norm.running_mean.double()) + norm.bias.double()
    return Layer(weight.to(layer.weight.dtype), bias.to(layer.weight.dtype))


def _fold_mlp(mlp: SharedMLP) -> list[Layer]:
    return [_fold(layer, norm) for layer, norm in mlp.layers]


def _fold_t_net(net: TNet | None) -> FoldedTNet | None:
    if net is None:
        return None
    matrix = Layer(net.matrix.weight.clone(), net.matrix.bias.clone())
    return FoldedTNet(_fold_mlp(net.point_mlp), _fold_mlp(net.cloud_mlp), matrix, net.size)


_folded: WeakKeyDictionary[PointNetLayers, tuple[list[Tensor], FoldedPointNet]] = WeakKeyDictionary()


def _current(model: PointNetLayers) -> FoldedPointNet:
    """The folded network of the current weights."""
    now = [*model.parameters(), *(buffer for buffer in model.buffers() if buffer.is_floating_point())]
    known = _folded.get(model)
    if known is None or not _equal(known[0], now):
        known = [tensor.detach().clone() for tensor in now], fold_model(model)
        _folded[model] = known
    return known[1]


def _equal(before: list[Tensor], now: list[Tensor]) -> bool:
    """By value: version counters do not see what is written through `.data`."""
    if any(a.device != b.device or a.dtype != b.dtype or a.shape != b.shape for a, b in zip(before, now, strict=True)):
        return False
    if now[0].device.type == "cpu":
        return all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
    return torch.equal(*(torch.cat([tensor.reshape(-1) for tensor in tensors]) for tensors in (before, now)))


# ---- prediction ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def logits(model: PointNetLayers, features_BNF: Tensor, mask_BN: Tensor | None = None) -> Tensor:
    """Logits (B, N, K) in the extra memory of a chunk; zeros where there is no point."""
    net, kind = _current(model), features_BNF.device.type
    clouds, points, _ = features_BNF.shape
    result_BNK = features_BNF.new_zeros(clouds, points, model.num_classes)
    work = _Chunks(kind, torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None)
    with torch.autocast(kind, enabled=False):
        _predict_all(net, features_BNF, mask_BN, result_BNK, work)
    return result_BNK


def _predict_all(
    net: FoldedPointNet, features_BNF: Tensor, mask_BN: Tensor | None, result_BNK: Tensor, work: _Chunks
) -> None:
    """Logits of every cloud, those of real points only."""
    for cloud in range(len(features_BNF)):
        if mask_BN is None:
            _predict(net, features_BNF[cloud], result_BNK[cloud], work)
        elif bool(mask_BN[cloud].any()):
            rows_NF = features_BNF[cloud][mask_BN[cloud]]
            result_MK = rows_NF.new_empty(len(rows_NF), result_BNK.shape[2])
            _predict(net, rows_NF, result_MK, work)
            result_BNK[cloud][mask_BN[cloud]] = result_MK


def _predict(net: FoldedPointNet, x_NF: Tensor, result_NK: Tensor, work: _Chunks) -> None:
    """Logits of one cloud."""
    local = net.local
    if net.input_transform is not None:
        matrix_33 = _matrix(net.input_transform, work.pool(x_NF, [], net.input_transform.shared))
        beside = torch.eye(x_NF.shape[1], dtype=x_NF.dtype, device=x_NF.device)
        beside[:3, :3] = matrix_33
        local = _transformed(local, beside)
    pooled, head_local = net.pooled, net.head_local
    if net.feature_transform is not None:
        matrix_CC = _matrix(net.feature_transform, work.pool(x_NF, local, net.feature_transform.shared))
        pooled = _transformed(pooled, matrix_CC)
        head_local = head_local @ matrix_CC.T
    global_O = work.pool(x_NF, local, pooled)
    first = Layer(head_local, F.linear(global_O, *net.head_global))
    work.through(x_NF, [*local, first, *net.head], result_NK)


def _matrix(net: FoldedTNet, pooled_O: Tensor) -> Tensor:
    """(C, C)"""
    for layer in net.pooled:
        pooled_O = F.relu(F.linear(pooled_O, *layer))
    return F.linear(pooled_O, *net.matrix).view(net.size, net.size)


def _transformed(layers: list[Layer], matrix_CC: Tensor) -> list[Layer]:
    """Layers that do to x what the given ones do to x T."""
    first, *others = layers
    return [Layer(folded_transform(first.weight, matrix_CC), first.bias), *others]


class _Chunks:
    """Sends the points of a cloud through layers, a chunk at a time, in reused buffers.

    Under autocast (`half`) products are computed in half precision, except in the first layer: coordinates would be rounded
    to decimetres.
    """

    def __init__(self, device_type: str, half: torch.dtype | None) -> None:
        self.size, self.half = CPU_CHUNK if device_type == "cpu" else GPU_CHUNK, half
        self._buffers: dict[int, Tensor] = {}

    def pool(self, x_NF: Tensor, before: list[Layer], layers: list[Layer]) -> Tensor:
        """(O,): relu(max over points) after all layers of `before` and `layers`."""
        *hidden, last = [*before, *layers]
        best_O: Tensor | None = None
        for start in range(0, len(x_NF), self.size):
            chunk_nC = self._hidden(x_NF[start : start + self.size], hidden)
            chunk_nC, weight_OC = self._cast(len(hidden), chunk_nC, last.weight)
            product_On = self._room(len(hidden), chunk_nC, len(weight_OC), len(chunk_nC))
            product_On = products.channels_first(weight_OC, chunk_nC, room=product_On)
            largest_O = product_On.amax(dim=1).to(last.bias.dtype)
            best_O = largest_O if best_O is None else torch.maximum(best_O, largest_O)
        assert best_O is not None
        return F.relu(best_O + last.bias)

    def through(self, x_NF: Tensor, layers: list[Layer], result_NK: Tensor) -> None:
        """Write the output of all layers into `result_NK`; the last one has no ReLU."""
        *hidden, last = layers
        for start in range(0, len(x_NF), self.size):
            chunk_nC = self._hidden(x_NF[start : start + self.size], hidden)
            result_NK[start : start + self.size] = products.linear(*self._cast(len(hidden), chunk_nC, *last))

    def _hidden(self, chunk_nC: Tensor, layers: list[Layer]) -> Tensor:
        for number, layer in enumerate(layers):
            chunk_nC, weight_OC, bias_O = self._cast(number, chunk_nC, *layer)
            room_nO = self._room(number, chunk_nC, len(chunk_nC), len(weight_OC))
            chunk_nC = products.linear(chunk_nC, weight_OC, bias_O, relu=True, room=room_nO)
        return chunk_nC

    def _cast(self, number: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Inputs of layer `number` in its precision."""
        if self.half is None:
            return tensors
        dtype = self.half if number > 0 else torch.float32
        return tuple(tensor.to(dtype) for tensor in tensors)

    def _room(self, number: int, like: Tensor, *shape: int) -> Tensor:
        """The buffer of layer `number`; each layer has its own, since it cannot write into what it reads."""
        size, known = math.prod(shape), self._buffers.get(number)
        if known is None or known.dtype != like.dtype or len(known) < size:
            self._buffers[number] = known = like.new_empty(size)
        return known[:size].view(shape)
