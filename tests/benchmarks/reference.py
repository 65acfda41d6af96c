"""The reference of every ratio: PointNet segmentation written plainly from the paper, as public PyTorch code has it.

Qi, Su, Mo, Guibas, "PointNet: Deep Learning on Point Sets", CVPR 2017, figure 2: channels first, Conv1d, two T-Nets, the
global feature repeated for every point and concatenated to 1088 channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ReferencePointNet"]


class TNet(nn.Module):
    """A transform for each cloud: (B, C, N) -> (B, size, size)."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.convolutions = nn.ModuleList([nn.Conv1d(i, o, 1) for i, o in ((channels, 64), (64, 128), (128, 1024))])
        self.norms = nn.ModuleList([nn.BatchNorm1d(width) for width in (64, 128, 1024)])
        self.linears = nn.ModuleList([nn.Linear(1024, 512), nn.Linear(512, 256)])
        self.linear_norms = nn.ModuleList([nn.BatchNorm1d(512), nn.BatchNorm1d(256)])
        self.matrix = nn.Linear(256, size * size)

    def forward(self, x: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        x = torch.max(x, 2)[0]
        for linear, norm in zip(self.linears, self.linear_norms, strict=True):
            x = F.relu(norm(linear(x)))
        offset: Tensor = self.matrix(x)
        return offset.view(-1, self.size, self.size) + torch.eye(self.size, device=x.device)


class ReferencePointNet(nn.Module):
    """(B, N, F) -> logits (B, N, K)."""

    def __init__(self, features: int = 4, classes: int = 19) -> None:
        super().__init__()
        self.input_transform, self.feature_transform = TNet(features, 3), TNet(64, 64)
        widths = [(features, 64), (64, 64), (64, 64), (64, 128), (128, 1024)]
        self.convolutions = nn.ModuleList([nn.Conv1d(i, o, 1) for i, o in widths])
        self.norms = nn.ModuleList([nn.BatchNorm1d(o) for _, o in widths])
        head = [(1088, 512), (512, 256), (256, 128)]
        self.head = nn.ModuleList([nn.Conv1d(i, o, 1) for i, o in head])
        self.head_norms = nn.ModuleList([nn.BatchNorm1d(o) for _, o in head])
        self.classifier = nn.Conv1d(128, classes, 1)

    def forward(self, features: Tensor) -> Tensor:
        x = features.transpose(2, 1)
        turned = torch.bmm(x[:, :3].transpose(2, 1), self.input_transform(x)).transpose(2, 1)
        x = torch.cat([turned, x[:, 3:]], dim=1)
        for i in range(2):
            x = F.relu(self.norms[i](self.convolutions[i](x)))
        x = torch.bmm(x.transpose(2, 1), self.feature_transform(x)).transpose(2, 1)
        local = x
        for i in range(2, 5):
            x = F.relu(self.norms[i](self.convolutions[i](x)))
        pooled = torch.max(x, 2, keepdim=True)[0].repeat(1, 1, features.shape[1])
        x = torch.cat([local, pooled], dim=1)
        for convolution, norm in zip(self.head, self.head_norms, strict=True):
            x = F.relu(norm(convolution(x)))
        return self.classifier(x).transpose(2, 1)
