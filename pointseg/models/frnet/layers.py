"""The parts of FRNet between points and pixels: the encoder, the fusions, the head.

Legend: B clouds, M points of the batch, m of them wanted, F features, C channels, P pixels, K classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.frnet.blocks import Conv, Convolutions, ImageBatchNorm, PointLayer
from pointseg.models.frnet.projection import Pixels
from pointseg.models.layers import RowBatchNorm

__all__ = ["FrustumEncoder", "Fusion", "ImageFusion", "PixelPointLayer", "PointHead", "resize"]


class FrustumEncoder(nn.Module):
    """An MLP on the features of each point, and the maximum over the points of each pixel.

    Args:
        in_features: F and the three offsets from the mean of the pixel's points.
        widths: of the MLP's layers.
        image_channels: of the image that comes out.
    """

    def __init__(self, in_features: int, widths: Sequence[int], image_channels: int) -> None:
        super().__init__()
        self.norm = RowBatchNorm(in_features)
        before = [in_features, *widths[:-2]]
        self.layers = nn.ModuleList(PointLayer(a, b) for a, b in zip(before, widths[:-1], strict=True))
        self.last = nn.Linear(widths[-2], widths[-1])
        self.compress = nn.Linear(widths[-1], image_channels)

    def forward(self, features_MF: Tensor, pixels: Pixels) -> tuple[list[Tensor], Tensor]:
        """Features of each layer, (M, width) each, and the image (B, C, H, W), zeros where no point is."""
        x_MC = self.norm(features_MF)
        outputs = []
        for layer in self.layers:
            x_MC = layer(x_MC)
            outputs.append(x_MC)
        outputs.append(self.last(x_MC))
        image_BCHW = pixels.maximum(outputs[-1])
        compressed = F.relu(self.compress(image_BCHW.permute(0, 2, 3, 1)))
        return outputs, (compressed * pixels.occupied()).permute(0, 3, 1, 2)


class PixelPointLayer(nn.Module):
    """Linear, BatchNorm, ReLU on [values of the point's pixel, values of the point]."""

    def __init__(self, pixel_channels: int, point_channels: int, out_channels: int) -> None:
        super().__init__()
        self.layer = PointLayer(pixel_channels + point_channels, out_channels)
        self.pixel_channels = pixel_channels

    def forward(self, image_BCHW: Tensor, x_MC: Tensor, pixels: Pixels, stride: int = 1) -> Tensor:
        linear, norm, relu = self.layer
        weight, bias = (linear.weight, None) if norm.training else self.layer.folded()
        weights = cast(Tensor, weight).split([self.pixel_channels, x_MC.shape[1]], dim=1)
        on_image = F.linear(image_BCHW.permute(0, 2, 3, 1), weights[0], bias).permute(0, 3, 1, 2)
        x_MC = pixels.gather(on_image, stride) + F.linear(x_MC, weights[1])
        joined_MC: Tensor = relu(norm(x_MC) if norm.training else x_MC)
        return joined_MC


class Fusion(nn.Module):
    """Points take the values of their pixel, pixels the largest of their points' new values, as much as a gate lets through.

    Args:
        channels: of image and points alike.
        point_channels: of the points before.
        gated: the sum with a gate, as after a stage; without it the joined values replace the image, as after the stem.
    """

    def __init__(self, channels: int, point_channels: int, act: str, *, gated: bool = True) -> None:
        super().__init__()
        self.points = PixelPointLayer(channels, point_channels, channels)
        self.image = Convolutions([2 * channels, channels], act)
        self.gate: nn.Sequential | None = None
        if gated:
            self.gate = Convolutions([channels, channels, channels], act)
            self.gate[-1] = nn.Sigmoid()

    def forward(self, image_BCHW: Tensor, x_MC: Tensor, pixels: Pixels, stride: int) -> tuple[Tensor, Tensor]:
        x_MC = self.points(image_BCHW, x_MC, pixels, stride)
        joined_BCHW = self.image(torch.cat([pixels.maximum(x_MC, stride), image_BCHW], dim=1))
        if self.gate is None:
            return joined_BCHW, x_MC
        return image_BCHW + joined_BCHW * self.gate(joined_BCHW), x_MC


class ImageFusion(nn.Module):
    """Joins images of several sizes, at the size of the first.

    Args:
        channels: of each image.
        count: of the images.
        widths: of the two convolutions.
        kernel_size: of the first convolution. One of size 1 comes before the resizing, which gives the same result.
    """

    def __init__(self, channels: int, count: int, widths: Sequence[int], kernel_size: int, act: str) -> None:
        super().__init__()
        self.first = Convolutions([channels * count, widths[0]], act, kernel_size)
        self.second = Convolutions(list(widths), act)
        self.channels = channels

    def forward(self, images: Sequence[Tensor]) -> Tensor:
        conv, norm, act = self.first
        shape = images[0].shape[-2:]
        if conv.kernel_size == (1, 1):
            weight, bias = (conv.weight, None) if norm.training else cast(Conv, conv).folded(cast(ImageBatchNorm, norm))
            weights = cast(Tensor, weight).split(self.channels, dim=1)
            own = [F.conv2d(images[0], weights[0], bias)]
            own += [resize(F.conv2d(x, w), shape) for x, w in zip(images[1:], weights[1:], strict=True)]
            x_BCHW = sum(own[1:], start=own[0])
            x_BCHW = norm(x_BCHW) if norm.training else x_BCHW
        else:
            x_BCHW = conv(torch.cat([resize(image, shape) for image in images], dim=1), norm)
        fused: Tensor = self.second(act(x_BCHW))
        return fused


class PointHead(nn.Module):
    """From the pixel's and the point's features to logits, with the encoder's features joined again.

    Args:
        channels: of the joined image, and of the joined points, if there are any.
        widths: of the encoder's layers.
    """

    def __init__(self, channels: int, widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        outputs = [channels, *widths[-2::-1]]
        self.layers = nn.ModuleList(PointLayer(a, b) for a, b in zip([channels, *outputs], outputs, strict=False))
        self.classifier = nn.Linear(outputs[-1], num_classes)

    def forward(
        self, image_BCHW: Tensor, skips: Sequence[Tensor | None], pixels: Pixels, wanted: Tensor | None
    ) -> Tensor:
        """Logits (m, K).

        Args:
            skips: added after each layer; None adds nothing.
            wanted: (m,) indices of points; None for all.
        """
        first, *others = self.layers
        if self.training:
            x_MC = first(pixels.gather(image_BCHW, points=wanted))
        else:  # fewer pixels than points; in training BatchNorm's statistics are those of the points
            rows_PC = first(image_BCHW.permute(0, 2, 3, 1).flatten(0, 2))
            x_MC = pixels.gather(rows_PC.view(*pixels.shape(), -1).permute(0, 3, 1, 2), points=wanted)
        for layer, skip in zip([None, *others], skips, strict=True):
            x_MC = x_MC if layer is None else layer(x_MC)
            x_MC = x_MC if skip is None else x_MC + skip
        logits: Tensor = self.classifier(x_MC)
        return logits


def resize(image_BCHW: Tensor, shape: torch.Size) -> Tensor:
    """An image at another size (rows, columns), bilinear."""
    if image_BCHW.shape[-2:] == shape:
        return image_BCHW
    return F.interpolate(image_BCHW, size=list(shape), mode="bilinear", align_corners=True)
