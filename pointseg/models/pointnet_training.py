"""PointNetSeg's training pass, exact and several times faster than the plain form of `pointnet`.

The same function of the same parameters, with less work:

1. BatchNorm from moments of a layer's input, folded into its weights before the product (`moments`, equations 1-5).
2. Max over points from its winners alone: no M x 1024 activation, no gradient of it (`sparse_max`).
3. Transforms folded into the weights they meet: (x T) W^T = x (W T^T)^T, so neither the turned coordinates nor the turned
   features are made (`_turned`), and moments of x serve for x T.
4. The head's first layer on [local; global] as W_local local + (W_global global + b), a bias for each cloud (`_head`).
5. Rows streamed through the cache: what is asked of a layer's output is done part by part while it is there
   (`streamed_layer`), and the head keeps nothing between its layers but what it cannot make anew (`streamed_head`).

What follows wires the layers up. Legend: B clouds, M rows (real points), C, O channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.moments import fold
from pointseg.models.norm import RowBatchNorm
from pointseg.models.rows import Rows
from pointseg.models.sparse_max import sparse_max
from pointseg.models.streamed_head import streamed_head
from pointseg.models.streamed_layer import Streamed, streamed_layer

if TYPE_CHECKING:
    from pointseg.models.pointnet import PointNetSeg, SharedMLP, TNet

__all__ = ["logits_and_transform"]

Layers = list[tuple[nn.Linear, RowBatchNorm]]


def logits_and_transform(model: PointNetSeg, x_MF: Tensor, rows: Rows) -> tuple[Tensor, Tensor | None]:
    """Logits (M, K) of rows of features, and the feature transform (B, C, C) if there is one."""
    features = streamed_layer(x_MF, rows, None, each_cloud=model.input_transform is not None)
    coordinates = None
    if model.input_transform is not None:
        coordinates = _beside_identity(_t_net(model.input_transform, features), x_MF.shape[1])
    local = _through(_layers(model.local_mlp), features, coordinates, each_cloud=model.feature_transform is not None)
    transform = None if model.feature_transform is None else _t_net(model.feature_transform, local)
    global_BC = _pooled(model.global_mlp, local, transform)
    return _head(model, local, global_BC, transform), transform


def _layers(mlp: SharedMLP) -> Layers:
    return [(mlp[i], mlp[i + 1]) for i in range(0, len(mlp), 3)]  # type: ignore[misc]


def _turned(weight_OC: Tensor, transform_BCC: Tensor | None) -> Tensor:
    """Weights (B, O, C) that do to x what (O, C) do to x T; those of all clouds without a transform."""
    return weight_OC if transform_BCC is None else weight_OC @ transform_BCC.mT


def _beside_identity(matrix_B33: Tensor, channels: int) -> Tensor:
    """(B, 3, 3) -> (B, F, F): the coordinates are turned, other features stay."""
    clouds = len(matrix_B33)
    whole = torch.eye(channels, dtype=matrix_B33.dtype, device=matrix_B33.device).repeat(clouds, 1, 1)
    rest = whole[:, 3:]
    top = torch.cat([matrix_B33, whole[:, :3, 3:]], dim=2)
    return torch.cat([top, rest], dim=1)


def _through(
    layers: Layers,
    x: Streamed,
    transform: Tensor | None = None,
    *,
    each_cloud: bool = False,
    pooled: Tensor | None = None,
) -> Streamed:
    """Rows after all layers; `transform` is folded into the first one, the last one is searched for `pooled`."""
    for number, (layer, norm) in enumerate(layers):
        folded = fold(x.moments, _turned(layer.weight, transform), layer.bias, norm)
        transform, last = None, number == len(layers) - 1
        x = streamed_layer(
            x.rows_MO, x.moments.rows, folded, each_cloud=each_cloud and last, pooled=pooled if last else None
        )
    return x


def _pooled(mlp: SharedMLP, x: Streamed, transform: Tensor | None = None) -> Tensor:
    """(B, O): an MLP and the max over each cloud."""
    *hidden, (layer, norm) = _layers(mlp)
    signs_O = torch.sign(norm.weight)[:, None]  # those of the scales: a negative one makes the smallest value win
    if hidden:
        x, transform = _through(hidden, x, transform, pooled=signs_O * layer.weight), None
    else:
        searched = signs_O * _turned(layer.weight, transform)
        x = streamed_layer(x.rows_MO, x.moments.rows, None, each_cloud=transform is not None, pooled=searched)
    folded = fold(x.moments, _turned(layer.weight, transform), layer.bias, norm)
    return sparse_max(x.winners, folded, x.moments.rows)


def _t_net(net: TNet, x: Streamed) -> Tensor:
    """(B, C, C); the layers after the max see one row a cloud and stay plain."""
    matrix: Tensor = net.matrix(net.cloud_mlp(_pooled(net.point_mlp, x)))
    return matrix.view(-1, net.size, net.size)


def _head(model: PointNetSeg, local: Streamed, global_BC: Tensor, transform: Tensor | None) -> Tensor:
    """(M, K): the layers after [local; global]."""
    rows, channels = local.moments.rows, local.rows_MO.shape[1]
    weight_local, weight_global = model.head_first.weight.split([channels, global_BC.shape[1]], dim=1)
    per_cloud_BO = F.linear(global_BC, weight_global, model.head_first.bias)
    first = fold(local.moments, _turned(weight_local, transform), per_cloud_BO, model.head_norm)
    layers = _layers(model.head_mlp)
    if layers and rows.total > 1:
        hidden_MO = streamed_head(local.rows_MO, first, layers, rows)
    else:
        hidden_MO = model.head_mlp(streamed_layer(local.rows_MO, rows, first).rows_MO)
    logits_MK: Tensor = model.classifier(model.dropout(hidden_MO, rows))
    return logits_MK
