"""PointNetSeg's training pass: exact, and several times faster than the plain implementation in `network`.

The same function of the same parameters, with less work:

1. BatchNorm from the moments of a layer's input, folded into its weights before the product (`moments`, equations 1-5).
2. The max over points from its winners alone: no M x 1024 activation and no gradient of it (`sparse_max`).
3. Transforms folded into the weights that follow (`folded_transform`), so neither transformed coordinates nor transformed
   features exist, and the moments of x serve for x T.
4. The head's first layer on [local; global] as W_local local + (W_global global + b), a bias for each cloud (`_head`).
5. Rows streamed through the cache: everything that needs a layer's output uses it part by part while it is there
   (`streamed_layer`), and the head keeps only what it cannot recompute (`streamed_head`).

Legend: B clouds, M rows (real points), C, O channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.layers import RowBatchNorm, Rows
from pointseg.models.pointnet.blocks import PointNetLayers, SharedMLP, TNet, folded_transform
from pointseg.models.pointnet.moments import fold
from pointseg.models.pointnet.sparse_max import sparse_max
from pointseg.models.pointnet.streamed_head import streamed_head
from pointseg.models.pointnet.streamed_layer import Streamed, streamed_layer

__all__ = ["logits_and_transform"]


def logits_and_transform(model: PointNetLayers, x_MF: Tensor, rows: Rows) -> tuple[Tensor, Tensor | None]:
    """Logits (M, K) of rows of features, and the feature transform (B, C, C), None if the model has none."""
    features = streamed_layer(x_MF, rows, None, each_cloud=model.input_transform is not None)
    coordinates = None
    if model.input_transform is not None:
        coordinates = _beside_identity(_t_net(model.input_transform, features), x_MF.shape[1])
    local = _through(model.local_mlp.layers, features, coordinates, each_cloud=model.feature_transform is not None)
    transform = None if model.feature_transform is None else _t_net(model.feature_transform, local)
    global_BC = _pooled(model.global_mlp, local, transform)
    return _head(model, local, global_BC, transform), transform


def _beside_identity(matrix_B33: Tensor, channels: int) -> Tensor:
    """(B, 3, 3) -> (B, F, F): transforms the coordinates and keeps the other features."""
    identity = torch.eye(channels, dtype=matrix_B33.dtype, device=matrix_B33.device).repeat(len(matrix_B33), 1, 1)
    top = torch.cat([matrix_B33, identity[:, :3, 3:]], dim=2)
    return torch.cat([top, identity[:, 3:]], dim=1)


def _through(
    layers: list[tuple[nn.Linear, RowBatchNorm]],
    x: Streamed,
    transform: Tensor | None = None,
    *,
    each_cloud: bool = False,
    pooled: Tensor | None = None,
) -> Streamed:
    """Rows after all layers; `transform` is folded into the first, and the last is searched for `pooled`."""
    for number, (layer, norm) in enumerate(layers):
        folded = fold(x.moments, folded_transform(layer.weight, transform), layer.bias, norm)
        transform, last = None, number == len(layers) - 1
        x = streamed_layer(
            x.rows_MO, x.moments.rows, folded, each_cloud=each_cloud and last, pooled=pooled if last else None
        )
    return x


def _pooled(mlp: SharedMLP, x: Streamed, transform: Tensor | None = None) -> Tensor:
    """(B, O): an MLP and the max over each cloud."""
    *hidden, (layer, norm) = mlp.layers
    signs_O = torch.sign(norm.weight)[:, None]  # a negative scale makes the smallest value win
    if hidden:
        x, transform = _through(hidden, x, transform, pooled=signs_O * layer.weight), None
    else:
        searched = signs_O * folded_transform(layer.weight, transform)
        x = streamed_layer(x.rows_MO, x.moments.rows, None, each_cloud=transform is not None, pooled=searched)
    folded = fold(x.moments, folded_transform(layer.weight, transform), layer.bias, norm)
    return sparse_max(x.winners, folded, x.moments.rows)


def _t_net(net: TNet, x: Streamed) -> Tensor:
    """(B, C, C)"""
    return net.matrix_of(_pooled(net.point_mlp, x))  # after the max there is one row a cloud: the plain layers will do


def _head(model: PointNetLayers, local: Streamed, global_BC: Tensor, transform: Tensor | None) -> Tensor:
    """(M, K): the layers after [local; global]."""
    rows, channels = local.moments.rows, local.rows_MO.shape[1]
    weight_local, weight_global = model.head_first.weight.split([channels, global_BC.shape[1]], dim=1)
    per_cloud_BO = F.linear(global_BC, weight_global, model.head_first.bias)
    first = fold(local.moments, folded_transform(weight_local, transform), per_cloud_BO, model.head_norm)
    layers = model.head_mlp.layers
    if layers and rows.total > 1:
        hidden_MO = streamed_head(local.rows_MO, first, layers, rows)
    else:
        hidden_MO = model.head_mlp(streamed_layer(local.rows_MO, rows, first).rows_MO)
    logits_MK: Tensor = model.classifier(model.dropout(hidden_MO, rows))
    return logits_MK
