"""PointNetSeg's training pass, exact and several times faster than the plain form of `pointnet`.

The same function of the same parameters, with less work:

1. BatchNorm from moments of a layer's input, folded into its weights before the product (`moments`, equations 1-5).
2. Max over points from its winners alone: no M x 1024 activation, no gradient of it (`sparse_max`).
3. Transforms folded into the weights they meet: (x T) W^T = x (W T^T)^T, so neither the turned coordinates nor the turned
   features are made (`_turned`), and moments of x serve for x T.
4. The head's first layer on [local; global] as W_local local + (W_global global + b), a bias for each cloud (`_head`).

Autograd does the rest. Legend: B clouds, M rows (real points), C, O channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.models.moments import Moments, fold, linear_norm_relu
from pointseg.models.rows import Rows
from pointseg.models.sparse_max import sparse_max

if TYPE_CHECKING:
    from pointseg.models.pointnet import PointNetSeg, SharedMLP, TNet

__all__ = ["logits_and_transform"]


def logits_and_transform(model: PointNetSeg, x_MF: Tensor, rows: Rows) -> tuple[Tensor, Tensor | None]:
    """Logits (M, K) of rows of features, and the feature transform (B, C, C) if there is one."""
    first = coordinates = None
    if model.input_transform is not None:
        first = Moments(x_MF, rows, pooled=False)
        matrix_B33 = _t_net(model.input_transform, x_MF, rows, first)
        coordinates = _beside_identity(matrix_B33, x_MF.shape[1])
    local_MC = _mlp(model.local_mlp, x_MF, rows, first, coordinates)
    second = Moments(local_MC, rows, pooled=model.feature_transform is None)
    transform = None
    if model.feature_transform is not None:
        transform = _t_net(model.feature_transform, local_MC, rows, second)
    global_BC = _pooled(model.global_mlp, local_MC, rows, second, transform)
    return _head(model, local_MC, global_BC, rows, second, transform), transform


def _layers(mlp: SharedMLP) -> list[tuple[torch.nn.Linear, object]]:
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


def _mlp(
    mlp: SharedMLP, x_MC: Tensor, rows: Rows, moments: Moments | None, transform: Tensor | None = None, stop: int = 0
) -> Tensor:
    """All layers of an MLP but the last `stop`; the first one by moments that are there already."""
    layers = _layers(mlp)
    for number, (layer, norm) in enumerate(layers[: len(layers) - stop]):
        if number == 0 and moments is not None:
            folded = fold(moments, _turned(layer.weight, transform), layer.bias, norm)  # type: ignore[arg-type]
            x_MC = rows.linear_relu(x_MC, folded.weight, folded.bias)
        else:
            x_MC = linear_norm_relu(x_MC, layer, norm, rows)  # type: ignore[arg-type]
    return x_MC


def _pooled(mlp: SharedMLP, x_MC: Tensor, rows: Rows, moments: Moments, transform: Tensor | None = None) -> Tensor:
    """(B, O): an MLP and the max over each cloud."""
    hidden_MC = _mlp(mlp, x_MC, rows, moments, transform, stop=1)
    layer, norm = _layers(mlp)[-1]
    if len(mlp) > 3:
        moments, transform = Moments(hidden_MC, rows), None
    folded = fold(moments, _turned(layer.weight, transform), layer.bias, norm)  # type: ignore[arg-type]
    return sparse_max(hidden_MC, _turned(layer.weight, transform), folded, rows)


def _t_net(net: TNet, x_MC: Tensor, rows: Rows, moments: Moments) -> Tensor:
    """(B, C, C); the layers after the max see one row a cloud and stay plain."""
    matrix: Tensor = net.matrix(net.cloud_mlp(_pooled(net.point_mlp, x_MC, rows, moments)))
    return matrix.view(-1, net.size, net.size)


def _head(
    model: PointNetSeg, local_MC: Tensor, global_BC: Tensor, rows: Rows, moments: Moments, transform: Tensor | None
) -> Tensor:
    """(M, K): the layers after [local; global]."""
    local, pooled = model.head_first.weight.split([local_MC.shape[1], global_BC.shape[1]], dim=1)
    per_cloud_BO = F.linear(global_BC, pooled, model.head_first.bias)
    folded = fold(moments, _turned(local, transform), per_cloud_BO, model.head_norm)
    first_MO = rows.linear_relu(local_MC, folded.weight, folded.bias)
    logits_MK: Tensor = model.classifier(model.dropout(_mlp(model.head_mlp, first_MO, rows, None)))
    return logits_MK
