"""Networks of somebody who uses the library: none of them is known to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from pointseg.models import GraphWriter, SegmentationModel


class Pointwise(SegmentationModel):
    """Sees each point alone; the least that a model has to say."""

    def __init__(self, in_features: int, num_classes: int, width: int = 16, depths: Sequence[int] = (1,)) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layers(features)
        return logits


class Exported(Pointwise):
    """Says how it is exported."""

    float32_nodes = ("first",)

    def write_onnx(self, graph: GraphWriter) -> None:
        first, _, last = self.layers
        weight, bias = graph.floats("first.weight", first.weight.T), graph.floats("first.bias", first.bias)
        hidden = graph.node(
            "Relu",
            [graph.node("Add", [graph.node("MatMul", [graph.input, weight], "first"), bias], "biased")],
            "hidden",
        )
        product = graph.node("MatMul", [hidden, graph.floats("last.weight", last.weight.T)], "last")
        graph.node("Add", [product, graph.floats("last.bias", last.bias)], graph.output)


class Pillars(SegmentationModel):
    """A point and the mean of its pillar, whose numbers `prepare` finds: how many there are differs from cloud to cloud."""

    def __init__(self, in_features: int, num_classes: int, *, width: int = 16, edge: float = 2.0) -> None:
        super().__init__()
        self.edge = edge
        self.point = nn.Linear(in_features, width)
        self.around = nn.Linear(in_features, width)
        self.classifier = nn.Linear(width, num_classes)

    def prepare(self, coords: Tensor, features: Tensor) -> Mapping[str, Tensor]:
        cells = torch.div(coords[:, :2], self.edge, rounding_mode="floor")
        occupied, pillar_n, counts = torch.unique(cells, dim=0, return_inverse=True, return_counts=True)
        assert len(coords) == len(features)
        return {
            "pillar": pillar_n,
            "counts": counts,
            "pillars": torch.tensor(len(occupied)),
            "pid": torch.tensor(os.getpid()),
        }

    def forward(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        assert extras is not None
        own_BNC, around_BNC = self.point(features), self.around(features)
        if mask is not None:
            around_BNC = around_BNC.masked_fill(~mask[..., None], 0.0)
        index_BNC = extras["pillar"][..., None].expand_as(around_BNC)
        sums_BPC = around_BNC.new_zeros(len(features), extras["counts"].shape[1], around_BNC.shape[2])
        sums_BPC = sums_BPC.scatter_add(1, index_BNC, around_BNC)
        means_BPC = sums_BPC / extras["counts"].clamp(min=1)[..., None]
        logits: Tensor = self.classifier(torch.relu(own_BNC + means_BPC.gather(1, index_BNC)))
        return logits


class Shrunken(SegmentationModel):
    """A regulariser of its own, and subsets and votes of its own."""

    points_per_pass, votes = 300, 2

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(in_features, num_classes)

    def logits_and_penalty(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        return self.layer(features), self.layer.weight.square().sum()

    def check_features(self, use: Sequence[str]) -> None:
        from pointseg.core.errors import ConfigError

        if "z" not in use:
            raise ConfigError("heights are needed", where="features.use", remedy="Add z.")


class Plain(nn.Module):
    """A module that has never heard of the library, and looks at the whole cloud."""

    def __init__(self, in_features: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(in_features, width), nn.Linear(2 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden_BNC = torch.relu(self.first(x))
        whole_BNC = hidden_BNC.max(dim=1, keepdim=True).values.expand_as(hidden_BNC)
        logits: Tensor = self.last(torch.cat([hidden_BNC, whole_BNC], dim=-1))
        return logits


def plain_network(in_features: int, num_classes: int) -> Plain:
    return Plain(in_features, num_classes)
