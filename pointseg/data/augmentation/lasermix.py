"""LaserMix: bands of elevation alternate between a scan and another one.

Kong, Ren, Pan, Liu, "LaserMix for Semi-Supervised LiDAR Semantic Segmentation", CVPR 2023. Legend: B clouds, N points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.limits import require_between
from pointseg.core.randomness import Purpose, below, random_key, unit
from pointseg.data.batches import PointBatch, compacted

__all__ = ["LaserMix"]

MIXES, COUNT, PHASE = range(3)  # what the random numbers of a cloud are for


@dataclass(frozen=True)
class LaserMix:
    """Mixes each cloud with its partner, both as they were scanned: what is below and above belongs to the street as well.

    Args:
        probability: of a cloud.
        bands: fewest and most bands.
        field_of_view: upper and lower limit of the elevation that is divided into bands, degrees; what lies beyond belongs to
            the outermost ones.

    Raises:
        ConfigError: for a probability outside [0, 1], fewer than two bands, or limits that do not descend.

    Example:
        >>> mixed = LaserMix(probability=1.0)(batch, partner)
    """

    probability: float = 0.0
    bands: Sequence[int] = (3, 6)
    field_of_view: Sequence[float] = (3.0, -25.0)

    def __post_init__(self) -> None:
        require_between(self.probability, 0, 1, "data.lasermix.probability")
        if len(self.bands) != 2 or not 2 <= self.bands[0] <= self.bands[1]:
            raise ConfigError(f"{list(self.bands)} is not a range of two or more", where="data.lasermix.bands")
        upper, lower = self.field_of_view
        if not 90 > upper > lower > -90:
            raise ConfigError(
                f"{list(self.field_of_view)} is not an upper and a lower limit", where="data.lasermix.field_of_view"
            )

    @property
    def active(self) -> bool:
        return self.probability > 0

    def __call__(self, batch: PointBatch, partner: PointBatch) -> PointBatch:
        """Mix; shorter clouds of the result are padded and masked."""
        keys = batch.keys.tolist()
        kept = [batch.real & ~self._in_bands(batch, keys), partner.real & self._in_bands(partner, keys)]
        points, labels = [batch.points, partner.points], [batch.labels, partner.labels]
        return compacted(torch.cat(points, dim=1), torch.cat(labels, dim=1), torch.cat(kept, dim=1), batch)

    def _in_bands(self, batch: PointBatch, keys: Sequence[int]) -> Tensor:
        """(B, N) whether a point lies in a band that is swapped; False throughout a cloud that swaps nothing."""
        x_BN, y_BN, z_BN = batch.points[..., :3].double().unbind(dim=-1)
        distance_BN = torch.sqrt(x_BN * x_BN + y_BN * y_BN)  # exact on every device, which an angle is not
        inside = torch.zeros_like(batch.real)
        for cloud, key in enumerate(keys):
            if _draw(key, MIXES) < self.probability:
                above_N = sum(z_BN[cloud] > slope * distance_BN[cloud] for slope in self._slopes(key))
                inside[cloud] = (above_N + below(2, random_key(key, Purpose.LASER_MIX, PHASE))) % 2 == 0
        return inside

    def _slopes(self, key: int) -> list[float]:
        """Tangents of the elevations between two bands."""
        count = self.bands[0] + below(self.bands[1] - self.bands[0] + 1, random_key(key, Purpose.LASER_MIX, COUNT))
        upper, lower = self.field_of_view
        return [math.tan(math.radians(lower + (upper - lower) * band / count)) for band in range(1, count)]


def _draw(key: int, purpose: int) -> float:
    return unit(random_key(key, Purpose.LASER_MIX, purpose))
