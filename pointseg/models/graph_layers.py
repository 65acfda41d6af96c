"""Layers that several models write into an ONNX graph: linear, convolution, rows to cells and back.

The methods take and return names of tensors. Nodes are named by their layer.
Legend: M rows, C, O channels, P cells of an image, H x W.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pointseg.models.base import GraphWriter

__all__ = ["GraphLayers"]

OPSET = 18  # the first whose ScatterElements takes the largest


class GraphLayers:
    """Writes layers into a graph."""

    def __init__(self, graph: GraphWriter) -> None:
        self.graph = graph

    def linear(self, rows_MC: str, weight_OC: Tensor, bias_O: Tensor, name: str, *, relu: bool) -> str:
        """(M, O)"""
        inputs = [rows_MC, self.graph.floats(f"{name}.weight", weight_OC.T), self.graph.floats(f"{name}.bias", bias_O)]
        rows_MO = self.graph.node("Gemm", inputs, name)
        return self.graph.node("Relu", [rows_MO], f"{name}.relu") if relu else rows_MO

    def conv(
        self, image: str, weight: Tensor, bias_O: Tensor | None, name: str, *, stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution of an image (1, C, H, W) that keeps its size, or divides it by the stride."""
        size = weight.shape[-1]
        inputs = [image, self.graph.floats(f"{name}.weight", weight)]
        if bias_O is not None:
            inputs.append(self.graph.floats(f"{name}.bias", bias_O))
        settings = {"kernel_shape": [size, size], "pads": [size // 2] * 4, "strides": [stride, stride], "group": groups}
        return self.graph.node("Conv", inputs, name, **settings)

    def cells(self, image: str, channels: int, name: str) -> str:
        """An image (1, C, H, W) as rows (P, C)."""
        last = self.graph.node("Transpose", [image], f"{name}.channels_last", perm=[0, 2, 3, 1])
        return self.graph.node("Reshape", [last, self.graph.integers([-1, channels])], f"{name}.cells")

    def image(self, cells_PC: str, shape: tuple[int, int], channels: int, name: str) -> str:
        """Rows (P, C) as an image (1, C, H, W)."""
        last = self.graph.node("Reshape", [cells_PC, self.graph.integers([1, *shape, channels])], f"{name}.grid")
        return self.graph.node("Transpose", [last], f"{name}.image", perm=[0, 3, 1, 2])

    def gathered(self, cells_PC: str, index_M: str, name: str) -> str:
        """(M, C): the row of each index."""
        return self.graph.node("Gather", [cells_PC, index_M], f"{name}.gathered", axis=0)

    def scattered(
        self, rows_MC: str, index_M: str, cells: int, channels: int, name: str, reduction: str, empty: float = 0.0
    ) -> str:
        """Rows (M, C) -> cells (P, C): the sum ("add") or the largest ("max") of the rows with the same index, and of
        `empty`, which is also what cells without a row hold.

        ScatterND would need no index for each channel, but ONNX Runtime's lets threads write to one cell at once.
        """
        self.graph.opset = OPSET
        start = self.graph.floats(f"{name}.empty", _scalar(empty))
        empty_PC = self.graph.node("Expand", [start, self.graph.integers([cells, channels])], f"{name}.start")
        index_M1 = self.graph.node("Unsqueeze", [index_M, self.graph.integers([1])], f"{name}.index")
        shape = self.graph.node("Shape", [rows_MC], f"{name}.shape")
        index_MC = self.graph.node("Expand", [index_M1, shape], f"{name}.indices")
        return self.graph.node(
            "ScatterElements", [empty_PC, index_MC, rows_MC], f"{name}.{reduction}", axis=0, reduction=reduction
        )

    def ones(self, index_M: str, name: str) -> str:
        """(M, 1) ones, a row for each index."""
        index_M1 = self.graph.node("Unsqueeze", [index_M, self.graph.integers([1])], f"{name}.column")
        shape = self.graph.node("Shape", [index_M1], f"{name}.count")
        return self.graph.node("Expand", [self.graph.floats(f"{name}.one", _scalar(1.0)), shape], name)

    def columns(self, rows_MC: str, first: int, end: int, name: str) -> str:
        """(M, end - first)"""
        ends = [self.graph.integers([place]) for place in (first, end)]
        return self.graph.node("Slice", [rows_MC, *ends, self.graph.integers([1])], name)


def _scalar(value: float) -> Tensor:
    return torch.tensor([[value]])
