"""Which points of a scan make a training cloud.

A `RecordTable` keeps scans shuffled, so a slice of one is a uniform sample without repetition. Every choice is integer
arithmetic on millimetres and the counter hash, so it is the same on every device. Legend: N points of a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.limits import require_between, require_choice, require_positive
from pointseg.core.randomness import below, random_key

__all__ = ["METHODS", "Sampling", "Window"]

METHODS = ("uniform", "range", "nearest", "block")


class Window(NamedTuple):
    """`count` successive points from `start` on; after the scan's last point comes its first."""

    start: int
    count: int  # type: ignore[assignment]  # tuple.count is not used


@dataclass(frozen=True)
class Sampling:
    """How the points of a cloud are chosen.

    Args:
        method: "uniform"; "range": equally many from each band of range, as far as it has them, so that near points do not
            outnumber far ones; "nearest": those nearest to a random point of the scan, in space (as RandLA-Net crops its
            clouds: Hu et al., CVPR 2020); "block": uniformly from a square vertical column around a random point (the
            blocks of PointNet: Qi et al., CVPR 2017); a column with fewer points gives a smaller cloud.
        bands: horizontal distances from the sensor, metres, where one band ends and the next begins.
        block: edge of the column, metres.
        voxel: metres; each voxel of this edge keeps one random point, and the method chooses among those, so that near
            surfaces do not take most of a cloud (as WaffleIron samples: Puy et al., ICCV 2023); 0 keeps all points.

    Raises:
        ConfigError: for an unknown method, bands that do not ascend, a block without size, or a negative voxel.

    Example:
        >>> Sampling("nearest").rows(millimetres_3N, count=4096, stream=random_key(0, 1, 2))
    """

    method: str = "uniform"
    bands: Sequence[float] = (10.0, 20.0, 30.0, 50.0)
    block: float = 20.0
    voxel: float = 0.0

    def __post_init__(self) -> None:
        require_choice(self.method, METHODS, "data.sampling.method", "sampling")
        edges = [0.0, *map(float, self.bands)]
        if any(low >= high for low, high in pairwise(edges)):
            raise ConfigError(f"{list(self.bands)} do not ascend from 0", where="data.sampling.bands")
        require_positive(self.block, "data.sampling.block")
        if self.voxel:
            require_between(self.voxel, 0.001, 1000, "data.sampling.voxel")  # coordinates are whole millimetres

    @property
    def looks_at_points(self) -> bool:
        """Whether the choice needs the coordinates of the whole scan; if not, `window` is enough."""
        return self.method != "uniform" or self.voxel > 0

    @staticmethod
    def window(points: int, count: int, stream: int) -> Window:
        """A uniform sample of a shuffled scan."""
        return Window(below(points, random_key(stream, 0)), min(points, count))

    def rows(self, mm_3N: Tensor, count: int, stream: int) -> Tensor:
        """Indices (at most `count`,) int64 of the chosen points.

        Args:
            mm_3N: int64 millimetres of a whole shuffled scan, x, y and z in planes.
            count: points wanted.
            stream: random key of the draw.
        """
        if not self.voxel:
            return self._chosen(mm_3N, count, stream)
        kept = _one_a_voxel(mm_3N, round(self.voxel * 1000), below(mm_3N.shape[1], random_key(stream, 1)))
        return kept[self._chosen(mm_3N[:, kept], count, stream)]

    def _chosen(self, mm_3N: Tensor, count: int, stream: int) -> Tensor:
        points = mm_3N.shape[1]
        start = below(points, random_key(stream, 0))
        if points <= count:
            return torch.arange(points, device=mm_3N.device)
        if self.method == "uniform":
            return torch.arange(start, start + count, device=mm_3N.device) % points
        if self.method == "range":
            return self._by_range(mm_3N, count, start)
        x, y, z = (plane - plane[start] for plane in mm_3N)
        if self.method == "nearest":
            return _smallest(x * x + y * y + z * z, count)
        inside = (x.abs() <= round(self.block * 500)) & (y.abs() <= round(self.block * 500))
        return _turned(inside, start)[:count]

    def _by_range(self, mm_3N: Tensor, count: int, start: int) -> Tensor:
        squares = mm_3N[0] * mm_3N[0] + mm_3N[1] * mm_3N[1]
        band_N = torch.zeros_like(squares, dtype=torch.uint8)
        for band in self.bands:  # a few comparisons are faster than a search in each band's edges
            band_N += squares > round(band * 1000) ** 2
        sizes = torch.bincount(band_N, minlength=len(self.bands) + 1).tolist()
        shares = enumerate(_shares(sizes, count))
        return torch.cat([_turned(band_N == band, start)[:share] for band, share in shares if share > 0])


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many to take of each band: equal shares; what a band lacks is taken from the others."""
    shares, left = [0] * len(sizes), count
    for rank, band in enumerate(sorted(range(len(sizes)), key=lambda i: (sizes[i], i))):
        shares[band] = min(sizes[band], left // (len(sizes) - rank))
        left -= shares[band]
    return shares


def _one_a_voxel(mm_3N: Tensor, edge: int, start: int) -> Tensor:
    """Indices, ascending, of one point of each cubic voxel: the first from `start` on, wrapping around."""
    points = mm_3N.shape[1]
    index_3N = torch.div(mm_3N, edge, rounding_mode="floor")
    index_3N -= index_3N.amin(dim=1, keepdim=True)
    _, y_size, z_size = (index_3N.amax(dim=1) + 1).tolist()
    key_N = (index_3N[0] * y_size + index_3N[1]) * z_size + index_3N[2]
    sorted_N, order_N = torch.cat([key_N[start:], key_N[:start]]).sort(stable=True)
    first_N = torch.ones_like(sorted_N, dtype=torch.bool)
    first_N[1:] = sorted_N[1:] != sorted_N[:-1]
    return ((order_N[first_N] + start) % points).sort().values


def _turned(chosen_N: Tensor, start: int) -> Tensor:
    """Indices where true, beginning at `start` and wrapping around, so each start gives another sample."""
    rows = chosen_N.nonzero()[:, 0]
    first = int(torch.searchsorted(rows, start))
    return torch.cat([rows[first:], rows[:first]])


def _smallest(values_N: Tensor, count: int) -> Tensor:
    """Indices of the `count` smallest values, ascending; of equal ones the first."""
    bound = values_N.kthvalue(count).values
    below_N = values_N < bound
    rest = count - int(below_N.sum())
    ties = (values_N == bound).nonzero()[:rest, 0]
    return torch.cat([below_N.nonzero()[:, 0], ties]).sort().values
