"""Augmentation of a batch of clouds on the device where it lies.

The parameters of a cloud are a function of (seed, epoch, index) alone (`randomness`), so they are the same for any
number of workers or ranks and on any device. Legend: B clouds, N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.errors import ConfigError
from pointseg.randomness import Purpose, derive, normal, uniform

__all__ = ["Augmentation"]


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave the labels true.

    Args:
        yaw: largest rotation about the vertical axis, degrees; 180 means any direction.
        flip_x: probability of mirroring front and back.
        flip_y: probability of mirroring left and right.
        scale: largest relative change of size, e.g. 0.05 for 0.95 .. 1.05.
        jitter: standard deviation of the noise on each coordinate, metres.
        dropout: largest share of points dropped from a cloud (Qi et al., PointNet++, 2017); the share is drawn uniformly.
        remission_noise: standard deviation of the noise on each remission, which stays in [0, 1].

    Example:
        >>> points, mask = Augmentation(yaw=180.0)(points_BNM, None, keys_B)
    """

    yaw: float = 180.0
    flip_x: float = 0.0
    flip_y: float = 0.5
    scale: float = 0.05
    jitter: float = 0.01
    dropout: float = 0.0
    remission_noise: float = 0.0

    def __post_init__(self) -> None:
        limits = {"yaw": 180.0, "flip_x": 1.0, "flip_y": 1.0, "scale": 0.9, "jitter": 10.0, "dropout": 0.95}
        limits["remission_noise"] = 1.0
        for name, upper in limits.items():
            value = getattr(self, name)
            if not 0 <= value <= upper:
                raise ConfigError(
                    f"{value} is not between 0 and {upper:g}",
                    where=f"data.augmentation.{name}",
                    remedy="0 switches it off.",
                )

    def __call__(
        self, points_BNM: Tensor, mask_BN: Tensor | None, keys_B: Tensor, metric_columns: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Change the coordinates of each cloud, and drop points by the mask.

        Args:
            points_BNM: float32 x, y, z in metres, then remission and further columns.
            mask_BN: True = real point; None when all are.
            keys_B: int64, each cloud's key of (seed, epoch, index).
            metric_columns: which of the further columns are lengths, and so grow with the cloud.

        Returns:
            New points and mask; None stays None unless points are dropped.
        """
        clouds = torch.arange(5, device=keys_B.device)
        draws_B5 = uniform(derive(derive(keys_B, keys_B.new_tensor(Purpose.AUGMENTATION))[:, None], clouds))
        size_B = 1 + (2 * draws_B5[:, 1] - 1) * self.scale
        xyz = torch.einsum("bij,bnj->bni", self._matrices(draws_B5) * size_B[:, None, None], points_BNM[..., :3])
        others = points_BNM[..., 3:].clone()
        for column in metric_columns:
            others[..., column - 3] *= size_B[:, None]
        if self.jitter > 0:
            xyz = xyz + self.jitter * normal(self._per_point(keys_B, Purpose.JITTER, points_BNM.shape[1], 3))
        if self.remission_noise > 0:
            noise_BN = normal(self._per_point(keys_B, Purpose.REMISSION_NOISE, points_BNM.shape[1], 1))[..., 0]
            noisy = others[..., 0] + self.remission_noise * noise_BN
            # a sensor of another scale keeps what it has above 1
            others[..., 0] = noisy.clamp(min=0.0).minimum(others[..., 0].clamp(min=1.0))
        if self.dropout > 0:
            draws_BN = uniform(self._per_point(keys_B, Purpose.POINT_DROPOUT, points_BNM.shape[1], 1))[..., 0]
            kept = draws_BN >= self.dropout * draws_B5[:, 4:5]
            mask_BN = kept if mask_BN is None else mask_BN & kept
        return torch.cat([xyz, others], dim=-1), mask_BN

    def _matrices(self, draws_B5: Tensor) -> Tensor:
        """(B, 3, 3): rotation x mirror."""
        angle = (2 * draws_B5[:, 0] - 1) * math.radians(self.yaw)
        mirror_x = torch.where(draws_B5[:, 2] < self.flip_x, -1.0, 1.0)
        mirror_y = torch.where(draws_B5[:, 3] < self.flip_y, -1.0, 1.0)
        cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        rows = [cos * mirror_x, -sin * mirror_y, zero, sin * mirror_x, cos * mirror_y, zero, zero, zero, zero + 1]
        return torch.stack(rows, dim=1).view(-1, 3, 3)

    @staticmethod
    def _per_point(keys_B: Tensor, purpose: Purpose, points: int, axes: int) -> Tensor:
        streams_B = derive(keys_B, keys_B.new_tensor(purpose))
        counters = torch.arange(points * axes, device=keys_B.device).view(points, axes)
        return derive(streams_B[:, None, None], counters)
