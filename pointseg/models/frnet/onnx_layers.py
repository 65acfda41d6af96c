"""An FRNet as ONNX, for one cloud: BatchNorm is in the weights, and pixels are an input, found outside of the graph.

A point on the edge of a pixel would else go to the neighbouring one, since arctangents of two libraries differ in their last
bit. Legend: M points of the cloud, F features, C, O channels, P pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import nn

from pointseg.models.base import GraphWriter
from pointseg.models.frnet.blocks import BasicBlock, Conv, Convolutions, ImageBatchNorm, PointLayer
from pointseg.models.frnet.layers import FrustumEncoder, Fusion, ImageFusion, PixelPointLayer, PointHead
from pointseg.models.frnet.projection import RangeImage
from pointseg.models.graph_layers import GraphLayers

__all__ = ["COORDS", "FLOAT32_NODES", "PIXELS", "FRNetGraph"]

COORDS, PIXELS = "coords", "pixels"  # the further inputs
FLOAT32_NODES = ("encoder.0", "encoder.last")  # layers of coordinates, and the one before a maximum
BELOW_ALL = -3.0e38


class Network(Protocol):
    """The parts of an `FRNet`."""

    in_features: int
    range_image: RangeImage
    encoder: FrustumEncoder
    stem: Convolutions
    strides: list[int]
    stages: nn.ModuleList
    stem_fusion: Fusion | None
    fusions: nn.ModuleList | None
    fused_image: ImageFusion
    fused_points: nn.Sequential | None
    head: PointHead


class FRNetGraph(GraphLayers):
    """Writes a network into a graph.

    Args:
        graph: where to.
        model: what; its statistics are those of prediction.
    """

    def __init__(self, graph: GraphWriter, model: Network) -> None:
        super().__init__(graph)
        self.model = model
        self.size = model.range_image.height, model.range_image.width
        self._pixel_of: dict[int, str] = {}

    def write(self) -> None:
        """The whole network."""
        model, graph = self.model, self.graph
        coords_1N3 = graph.further_input(COORDS, [1, "points", 3])
        pixels_1N = graph.further_input(PIXELS, [1, "points"], integer=True)
        self._pixel_of[1] = graph.node("Reshape", [pixels_1N, graph.integers([-1])], "pixel")
        features_MF = graph.node("Reshape", [graph.input, graph.integers([-1, model.in_features])], "rows")
        coords_M3 = graph.node("Reshape", [coords_1N3, graph.integers([-1, 3])], "coords.rows")
        joined = graph.node("Concat", [features_MF, self._offsets(coords_M3)], "joined", axis=1)
        encoded, image = self._encode(joined)
        images, points = self._stages(image, encoded[-1])
        fused = self._fuse(images)
        skips: list[str | None] = [None, *encoded[-2::-1]]
        if model.fused_points is not None:
            fused_MC = graph.node("Concat", points, "fused_points.joined", axis=1)
            for number, layer in enumerate(model.fused_points):
                fused_MC = self._point_layer(fused_MC, cast(PointLayer, layer), f"fused_points.{number}")
            skips[0] = fused_MC
        logits_MK = self._head(fused, skips)
        graph.node("Unsqueeze", [logits_MK, graph.integers([0])], graph.output)

    # ---- between points and pixels -------------------------------------------------------------------------------

    def _shape(self, stride: int) -> tuple[int, int]:
        return -(-self.size[0] // stride), -(-self.size[1] // stride)

    def _pixel(self, stride: int) -> str:
        """(M,) the pixel of each point in the image at a stride."""
        if stride not in self._pixel_of:
            name = f"pixel.{stride}"

            def by(operator: str, value: str, number: int, part: str) -> str:
                return self.graph.node(operator, [value, self.graph.integers([number])], f"{name}.{part}")

            row = by("Div", by("Div", self._pixel_of[1], self.size[1], "full_row"), stride, "row")
            column = by("Div", by("Mod", self._pixel_of[1], self.size[1], "full_column"), stride, "column")
            before = by("Mul", row, self._shape(stride)[1], "before")
            self._pixel_of[stride] = self.graph.node("Add", [before, column], name)
        return self._pixel_of[stride]

    def _offsets(self, coords_M3: str) -> str:
        """(M, 3) metres from the mean of the pixel's points."""
        counted = self.graph.node("Concat", [coords_M3, self.ones(self._pixel(1), "one")], "offsets.counted", axis=1)
        cells = math.prod(self.size)
        sums_P4 = self.scattered(counted, self._pixel(1), cells, 4, "offsets.sum", "add")
        own_M4 = self.gathered(sums_P4, self._pixel(1), "offsets")
        parts = [
            self.columns(own_M4, *ends, f"offsets.{name}") for ends, name in (((0, 3), "sums"), ((3, 4), "points"))
        ]
        return self.graph.node("Sub", [coords_M3, self.graph.node("Div", parts, "offsets.mean")], "offsets")

    def _largest(self, x_MC: str, channels: int, stride: int, name: str) -> str:
        """Values of at least 0 -> image: the largest of the pixel's points, 0 where there is none."""
        shape = self._shape(stride)
        cells = self.scattered(x_MC, self._pixel(stride), math.prod(shape), channels, name, "max")
        return self.image(cells, shape, channels, name)

    def _of_pixel(self, cells_PC: str, stride: int, name: str) -> str:
        return self.gathered(cells_PC, self._pixel(stride), name)

    # ---- the parts -----------------------------------------------------------------------------------------------

    def _encode(self, features_MF: str) -> tuple[list[str], str]:
        """Outputs of the encoder's layers, and the image."""
        encoder = self.model.encoder
        scale, shift = encoder.norm.scale_and_shift()
        outputs: list[str] = []
        x_MC = features_MF
        for number, layer in enumerate(encoder.layers):
            weight, bias = cast(PointLayer, layer).folded()
            if number == 0:  # the norm of the features goes into the first layer
                weight, bias = weight * scale, bias + weight @ shift
            x_MC = self.linear(x_MC, weight, bias, f"encoder.{number}", relu=True)
            outputs.append(x_MC)
        outputs.append(self.linear(x_MC, encoder.last.weight, encoder.last.bias, "encoder.last", relu=False))
        channels, pixels = encoder.last.out_features, math.prod(self.size)
        name = "encoder.largest"
        largest = self.scattered(outputs[-1], self._pixel(1), pixels, channels, name, "max", BELOW_ALL)
        occupied = self.graph.node(
            "Greater", [largest, self.graph.floats(f"{name}.lowest", torch.tensor([BELOW_ALL]))], f"{name}.occupied"
        )
        zero = self.graph.floats(f"{name}.zero", torch.zeros(1))
        cells = self.graph.node("Where", [occupied, largest, zero], f"{name}.cells")
        small = self.linear(cells, encoder.compress.weight, encoder.compress.bias, "encoder.compress", relu=True)
        filled = self.columns(self.graph.node("Cast", [occupied], f"{name}.filled", to=1), 0, 1, f"{name}.column")
        image = self.graph.node("Mul", [small, filled], "encoder.compress.filled")
        return outputs, self.image(image, self.size, encoder.compress.out_features, "encoder")

    def _stages(self, image: str, x_MC: str) -> tuple[list[str], list[str]]:
        model, points = self.model, []
        image = self._convolutions(image, model.stem, "stem")
        if model.stem_fusion is not None:
            image, x_MC = self._fusion(image, x_MC, model.stem_fusion, 1, "stem_fusion")
            points.append(x_MC)
        images = [image]
        for number, (stage, stride) in enumerate(zip(model.stages, model.strides, strict=True)):
            for place, block in enumerate(cast(nn.Sequential, stage)):
                image = self._block(image, cast(BasicBlock, block), f"stages.{number}.{place}")
            if model.fusions is not None:
                fusion = cast(Fusion, model.fusions[number])
                image, x_MC = self._fusion(image, x_MC, fusion, stride, f"fusions.{number}")
                points.append(x_MC)
            images.append(image)
        return images, points

    def _fusion(self, image: str, x_MC: str, fusion: Fusion, stride: int, name: str) -> tuple[str, str]:
        x_MC = self._pixel_and_point(image, x_MC, fusion.points, stride, f"{name}.points")
        channels = fusion.points.pixel_channels
        largest = self._largest(x_MC, channels, stride, f"{name}.largest")
        both = self.graph.node("Concat", [largest, image], f"{name}.both", axis=1)
        joined = self._convolutions(both, fusion.image, f"{name}.image")
        if fusion.gate is None:
            return joined, x_MC
        gate = self._convolutions(joined, fusion.gate, f"{name}.gate")
        gated = self.graph.node("Mul", [joined, gate], f"{name}.gated")
        return self.graph.node("Add", [image, gated], name), x_MC

    def _pixel_and_point(self, image: str, x_MC: str, layer: PixelPointLayer, stride: int, name: str) -> str:
        weight, bias = layer.layer.folded()
        channels = layer.pixel_channels
        cells = self.cells(image, channels, f"{name}.pixels")
        on_pixels = self.linear(cells, weight[:, :channels], bias, f"{name}.of_pixels", relu=False)
        on_points = self.linear(x_MC, weight[:, channels:], torch.zeros_like(bias), f"{name}.of_points", relu=False)
        own = self._of_pixel(on_pixels, stride, name)
        return self.graph.node("Relu", [self.graph.node("Add", [own, on_points], f"{name}.sum")], name)

    def _fuse(self, images: Sequence[str]) -> str:
        """All images as one, of the size of the first."""
        fused = self.model.fused_image
        conv, norm, act = fused.first
        if conv.kernel_size == (1, 1):  # before the resizing, as in the model
            weight, bias = cast(Conv, conv).folded(cast(ImageBatchNorm, norm))
            parts = []
            for number, (image, own) in enumerate(zip(images, weight.split(fused.channels, dim=1), strict=True)):
                name = f"fused_image.first.{number}"
                convolved = self.conv(image, own, bias if number == 0 else None, name)
                parts.append(convolved if number == 0 else self._resized(convolved, len(bias), name))
            summed = self.graph.node("Sum", parts, "fused_image.first.sum")
            first = self._activated(summed, act, "fused_image.first.act")
        else:
            sized = [
                self._resized(image, fused.channels, f"fused_image.{i}") if i else image
                for i, image in enumerate(images)
            ]
            joined = self.graph.node("Concat", sized, "fused_image.joined", axis=1)
            first = self._convolutions(joined, fused.first, "fused_image.first")
        return self._convolutions(first, fused.second, "fused_image.second")

    def _resized(self, image: str, channels: int, name: str) -> str:
        sizes = self.graph.integers([1, channels, *self.size])
        how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
        return self.graph.node("Resize", [image, "", "", sizes], f"{name}.resized", **how)

    def _head(self, image: str, skips: Sequence[str | None]) -> str:
        head = self.model.head
        first, *others = (cast(PointLayer, layer) for layer in head.layers)
        cells = self.cells(image, cast(nn.Linear, first[0]).in_features, "head.pixels")
        x_MC = self._of_pixel(self._point_layer(cells, first, "head.0"), 1, "head.0")
        for number, (layer, skip) in enumerate(zip([None, *others], skips, strict=True)):
            if layer is not None:
                x_MC = self._point_layer(x_MC, layer, f"head.{number}")
            if skip is not None:
                x_MC = self.graph.node("Add", [x_MC, skip], f"head.{number}.skip")
        return self.linear(x_MC, head.classifier.weight, head.classifier.bias, "head.classifier", relu=False)

    # ---- the layers ----------------------------------------------------------------------------------------------

    def _point_layer(self, x_MC: str, layer: PointLayer, name: str) -> str:
        return self.linear(x_MC, *layer.folded(), name, relu=True)

    def _block(self, image: str, block: BasicBlock, name: str) -> str:
        shortcut = image
        if block.downsample is not None:
            conv, norm = block.downsample
            shortcut = self._conv(image, cast(Conv, conv), cast(ImageBatchNorm, norm), f"{name}.downsample")
        first = self._activated(self._conv(image, block.conv1, block.bn1, f"{name}.conv1"), block.act, f"{name}.act1")
        second = self._conv(first, block.conv2, block.bn2, f"{name}.conv2")
        return self._activated(self.graph.node("Add", [second, shortcut], f"{name}.sum"), block.act, name)

    def _convolutions(self, image: str, chain: Convolutions | nn.Sequential, name: str) -> str:
        layers = list(chain)
        for number, (conv, norm, act) in enumerate(zip(layers[0::3], layers[1::3], layers[2::3], strict=True)):
            convolved = self._conv(image, cast(Conv, conv), cast(ImageBatchNorm, norm), f"{name}.{number}")
            image = self._activated(convolved, act, f"{name}.{number}.act")
        return image

    def _conv(self, image: str, conv: Conv, norm: ImageBatchNorm, name: str) -> str:
        weight, bias = conv.folded(norm)
        return self.conv(image, weight, bias, name, stride=conv.stride[0])

    def _activated(self, image: str, act: nn.Module, name: str) -> str:
        return self.graph.node(
            {"ReLU": "Relu", "Hardswish": "HardSwish"}.get(type(act).__name__, "Sigmoid"), [image], name
        )
