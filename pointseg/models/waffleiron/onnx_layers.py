"""A WaffleIron as ONNX, for one cloud: norms and LayerScale are in the weights; voxels, neighbours and cells are inputs.

They are what `WaffleIron.prepare` finds, which no operator of ONNX can. The planes are whole here instead of windows around
the occupied cells, with the same result. Legend: V voxels, F features, C, E channels, Q neighbours, P cells of a plane.
"""

from __future__ import annotations

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from pointseg.models.base import GraphWriter
from pointseg.models.graph_layers import GraphLayers
from pointseg.models.layers import RowBatchNorm
from pointseg.models.waffleiron.blocks import SMALL, ChannelMix, Embedding, SpatialMix
from pointseg.models.waffleiron.planes import PLANES

__all__ = ["FLOAT32_NODES", "INPUTS", "WaffleIronGraph"]

INPUTS = ("kept", "cells", "neighbours", "answer")  # of what `prepare` gives
FLOAT32_NODES = ("embedding.*",)  # layers of coordinates and of differences of coordinates


class Network(Protocol):
    """The parts of a `WaffleIron`."""

    in_features: int
    neighbours: int
    grid: tuple[int, ...]
    activation: str
    embedding: Embedding
    spatial: nn.ModuleList
    channel: nn.ModuleList
    head: nn.Module


class WaffleIronGraph(GraphLayers):
    """Writes a network into a graph.

    Args:
        graph: where to.
        model: what; its statistics are those of prediction.
    """

    def __init__(self, graph: GraphWriter, model: Network) -> None:
        super().__init__(graph)
        self.model = model
        self.channels = model.embedding.point.out_features

    def write(self) -> None:
        """The whole network."""
        model, graph = self.model, self.graph
        graph.opset = max(graph.opset, 18)
        sizes: tuple[tuple[str, list[int]], ...] = (
            ("voxels", []),
            ("voxels", [3]),
            ("voxels", [model.neighbours]),
            ("points", []),
        )
        given = {
            name: graph.further_input(name, [1, first, *rest], integer=True)
            for name, (first, rest) in zip(INPUTS, sizes, strict=True)
        }
        shapes = {"kept": [-1], "cells": [-1, 3], "neighbours": [-1, model.neighbours], "answer": [-1]}
        rows = {
            name: graph.node("Reshape", [given[name], graph.integers(shape)], f"{name}.rows")
            for name, shape in shapes.items()
        }
        features_NF = graph.node("Reshape", [graph.input, graph.integers([-1, model.in_features])], "rows")
        x_VC = self._embed(self.gathered(features_NF, rows["kept"], "kept"), rows["neighbours"], model.embedding)
        planes = [self._plane(rows["cells"], axes) for axes in PLANES[: len(model.spatial)]]
        counts = [self._counts(cell, shape, f"plane.{i}") for i, (cell, shape) in enumerate(planes)]
        for number, (spatial, channel) in enumerate(zip(model.spatial, model.channel, strict=True)):
            which = number % len(planes)
            cell_V, shape = planes[which]
            x_VC = self._spatial(x_VC, cast(SpatialMix, spatial), cell_V, shape, counts[which], f"spatial.{number}")
            x_VC = self._channel(x_VC, cast(ChannelMix, channel), f"channel.{number}")
        logits_VK = self._head(x_VC)
        logits_NK = self.gathered(logits_VK, rows["answer"], "answer")
        graph.node("Unsqueeze", [logits_NK, graph.integers([0])], graph.output)

    def _embed(self, x_VF: str, neighbours_VQ: str, embedding: Embedding) -> str:
        """(V, C)"""
        graph, features = self.graph, self.model.in_features
        scale_F, shift_F = embedding.norm.scale_and_shift()
        weight_CF, bias_C = embedding.point.weight, embedding.point.bias
        own = self.linear(x_VF, weight_CF * scale_F, bias_C + weight_CF @ shift_F, "embedding.point", relu=False)
        around_VQF = self.gathered(x_VF, neighbours_VQ, "embedding.neighbours")
        centre_V1F = graph.node("Unsqueeze", [x_VF, graph.integers([1])], "embedding.centre")
        differences = graph.node("Sub", [around_VQF, centre_V1F], "embedding.differences")
        flat = graph.node("Reshape", [differences, graph.integers([-1, features])], "embedding.differences.rows")
        inner = embedding.inner.weight
        hidden = self.linear(flat, *embedding.folded(), "embedding.difference", relu=True)
        response = self.linear(hidden, inner, torch.zeros(len(inner)), "embedding.inner", relu=False)
        parts = graph.integers([-1, self.model.neighbours, len(inner)])
        response_VQE = graph.node("Reshape", [response, parts], "embedding.responses")
        largest = graph.node("ReduceMax", [response_VQE, graph.integers([1])], "embedding.largest", keepdims=0)
        both = graph.node("Concat", [own, largest], "embedding.both", axis=1)
        return self.linear(both, embedding.join.weight, embedding.join.bias, "embedding.join", relu=False)

    def _plane(self, cells_V3: str, axes: tuple[int, int]) -> tuple[str, tuple[int, int]]:
        """The cell of each voxel on a plane, (V,), and the plane's shape."""
        name = f"plane.{axes[0]}{axes[1]}"
        shape = self.model.grid[axes[0]], self.model.grid[axes[1]]
        along = [self.columns(cells_V3, axis, axis + 1, f"{name}.{axis}") for axis in axes]
        before = self.graph.node("Mul", [along[0], self.graph.integers([shape[1]])], f"{name}.before")
        cell_V1 = self.graph.node("Add", [before, along[1]], f"{name}.cell")
        return self.graph.node("Reshape", [cell_V1, self.graph.integers([-1])], name), shape

    def _counts(self, cell_V: str, shape: tuple[int, int], name: str) -> tuple[str, str]:
        """(P, 1): voxels of a cell, and the inverse of their number."""
        counts = self.scattered(self.ones(cell_V, f"{name}.one"), cell_V, math.prod(shape), 1, f"{name}.counts", "add")
        small = self.graph.floats(f"{name}.small", torch.tensor([[SMALL]]))
        return counts, self.graph.node("Reciprocal", [self._sum(counts, small, f"{name}.above")], f"{name}.share")

    def _spatial(
        self, x_VC: str, mix: SpatialMix, cell_V: str, shape: tuple[int, int], counts: tuple[str, str], name: str
    ) -> str:
        means = self._cell_means(x_VC, mix.norm, cell_V, math.prod(shape), counts, name)
        image = self.image(means, shape, self.channels, name)
        image = self.conv(image, mix.first.weight, mix.first.bias, f"{name}.first", groups=self.channels)
        image = self._activated(image, f"{name}.first")
        assert mix.second.bias is not None
        weight, bias = mix.second.weight * mix.scale[:, None, None, None], mix.second.bias * mix.scale
        image = self.conv(image, weight, bias, f"{name}.second", groups=self.channels)
        added = self.gathered(self.cells(image, self.channels, f"{name}.mixed"), cell_V, f"{name}.mixed")
        return self._sum(x_VC, added, name)

    def _cell_means(
        self, x_VC: str, norm: nn.Module, cell_V: str, cells: int, counts: tuple[str, str], name: str
    ) -> str:
        """(P, C): means of the normalised voxels."""
        batch = isinstance(norm, RowBatchNorm)
        rows = x_VC if batch else self._layer_norm(x_VC, cast(nn.LayerNorm, norm), f"{name}.norm")
        sums = self.scattered(rows, cell_V, cells, self.channels, f"{name}.cells", "add")
        if isinstance(norm, RowBatchNorm):
            scale, shift = norm.scale_and_shift()
            scaled = self.graph.node("Mul", [sums, self.graph.floats(f"{name}.scale", scale)], f"{name}.scaled")
            moved = self.graph.node("Mul", [counts[0], self.graph.floats(f"{name}.shift", shift)], f"{name}.shifts")
            sums = self._sum(scaled, moved, f"{name}.normed")
        return self.graph.node("Mul", [sums, counts[1]], f"{name}.means")

    def _channel(self, x_VC: str, mix: ChannelMix, name: str) -> str:
        weight: Tensor = mix.first.weight
        bias: Tensor = mix.first.bias
        rows = x_VC
        if isinstance(mix.norm, RowBatchNorm):
            scale, shift = mix.norm.scale_and_shift()
            weight, bias = weight * scale, bias + weight @ shift
        else:
            rows = self._layer_norm(x_VC, mix.norm, f"{name}.norm")
        hidden = self._activated(self.linear(rows, weight, bias, f"{name}.first", relu=False), f"{name}.first")
        second, shift_C = mix.second.weight * mix.scale[:, None], mix.second.bias * mix.scale
        return self._sum(x_VC, self.linear(hidden, second, shift_C, f"{name}.second", relu=False), name)

    def _head(self, x_VC: str) -> str:
        layers = [self.model.head] if isinstance(self.model.head, nn.Linear) else list(self.model.head.children())
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        for number, layer in enumerate(linear):
            last = number == len(linear) - 1
            x_VC = self.linear(x_VC, layer.weight, layer.bias, f"head.{number}", relu=not last)
        return x_VC

    # ---- small parts ---------------------------------------------------------------------------------------------

    def _sum(self, one: str, other: str, name: str) -> str:
        return self.graph.node("Add", [one, other], name)

    def _layer_norm(self, x_VC: str, norm: nn.LayerNorm, name: str) -> str:
        inputs = [x_VC, self.graph.floats(f"{name}.weight", norm.weight), self.graph.floats(f"{name}.bias", norm.bias)]
        return self.graph.node("LayerNormalization", inputs, name, axis=-1, epsilon=norm.eps)

    def _activated(self, x: str, name: str) -> str:
        """ReLU, or GELU by its error function, which has an operator of its own only in opset 20."""
        if self.model.activation == "relu":
            return self.graph.node("Relu", [x], f"{name}.relu")
        half = self._times(x, math.sqrt(0.5), f"{name}.half")
        erf = self.graph.node("Erf", [half], f"{name}.erf")
        one = self.graph.floats(f"{name}.one", torch.ones(1))
        gate = self._times(self._sum(erf, one, f"{name}.above"), 0.5, f"{name}.gate")
        return self.graph.node("Mul", [x, gate], f"{name}.gelu")

    def _times(self, x: str, factor: float, name: str) -> str:
        values: Tensor = torch.tensor([factor])
        return self.graph.node("Mul", [x, self.graph.floats(f"{name}.factor", values)], name)
