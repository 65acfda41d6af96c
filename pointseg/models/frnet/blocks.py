"""Layers of range-image networks: convolutions with BatchNorm, residual blocks, point-wise layers.

Legend: B images, C channels, H x W pixels, M points.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models.layers import RowBatchNorm

__all__ = ["BasicBlock", "Conv", "ImageBatchNorm", "PointLayer", "activation", "convolutions"]


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

    def forward(self, image_BCHW: Tensor) -> Tensor:
        if self.kernel_size != (1, 1):
            return super().forward(image_BCHW)
        # the same as a strided convolution, in whose backward oneDNN crashes unless 16 divides the channels
        rows, columns = self.stride
        return F.conv2d(image_BCHW[:, :, ::rows, ::columns], self.weight)


def activation(name: str) -> nn.Module:
    """Hardswish, as published, or ReLU, which takes half its time on a processor."""
    return {"hardswish": nn.Hardswish, "relu": nn.ReLU}[name]()


def convolutions(channels: Sequence[int], act: str, kernel_size: int = 3) -> nn.Sequential:
    """A chain of convolution, BatchNorm and activation."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [Conv(before, after, kernel_size), ImageBatchNorm(after), activation(act)]
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """The residual block of ResNet-18 and -34 (He, Zhang, Ren, Sun, CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int, act: str) -> None:
        super().__init__()
        self.conv1, self.bn1 = Conv(in_channels, channels, stride=stride), ImageBatchNorm(channels)
        self.conv2, self.bn2 = Conv(channels, channels), ImageBatchNorm(channels)
        self.act = activation(act)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(Conv(in_channels, channels, 1, stride), ImageBatchNorm(channels))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        shortcut = image_BCHW if self.downsample is None else self.downsample(image_BCHW)
        x_BCHW = self.act(self.bn1(self.conv1(image_BCHW)))
        x_BCHW = self.bn2(self.conv2(x_BCHW)) + shortcut
        return self.act(x_BCHW)


class PointLayer(nn.Sequential):
    """Linear without bias, BatchNorm, ReLU, on rows (M, C)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(nn.Linear(in_channels, out_channels, bias=False), RowBatchNorm(out_channels), nn.ReLU())
