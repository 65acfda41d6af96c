"""PolarMix: a part of another scan, cut along azimuths, in place of the same part of this one; and its objects.

Xiao, Huang, Guan, Lu, Shao, Lu, "PolarMix: A General Data Augmentation Technique for LiDAR Point Clouds", NeurIPS 2022.
Legend: B clouds, N points, M measured columns, C candidates for a mixed cloud.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.data.clouds import PointBatch, compacted
from pointseg.errors import ConfigError
from pointseg.randomness import Purpose, key, unit

__all__ = ["PolarMix"]

COPIES = 3  # of the partner's objects, a third of a turn apart
SCALE = 1 << 20  # directions as whole numbers, so that a point's side is the same on every device


@dataclass(frozen=True)
class PolarMix:
    """Mixes each cloud with its partner, both as they were scanned.

    Args:
        swap: probability that half a turn, from a random azimuth on, comes from the partner.
        paste: probability that the partner's objects are added, `COPIES` times around the sensor.

    Raises:
        ConfigError: for a probability outside [0, 1].

    Example:
        >>> mixed = PolarMix(swap=0.5, paste=1.0)(batch, partner, things=(1, 2, 6))
    """

    swap: float = 0.0
    paste: float = 0.0

    def __post_init__(self) -> None:
        for name in ("swap", "paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{getattr(self, name)} is not between 0 and 1",
                    where=f"data.polarmix.{name}",
                    remedy="0 switches it off.",
                )

    @property
    def active(self) -> bool:
        return self.swap > 0 or self.paste > 0

    def __call__(self, batch: PointBatch, partner: PointBatch, things: Sequence[int]) -> PointBatch:
        """Mix.

        Args:
            batch: before any other augmentation: coordinates are whole millimetres.
            partner: as many clouds.
            things: training ids of the classes that come in objects.

        Returns:
            Clouds of about the same size; what is shorter is masked.
        """
        keys = batch.keys.tolist()
        here_BN, there_BN = self._sides(batch, keys), self._sides(partner, keys)
        real_BN = torch.ones_like(batch.labels, dtype=torch.bool) if batch.mask is None else batch.mask
        other_BN = torch.ones_like(partner.labels, dtype=torch.bool) if partner.mask is None else partner.mask
        points, labels = [batch.points, partner.points], [batch.labels, partner.labels]
        kept = [real_BN & ~here_BN, other_BN & there_BN]
        if self.paste > 0:
            pastes_B1 = self._draws(keys, 1) < self.paste
            things_BN = torch.isin(partner.labels, torch.tensor(list(things), device=partner.labels.device)) & other_BN
            first = torch.tensor([2 * math.pi * unit(key(k, Purpose.MIX, 3)) for k in keys], device=points[0].device)
            for copy in range(COPIES):
                points.append(_turned(partner.points, first + 2 * math.pi * copy / COPIES))
                labels.append(partner.labels)
                kept.append(things_BN & pastes_B1.to(things_BN.device))
        return compacted(torch.cat(points, dim=1), torch.cat(labels, dim=1), torch.cat(kept, dim=1), batch)

    @staticmethod
    def _draws(keys: Sequence[int], which: int) -> Tensor:
        return torch.tensor([unit(key(k, Purpose.MIX, which)) for k in keys], dtype=torch.float64)[:, None]

    def _sides(self, batch: PointBatch, keys: Sequence[int]) -> Tensor:
        """(B, N) whether a point lies in the half turn that is swapped; false where nothing is."""
        normals = []
        for k in keys:
            swaps = unit(key(k, Purpose.MIX, 0)) < self.swap
            angle = 2 * math.pi * unit(key(k, Purpose.MIX, 2))
            normals.append([round(SCALE * math.cos(angle)), round(SCALE * math.sin(angle))] if swaps else [0, 0])
        normal_B2 = torch.tensor(normals, dtype=torch.int64, device=batch.points.device)
        mm_BN2 = (batch.points[..., :2].double() * 1000).round().long()
        return (mm_BN2 * normal_B2[:, None]).sum(dim=-1) > 0


def _turned(points_BNM: Tensor, angle_B: Tensor) -> Tensor:
    """Turned about the vertical axis; what was measured around a point stays."""
    cos, sin = torch.cos(angle_B).float()[:, None], torch.sin(angle_B).float()[:, None]
    x, y = points_BNM[..., 0], points_BNM[..., 1]
    return torch.cat([torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1), points_BNM[..., 2:]], dim=-1)
