"""Which points of a scan make a training cloud.

Scans lie shuffled in a `RecordTable`, so a slice of one is a uniform sample without repetition. Every choice is integer
arithmetic on millimetres and the counter hash, so it is the same on every device. Legend: N points of a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pointseg.errors import ConfigError
from pointseg.randomness import below, key

__all__ = ["METHODS", "Sampling", "Window"]

METHODS = ("uniform", "range", "nearest", "block")


class Window(NamedTuple):
    """`count` successive points from `start` on, going on at the scan's first point after its last."""

    start: int
    count: int  # type: ignore[assignment]  # tuple.count is not used


@dataclass(frozen=True)
class Sampling:
    """How the points of a cloud are chosen.

    Args:
        method: "uniform"; "range": as many from each band of range as there are, so that far points are not drowned by
            near ones; "nearest": those nearest to a random point of the scan, in space (as RandLA-Net crops its clouds:
            Hu et al., CVPR 2020); "block": of a square vertical column around a random point, uniformly (the blocks of
            PointNet: Qi et al., CVPR 2017); a column with fewer points gives a smaller cloud.
        bands: range in metres from the sensor, level, where one band ends and the next begins.
        block: edge of the column, metres.

    Raises:
        ConfigError: for an unknown method, bands that do not ascend, or a block without size.

    Example:
        >>> Sampling("nearest").rows(millimetres_3N, count=4096, stream=key(0, 1, 2))
    """

    method: str = "uniform"
    bands: Sequence[float] = (10.0, 20.0, 30.0, 50.0)
    block: float = 20.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(
                f"there is no sampling {self.method!r}",
                where="data.sampling.method",
                remedy=f"Use {', '.join(METHODS)}.",
            )
        edges = [0.0, *map(float, self.bands)]
        if any(low >= high for low, high in pairwise(edges)):
            raise ConfigError(f"{list(self.bands)} do not ascend from 0", where="data.sampling.bands")
        if not self.block > 0:
            raise ConfigError(f"{self.block} is not positive", where="data.sampling.block")

    @property
    def looks_at_points(self) -> bool:
        """Whether the choice needs the coordinates of the whole scan; `window` serves where it does not."""
        return self.method != "uniform"

    @staticmethod
    def window(points: int, count: int, stream: int) -> Window:
        """A uniform sample of a shuffled scan."""
        return Window(below(points, key(stream, 0)), min(points, count))

    def rows(self, mm_3N: Tensor, count: int, stream: int) -> Tensor:
        """Indices (at most `count`,) int64 of the chosen points.

        Args:
            mm_3N: int64 millimetres of a whole shuffled scan, x, y and z in planes.
            count: of the points wanted.
            stream: of the draw's random numbers.
        """
        points = mm_3N.shape[1]
        start = below(points, key(stream, 0))
        if points <= count:
            return torch.arange(points, device=mm_3N.device)
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
        chosen = [
            _turned(band_N == band, start)[:share] for band, share in enumerate(_shares(sizes, count)) if share > 0
        ]
        return torch.cat(chosen)


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """How many to take of each band: equal shares, and what a band cannot give is taken from the others."""
    shares, left = [0] * len(sizes), count
    for rank, band in enumerate(sorted(range(len(sizes)), key=lambda i: (sizes[i], i))):
        shares[band] = min(sizes[band], left // (len(sizes) - rank))
        left -= shares[band]
    return shares


def _turned(chosen_N: Tensor, start: int) -> Tensor:
    """Indices where true, beginning at `start` and going around: another sample for each start."""
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
