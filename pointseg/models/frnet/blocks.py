"""Layers of range-image networks: convolutions with BatchNorm, residual blocks, point-wise layers.

In prediction BatchNorm is folded into the weights before it, which saves a pass over the image or the points for each layer.

Legend: B images, C channels, H x W pixels, M points.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.layers import RowBatchNorm

__all__ = ["BasicBlock", "Conv", "Convolutions", "ImageBatchNorm", "PointLayer", "activation"]


class ImageBatchNorm(RowBatchNorm):
    """BatchNorm of images (B, C, H, W) over all their pixels; over the processes as well, if `over_ranks`."""

    def forward(self, image_BCHW: Tensor) -> Tensor:
        batch, channels, height, width = image_BCHW.shape
        rows_PC = image_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)  # a view where channels are last
        return super().forward(rows_PC).view(batch, height, width, channels).permute(0, 3, 1, 2)


class Conv(nn.Conv2d):
    """A convolution without bias that keeps the size of the image, or divides it by its stride."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)

    def forward(self, image_BCHW: Tensor, norm: ImageBatchNorm | None = None) -> Tensor:
        """The convolution, and the BatchNorm behind it."""
        if norm is None or norm.training:
            convolved = self._convolved(image_BCHW, self.weight)
            return convolved if norm is None else norm(convolved)
        return self._convolved(image_BCHW, *self.folded(norm))

    def folded(self, norm: ImageBatchNorm) -> tuple[Tensor, Tensor]:
        """Weight and bias (C,) that do in prediction what the convolution and BatchNorm do."""
        scale_C, shift_C = norm.scale_and_shift()
        return self.weight * scale_C[:, None, None, None], shift_C

    def _convolved(self, image_BCHW: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if self.kernel_size != (1, 1):
            return self._conv_forward(image_BCHW, weight, bias)
        # the same as a strided convolution, in whose backward oneDNN crashes unless 16 divides the channels
        rows, columns = self.stride
        return F.conv2d(image_BCHW[:, :, ::rows, ::columns], weight, bias)


def activation(name: str) -> nn.Module:
    """Hardswish, as published, or ReLU, which takes half its time on a processor."""
    return {"hardswish": nn.Hardswish, "relu": nn.ReLU}[name]()


class Convolutions(nn.Sequential):
    """A chain of convolution, BatchNorm and activation."""

    def __init__(self, channels: Sequence[int], act: str, kernel_size: int = 3) -> None:
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [Conv(before, after, kernel_size), ImageBatchNorm(after), activation(act)]
        super().__init__(*layers)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        layers = list(self)
        for conv, norm, act in zip(layers[0::3], layers[1::3], layers[2::3], strict=True):
            image_BCHW = act(conv(image_BCHW, norm))
        return image_BCHW


class BasicBlock(nn.Module):
    """The residual block of ResNet-18 and -34 (He, Zhang, Ren, Sun, CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int, act: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(in_channels, channels, stride=stride), ImageBatchNorm(channels)
        self.conv2, self.bn2 = Conv(channels, channels), ImageBatchNorm(channels)
        self.act = activation(act)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(Conv(in_channels, channels, 1, stride), ImageBatchNorm(channels))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        shortcut = image_BCHW if self.downsample is None else self.downsample[0](image_BCHW, self.downsample[1])
        x_BCHW = self.act(self.conv1(image_BCHW, self.bn1))
        activated: Tensor = self.act(self.conv2(x_BCHW, self.bn2) + shortcut)
        return activated


class PointLayer(nn.Sequential):
    """Linear without bias, BatchNorm, ReLU, on rows (M, C)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Linear(in_channels, out_channels, bias=False), RowBatchNorm(out_channels), nn.ReLU())

    def forward(self, x_MC: Tensor) -> Tensor:
        _, norm, relu = self
        if norm.training:
            return super().forward(x_MC)
        weight, bias = self.folded()
        activated: Tensor = relu(F.linear(x_MC, weight, bias))
        return activated

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (C', C) and bias (C',) that do in prediction what the linear layer and BatchNorm do."""
        scale_C, shift_C = cast(RowBatchNorm, self[1]).scale_and_shift()
        linear = cast(nn.Linear, self[0])
        return linear.weight * scale_C[:, None], shift_C
