"""PointNet for segmentation (Qi, Su, Mo, Guibas, "PointNet: Deep Learning on Point Sets", CVPR 2017).

                    input     shared    feature   shared          max over
    features --> [ T-Net ] -> MLP ---> [ T-Net ] -> MLP ---------> points ---.
    (N, F)        3 x 3      64-64      64 x 64    64-128-1024     (1024)     |
                                          |                                  | repeated for every point
                                          `--> local (N, 64) ---------------[+]--> MLP 512-256-128 --> logits (N, K)

This is the plain implementation, to be read against the paper. One rearrangement changes nothing: the head's first layer
W [local; global] is computed as W_local local + W_global global, so that the global vector is multiplied once a cloud instead
of once a point.

Layers work on rows: the real points of all clouds, one after the other, (M, C). So padding cannot affect a BatchNorm
statistic; only the max needs to know which cloud a row belongs to.

Legend: B clouds, N points, M real points of the batch, F features, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.core.errors import ConfigError
from pointseg.core.extras import Extras
from pointseg.models.base import GraphWriter
from pointseg.models.layers import CloudDropout, RowBatchNorm, Rows
from pointseg.models.pointnet import inference as pointnet_inference
from pointseg.models.pointnet import training as pointnet_training
from pointseg.models.pointnet.blocks import PointNetLayers, SharedMLP, TNet
from pointseg.models.pointnet.onnx_layers import FLOAT32_NODES, PointNetGraph

__all__ = ["IMPLEMENTATIONS", "PointNetSeg", "orthogonality_penalty"]

IMPLEMENTATIONS = ("auto", "plain", "fast")


class PointNetSeg(PointNetLayers):
    """PointNet segmentation with optional T-Nets.

    Args:
        in_features: F. The input T-Net transforms the first three, which must be the coordinates.
        num_classes: K.
        local_widths: the shared MLP before the feature T-Net; the last one is the local feature.
        global_widths: the shared MLP before the max; the last one is the global feature.
        head_widths: the segmentation head.
        input_transform: learn a 3 x 3 transform of the coordinates for each cloud.
        feature_transform: learn a transform of the local features for each cloud, kept near orthogonal by the penalty
            ||I - A A^T||_F^2 (the paper's L_reg).
        dropout: before the last layer of the head.
        implementation: "plain", the definition in this module; "fast" or "auto", the same function of the same parameters,
            computed by `pointnet.training` and `pointnet.inference`. Not part of the model: checkpoints fit either.
        sync_batchnorm: in training on several processes, take BatchNorm's statistics over the batch of all of them. Not part
            of the model either.

    Example:
        >>> model = PointNetSeg(in_features=4, num_classes=19)
        >>> model(torch.rand(2, 4096, 4)).shape
        torch.Size([2, 4096, 19])
    """

    not_saved = ("implementation", "sync_batchnorm")
    float32_nodes = FLOAT32_NODES
    paper = "Qi, Su, Mo, Guibas: PointNet, CVPR 2017"
    points_per_pass = 1024  # about the size of training clouds, which determines what is pooled

    def __init__(
        self,
        in_features: int = 4,
        num_classes: int = 19,
        *,
        local_widths: Sequence[int] = (64, 64),
        global_widths: Sequence[int] = (64, 128, 1024),
        head_widths: Sequence[int] = (512, 256, 128),
        input_transform: bool = True,
        feature_transform: bool = True,
        dropout: float = 0.0,
        implementation: str = "auto",
        sync_batchnorm: bool = False,
    ) -> None:
        super().__init__()
        if implementation not in IMPLEMENTATIONS:
            raise ConfigError(
                f"there is no implementation {implementation!r}",
                where="model.implementation",
                remedy=f"Use {', '.join(IMPLEMENTATIONS)}.",
            )
        self.implementation = implementation
        if input_transform and in_features < 3:
            raise ConfigError(
                f"an input T-Net needs x, y, z and there are {in_features} features",
                where="model.input_transform",
                remedy="Begin features.use with x, y, z or set model.input_transform=false.",
            )
        local, head = local_widths[-1], head_widths[0]
        self.input_transform = TNet(in_features, 3) if input_transform else None
        self.local_mlp = SharedMLP(in_features, local_widths)
        self.feature_transform = TNet(local, local) if feature_transform else None
        self.global_mlp = SharedMLP(local, global_widths)
        self.head_first = nn.Linear(local + global_widths[-1], head)  # columns: local, then global
        self.head_norm = RowBatchNorm(head)
        self.head_mlp = SharedMLP(head, head_widths[1:])
        self.dropout = CloudDropout(dropout)
        self.classifier = nn.Linear(head_widths[-1], num_classes)
        for module in self.modules():
            if isinstance(module, RowBatchNorm):
                module.over_ranks = sync_batchnorm

    def check_features(self, use: Sequence[str]) -> None:
        if self.input_transform is not None and tuple(use[:3]) != ("x", "y", "z"):
            raise ConfigError(
                f"the input T-Net transforms the first three features, which are {', '.join(use[:3])}",
                where="features.use",
                remedy="Begin with x, y, z, or set model.input_transform=false.",
            )

    def write_onnx(self, graph: GraphWriter) -> None:
        PointNetGraph(graph).write(pointnet_inference.fold_model(self))

    def logits_and_penalty(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, N, K) and the mean over clouds of ||I - A A^T||_F^2, which is 0 in fast prediction."""
        if self.implementation != "plain" and not self.training and not torch.is_grad_enabled():
            return pointnet_inference.logits(self, features, mask), features.new_zeros(())
        rows = Rows(features.shape[:2], mask)
        x = rows.take(features)  # (M, F)
        penalty = features.new_zeros(())
        # where a part is frozen, its statistics are those of prediction, which the fast form of training does not use
        if self.implementation != "plain" and all(module.training for module in self.modules()):
            logits_MK, matrix = pointnet_training.logits_and_transform(self, x, rows)
            return rows.put(logits_MK), penalty if matrix is None else orthogonality_penalty(matrix)
        if self.input_transform is not None:
            matrix_B33 = self.input_transform(x, rows)
            x = torch.cat([rows.transform(x[:, :3], matrix_B33), x[:, 3:]], dim=1)
        local_MC = self.local_mlp(x)
        if self.feature_transform is not None:
            matrix_BCC = self.feature_transform(local_MC, rows)
            local_MC = rows.transform(local_MC, matrix_BCC)
            penalty = orthogonality_penalty(matrix_BCC)
        global_BC = rows.max(self.global_mlp(local_MC))
        return rows.put(self._head(local_MC, global_BC, rows)), penalty

    def _head(self, local_MC: Tensor, global_BC: Tensor, rows: Rows) -> Tensor:
        """(M, K): the layers after [local; global], the first one split as described above."""
        weight_local, weight_global = self.head_first.weight.split([local_MC.shape[1], global_BC.shape[1]], dim=1)
        per_cloud_BC = F.linear(global_BC, weight_global, self.head_first.bias)
        first_MC = rows.add_per_cloud(F.linear(local_MC, weight_local), per_cloud_BC)
        hidden_MC = self.head_mlp(F.relu(self.head_norm(first_MC)))
        logits_MK: Tensor = self.classifier(self.dropout(hidden_MC, rows))
        return logits_MK


def orthogonality_penalty(matrix_BCC: Tensor) -> Tensor:
    """Mean over clouds of ||I - A A^T||_F^2 (the paper's equation 2)."""
    identity = torch.eye(matrix_BCC.shape[-1], device=matrix_BCC.device, dtype=matrix_BCC.dtype)
    return (identity - matrix_BCC @ matrix_BCC.mT).square().sum(dim=(1, 2)).mean()
