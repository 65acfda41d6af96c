"""Rotation, mirrors, size, noise and dropout for a batch of clouds, on the device that holds it.

The parameters of a cloud are a function of (seed, epoch, index) alone (`randomness`), so they are the same for any
number of workers or ranks and on any device. Legend: B clouds, N points, M measured columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.core.limits import require_between
from pointseg.core.randomness import Purpose, derive, normal, uniform

__all__ = ["Augmentation"]

LIMITS = {  # of each setting; the least is 0
    "yaw": 180.0,
    "flip_x": 1.0,
    "flip_y": 1.0,
    "scale": 0.9,
    "jitter": 10.0,
    "dropout": 0.95,
    "remission_noise": 1.0,
    "remission_scale": 0.9,
    "remission_missing": 1.0,
}


@dataclass(frozen=True)
class Augmentation:
    """Random changes that leave the labels true.

    Args:
        yaw: largest rotation about the vertical axis, degrees; 180 means any direction.
        flip_x: probability of swapping front and back.
        flip_y: probability of swapping left and right.
        scale: largest relative change of size, e.g. 0.05 for 0.95 .. 1.05.
        jitter: standard deviation of the noise on each coordinate, metres.
        dropout: largest share of points dropped from a cloud (Qi et al., PointNet++, 2017); the share is drawn uniformly.
        remission_noise: standard deviation of the noise on each remission, which stays in [0, 1].
        remission_scale: largest relative change of a cloud's remission, as another sensor or another asphalt would have it.
        remission_missing: probability that all points of a cloud have its mean remission, so that a model can do without.

    Raises:
        ConfigError: for a setting outside its limits.

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
    remission_scale: float = 0.0
    remission_missing: float = 0.0

    def __post_init__(self) -> None:
        for name, limit in LIMITS.items():
            require_between(getattr(self, name), 0, limit, f"data.augmentation.{name}")

    def __call__(
        self, points_BNM: Tensor, mask_BN: Tensor | None, keys_B: Tensor, metric_columns: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor | None]:
        """Change the coordinates of each cloud, and drop points by clearing their mask.

        Args:
            points_BNM: float32 x, y, z in metres, then remission and further columns.
            mask_BN: True = real point; None when all are.
            keys_B: int64, each cloud's key of (seed, epoch, index).
            metric_columns: further columns that are lengths, and so scale with the cloud.

        Returns:
            New points and mask; None stays None unless points are dropped.
        """
        draws_B5 = uniform(
            derive(_streams(keys_B, Purpose.AUGMENTATION)[:, None], torch.arange(5, device=keys_B.device))
        )
        size_B = 1 + (2 * draws_B5[:, 1] - 1) * self.scale
        xyz = torch.einsum("bij,bnj->bni", self._matrices(draws_B5) * size_B[:, None, None], points_BNM[..., :3])
        others = points_BNM[..., 3:].clone()
        for column in metric_columns:
            others[..., column - 3] *= size_B[:, None]
        count = points_BNM.shape[1]
        if self.jitter > 0:
            xyz = xyz + self.jitter * normal(_hashes(keys_B, Purpose.JITTER, count, 3))
        if self.remission_scale > 0 or self.remission_missing > 0:
            others[..., 0] = self._other_remission(others[..., 0], mask_BN, keys_B)
        if self.remission_noise > 0:
            noisy = (
                others[..., 0] + self.remission_noise * normal(_hashes(keys_B, Purpose.REMISSION_NOISE, count))[..., 0]
            )
            # remission on another scale keeps what it has above 1
            others[..., 0] = noisy.clamp(min=0.0).minimum(others[..., 0].clamp(min=1.0))
        if self.dropout > 0:
            draws_BN = uniform(_hashes(keys_B, Purpose.POINT_DROPOUT, count))[..., 0]
            kept = draws_BN >= self.dropout * draws_B5[:, 4:5]
            mask_BN = kept if mask_BN is None else mask_BN & kept
        return torch.cat([xyz, others], dim=-1), mask_BN

    def _other_remission(self, remission_BN: Tensor, mask_BN: Tensor | None, keys_B: Tensor) -> Tensor:
        draws_B2 = uniform(derive(_streams(keys_B, Purpose.REMISSION)[:, None], torch.arange(2, device=keys_B.device)))
        factor_B1 = 1 + (2 * draws_B2[:, :1] - 1) * self.remission_scale
        # remission on another scale keeps what it has above 1
        changed_BN = (remission_BN * factor_B1).minimum(remission_BN.clamp(min=1.0))
        real_BN = torch.ones_like(changed_BN) if mask_BN is None else mask_BN.to(changed_BN.dtype)
        mean_B1 = (changed_BN * real_BN).sum(dim=1, keepdim=True) / real_BN.sum(dim=1, keepdim=True).clamp(min=1)
        return torch.where(draws_B2[:, 1:] < self.remission_missing, mean_B1, changed_BN)

    def _matrices(self, draws_B5: Tensor) -> Tensor:
        """(B, 3, 3): rotation x mirror."""
        angle = (2 * draws_B5[:, 0] - 1) * math.radians(self.yaw)
        mirror_x = torch.where(draws_B5[:, 2] < self.flip_x, -1.0, 1.0)
        mirror_y = torch.where(draws_B5[:, 3] < self.flip_y, -1.0, 1.0)
        cos, sin, zero = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle)
        rows = [cos * mirror_x, -sin * mirror_y, zero, sin * mirror_x, cos * mirror_y, zero, zero, zero, zero + 1]
        return torch.stack(rows, dim=1).view(-1, 3, 3)


def _streams(keys_B: Tensor, purpose: Purpose) -> Tensor:
    return derive(keys_B, keys_B.new_tensor(purpose))


def _hashes(keys_B: Tensor, purpose: Purpose, points: int, axes: int = 1) -> Tensor:
    """(B, N, axes) independent hashes."""
    counters = torch.arange(points * axes, device=keys_B.device).view(points, axes)
    return derive(_streams(keys_B, purpose)[:, None, None], counters)
