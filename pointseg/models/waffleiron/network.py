"""WaffleIron (Puy, Boulch, Marlet, "Using a Waffle Iron for Automotive Point Cloud Semantic Segmentation", ICCV 2023).

    points --> one a voxel --> embedding with neighbours --> L layers --------------------------> linear --> every point
    (N, F)     (V, F)          (V, C)                        [ mixing on a plane, of channels ]   (V, K)     (N, K)

Layers take turns on the planes across z, y and x. No operation needs a compiled extension.

Legend: B clouds, N points, V voxels of the batch, F features, C channels, K classes, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from pointseg.core.errors import ConfigError
from pointseg.core.extras import Extras
from pointseg.core.limits import require_between, require_choice, require_positive
from pointseg.models.base import GraphWriter, SegmentationModel
from pointseg.models.layers import RowBatchNorm
from pointseg.models.waffleiron.blocks import (
    ACTIVATIONS,
    NORMS,
    ChannelMix,
    DropPath,
    Embedding,
    SpatialMix,
    factors_of_voxels,
)
from pointseg.models.waffleiron.onnx_layers import FLOAT32_NODES, INPUTS, WaffleIronGraph
from pointseg.models.waffleiron.planes import PLANES, Voxels
from pointseg.models.waffleiron.preparation import prepared

__all__ = ["HEADS", "WaffleIron"]

HEADS = ("linear", "mlp")
MOST = {"channels": 8192, "layers": 1000, "neighbours": 256}
MOST_CELLS = 1 << 24  # of a plane
MLP_WIDTH = 2048  # hidden channels of the head that ScaLR distils with


class WaffleIron(SegmentationModel):
    """WaffleIron, in its published form by default (48 layers of 256 channels: 6.84 million parameters).

    With norm="layer" and, for ScaLR+, activation="gelu" it is the network of the ScaLR foundation models (Puy et al., "Three
    Pillars improving Vision Foundation Model Distillation for Lidar", CVPR 2024).

    Args:
        in_features: F; the paper's are remission, x, y, z and range, as they are (offset 0, scale 1).
        num_classes: K.
        channels: C.
        layers: L.
        embedding_channels: of the neighbours' branch, which takes a large part of a small network's time; None: C.
        neighbours: nearest voxels that a voxel sees in the embedding.
        voxel: edge of the voxels of which one point is kept, metres.
        field_of_view: metres, from and to along x, y and z; points outside answer as the nearest voxel inside.
        grid: cells along x, y and z.
        drop_path: probability that a block is left out of a cloud's training.
        norm: "batch" or "layer", in the layers.
        activation: "relu" or "gelu", in the layers.
        head: "linear", or "mlp" with a hidden layer of 2,048.
        sync_batchnorm: in training on several processes, take BatchNorm's statistics over the batch of all of them. Not part
            of the model.

    Raises:
        ConfigError: naming the setting that cannot be used.

    Example:
        >>> model = WaffleIron(in_features=5, num_classes=19, channels=64, layers=6).eval()
        >>> model(torch.rand(2, 4096, 5), coords=10 * torch.rand(2, 4096, 3)).shape
        torch.Size([2, 4096, 19])
    """

    not_saved = ("sync_batchnorm",)
    paper = "Puy, Boulch, Marlet: WaffleIron, ICCV 2023"
    float32_nodes = FLOAT32_NODES

    def __init__(
        self,
        in_features: int = 5,
        num_classes: int = 19,
        *,
        channels: int = 256,
        layers: int = 48,
        embedding_channels: int | None = None,
        neighbours: int = 16,
        voxel: float = 0.1,
        field_of_view: Sequence[Sequence[float]] = ((-50.0, 50.0), (-50.0, 50.0), (-3.0, 2.0)),
        grid: Sequence[int] = (250, 250, 12),
        drop_path: float = 0.2,
        norm: str = "batch",
        activation: str = "relu",
        head: str = "linear",
        sync_batchnorm: bool = False,
    ) -> None:
        super().__init__()
        _check(field_of_view, grid)
        for name, value in (("channels", channels), ("layers", layers), ("neighbours", neighbours)):
            require_between(value, 1, MOST[name], f"model.{name}", "")
        require_positive(voxel, "model.voxel")
        require_between(drop_path, 0, 0.99, "model.drop_path")
        require_choice(norm, tuple(NORMS), "model.norm", "norm")
        require_choice(activation, tuple(ACTIVATIONS), "model.activation", "activation")
        require_choice(head, HEADS, "model.head", "head")
        self.neighbours, self.voxel, self.activation = neighbours, float(voxel), activation
        self.field_of_view = tuple((float(low), float(high)) for low, high in field_of_view)
        self.grid = tuple(int(cells) for cells in grid)
        self.embedding = Embedding(in_features, channels, embedding_channels or channels)
        self.spatial = nn.ModuleList(SpatialMix(channels, norm, activation) for _ in range(layers))
        self.channel = nn.ModuleList(ChannelMix(channels, norm, activation) for _ in range(layers))
        self.head: nn.Module = nn.Linear(channels, num_classes)
        if head == "mlp":
            self.head = nn.Sequential(nn.Linear(channels, MLP_WIDTH), nn.ReLU(), nn.Linear(MLP_WIDTH, num_classes))
        self.drop_path = DropPath(drop_path)
        for module in self.modules():
            if isinstance(module, RowBatchNorm):
                module.over_ranks = sync_batchnorm

    def prepare(self, coords: Tensor, features: Tensor) -> Extras:
        integers = prepared(
            coords.numpy(),
            voxel=self.voxel,
            field_of_view=np.array(self.field_of_view),
            grid=np.array(self.grid),
            neighbours=self.neighbours,
        )
        return {name: torch.from_numpy(values) for name, values in integers.items()}

    def graph_inputs(self, coords: Tensor, features: Tensor) -> Extras:
        found = self.prepare(coords, features)
        return {name: found[name].long() for name in INPUTS}

    def write_onnx(self, graph: GraphWriter) -> None:
        WaffleIronGraph(graph, self).write()

    def forward(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> Tensor:
        """Logits (B, N, K); without `extras`, which `prepare` makes of each cloud, they are made here."""
        if extras is None:
            extras = self._extras(features, coords, mask)
        clouds, points, _ = features.shape
        voxels = Voxels(extras, points, self.grid)
        x_VC = self.embedding(features.flatten(0, 1).index_select(0, voxels.point_V), voxels.neighbours_VQ)
        planes = [voxels.plane(axes) for axes in PLANES[: len(self.spatial)]]
        factors = self.drop_path.factors(2 * len(self.spatial), clouds, x_VC)
        for layer, (spatial, channel) in enumerate(zip(self.spatial, self.channel, strict=True)):
            x_VC = spatial(x_VC, planes[layer % len(planes)], factors[2 * layer])
            x_VC = channel(x_VC, factors_of_voxels(factors[2 * layer + 1], voxels.counts))
        logits_VK = self.head(x_VC)
        return logits_VK.index_select(0, voxels.answer_BN.flatten()).view(clouds, points, -1)

    def _extras(self, features: Tensor, coords: Tensor | None, mask: Tensor | None) -> Extras:
        """(B, ...), padded with zeros along their first dimension."""
        if coords is None:
            raise TypeError(
                "a WaffleIron needs the coordinates of the points, or the extras that `prepare` makes of them"
            )
        real = torch.ones(features.shape[:2], dtype=torch.bool) if mask is None else mask.cpu()
        real = real | (torch.arange(real.shape[1]) == 0) & ~real.any(dim=1, keepdim=True)  # a cloud has a point
        whole = []
        for cloud, real_N in enumerate(real):
            own = dict(self.prepare(coords[cloud].detach().cpu()[real_N].float(), features[cloud]))
            place_n = real_N.nonzero()[:, 0]
            answer_N = torch.zeros(len(real_N), dtype=torch.int32)
            answer_N[place_n] = own["answer"]
            whole.append({**own, "kept": place_n[own["kept"].long()], "answer": answer_N})
        return {
            name: pad_sequence([own[name] for own in whole], batch_first=True).to(features.device)
            if whole[0][name].ndim
            else torch.stack([own[name] for own in whole]).to(features.device)
            for name in whole[0]
        }


def _check(field_of_view: Sequence[Sequence[float]], grid: Sequence[int]) -> None:
    if len(field_of_view) != 3 or any(len(pair) != 2 or not pair[0] < pair[1] for pair in field_of_view):
        raise ConfigError(
            f"{[list(pair) for pair in field_of_view]} is not a field of view",
            where="model.field_of_view",
            remedy="Give from and to in metres along x, y and z: [[-50, 50], [-50, 50], [-3, 2]].",
        )
    if len(grid) == 3 and sorted(grid)[1] * sorted(grid)[2] > MOST_CELLS:
        raise ConfigError(f"{list(grid)} makes a plane of more than {MOST_CELLS:,} cells", where="model.grid")
    if len(grid) != 3 or min(grid) < 1:
        raise ConfigError(
            f"{list(grid)} are not cells along x, y and z", where="model.grid", remedy="Give three: [250, 250, 12]."
        )
