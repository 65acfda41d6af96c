"""PolarMix: replaces a sector of a scan by the same sector of another scan, and adds the other scan's objects.

Xiao, Huang, Guan, Lu, Shao, Lu, "PolarMix: A General Data Augmentation Technique for LiDAR Point Clouds", NeurIPS 2022.
Legend: B clouds, N points, M measured columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.core.limits import require_between
from pointseg.core.randomness import Purpose, random_key, unit
from pointseg.data.batches import PointBatch, compacted

__all__ = ["PolarMix"]

COPIES = 3  # of the partner's objects, a third of a turn apart
SCALE = 1 << 20  # directions as whole numbers, so that a point's side is the same on every device
SWAPS, PASTES, SECTOR, TURN = range(4)  # what the random numbers of a cloud are for


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
            require_between(getattr(self, name), 0, 1, f"data.polarmix.{name}")

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
            Clouds of about the same size; shorter ones are padded and masked.
        """
        keys, device = batch.keys.tolist(), batch.points.device
        kept = [batch.real & ~self._in_sector(batch, keys), partner.real & self._in_sector(partner, keys)]
        points, labels = [batch.points, partner.points], [batch.labels, partner.labels]
        if self.paste > 0:
            pastes_B1 = torch.tensor([[_draw(key, PASTES) < self.paste] for key in keys], device=device)
            things_BN = torch.isin(partner.labels, torch.tensor(list(things), device=device)) & partner.real & pastes_B1
            first_B = torch.tensor([2 * math.pi * _draw(key, TURN) for key in keys], device=device)
            for copy in range(COPIES):
                points.append(_turned(partner.points, first_B + 2 * math.pi * copy / COPIES))
                labels.append(partner.labels)
                kept.append(things_BN)
        return compacted(torch.cat(points, dim=1), torch.cat(labels, dim=1), torch.cat(kept, dim=1), batch)

    def _in_sector(self, batch: PointBatch, keys: Sequence[int]) -> Tensor:
        """(B, N) whether a point lies in the half turn that is swapped; False throughout a cloud that swaps nothing."""
        normals = []
        for key in keys:
            angle = 2 * math.pi * _draw(key, SECTOR)
            swaps = _draw(key, SWAPS) < self.swap
            normals.append([round(SCALE * math.cos(angle)), round(SCALE * math.sin(angle))] if swaps else [0, 0])
        normal_B2 = torch.tensor(normals, dtype=torch.int64, device=batch.points.device)
        mm_BN2 = (batch.points[..., :2].double() * 1000).round().long()
        return (mm_BN2 * normal_B2[:, None]).sum(dim=-1) > 0


def _draw(key: int, purpose: int) -> float:
    return unit(random_key(key, Purpose.MIX, purpose))


def _turned(points_BNM: Tensor, angle_B: Tensor) -> Tensor:
    """Turned about the vertical axis; what was measured around a point stays."""
    cos, sin = torch.cos(angle_B).float()[:, None], torch.sin(angle_B).float()[:, None]
    x, y = points_BNM[..., 0], points_BNM[..., 1]
    return torch.cat([torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1), points_BNM[..., 2:]], dim=-1)
