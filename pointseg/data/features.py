"""Points -> input features, for training and for every prediction; the settings travel in the bundle.

There are two steps, because a training cloud is a small part of a scan. `measure` takes the whole scan once and adds
columns for the surroundings of each point (height above the ground, extent and count of its pillar), so they are the
same in a training cloud of 1,024 points as in a scan that is predicted. Calling the spec then turns measured points,
drawn and augmented, into normalised features.

Legend: B clouds, N points, E further columns of the sensor, M measured columns (x, y, z, remission, further ones,
surroundings), F features, G cells along a grid's edge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.core.errors import ConfigError
from pointseg.core.limits import require_positive

__all__ = ["FEATURES", "FeatureSpec", "ground_height", "pillar_extent_and_count"]

# Centres and spreads of a car-mounted sensor's points: (offset, scale), in metres; remission in its own unit, count as
# log2 of the points in the pillar.
NORMALISATION: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "x": (0.0, 20.0),
        "y": (0.0, 20.0),
        "z": (-1.0, 1.5),
        "remission": (0.3, 0.2),
        "range": (15.0, 12.0),
        "height": (0.8, 1.2),
        "extent": (1.0, 1.2),
        "count": (6.0, 2.5),
    }
)
FEATURES = tuple(NORMALISATION)
RAW = ("x", "y", "z", "remission")
NAME = re.compile(r"[A-Za-z_]\w*")
REACH = 80.0  # metres; farther points fall into the grid's outermost cells
EMPTY = 1e6  # height of a cell without a point


@dataclass(frozen=True)
class FeatureSpec:
    """Which features a model sees, and how they are normalised: (value - offset) / scale.

    Args:
        use: some of `FEATURES`, in the order the model sees them: x, y, z (metres); remission in [0, 1]; range, the
            distance to the sensor (metres); height above the ground, which is estimated from the scan (metres); extent,
            the height of the points in the point's pillar (metres), and count, log2 of their number, both once for each
            of `pillar_cells`. Any other name is a further column of the sensor, such as ring.
        offset, scale: by feature; the others are taken from `NORMALISATION`, which has none for further columns.
        ground_cell: edge of the square ground cells, metres.
        pillar_cells: edges of the square pillars, metres.
        knots: ascending normalised values. Each feature gets one more column for each interval between knots, -1 below
            it, rising to 1 above it (piecewise linear encoding: Gorishniy, Rubachev, Babenko, "On Embeddings for
            Numerical Features in Tabular Deep Learning", NeurIPS 2022), so that the network need not learn thresholds,
            which is slow. These columns come after all others. Empty: none.

    Raises:
        ConfigError: for an unknown or repeated feature, a scale or cell that is not positive, or knots that do not
            ascend.

    Example:
        >>> spec = FeatureSpec(use=("x", "y", "z", "remission", "height"))
        >>> spec(spec.measure(torch.rand(1000, 4))).shape
        torch.Size([1000, 5])
    """

    use: tuple[str, ...] = FEATURES
    offset: Mapping[str, float] = field(default_factory=dict)
    scale: Mapping[str, float] = field(default_factory=dict)
    ground_cell: float = 1.0
    pillar_cells: tuple[float, ...] = (0.5, 1.0, 2.0)
    knots: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        use = tuple(self.use)
        self._refuse_unknown(use)
        if not use or len(set(use)) != len(use):
            raise ConfigError(f"{list(use)} is empty, or names a feature twice", where="features.use")
        normalisation = {name: NORMALISATION.get(name, (0.0, 1.0)) for name in use}
        set_field = object.__setattr__
        set_field(self, "use", use)
        set_field(self, "offset", {n: float(self.offset.get(n, o)) for n, (o, _) in normalisation.items()})
        set_field(self, "scale", {n: float(self.scale.get(n, s)) for n, (_, s) in normalisation.items()})
        set_field(self, "pillar_cells", tuple(float(cell) for cell in self.pillar_cells))
        set_field(self, "knots", tuple(float(knot) for knot in self.knots))
        set_field(self, "ground_cell", float(self.ground_cell))
        for name, value in self.scale.items():
            require_positive(value, f"features.scale.{name}")
        require_positive(self.ground_cell, "features.ground_cell")
        require_positive(min(self.pillar_cells, default=1.0), "features.pillar_cells")
        if not self.pillar_cells and {"extent", "count"} & set(use):
            raise ConfigError("extent and count need a pillar size", where="features.pillar_cells")
        if len(self.knots) == 1 or any(not low < high for low, high in pairwise(self.knots)):
            raise ConfigError(
                f"{list(self.knots)} do not ascend", where="features.knots", remedy="Give two or more, or [] for none."
            )

    def _refuse_unknown(self, use: tuple[str, ...]) -> None:
        further = [name for name in use if name not in FEATURES]
        known = {*FEATURES, *(name for name in further if name in self.offset and name in self.scale)}
        for key, names in (("use", use), ("offset", tuple(self.offset)), ("scale", tuple(self.scale))):
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"there is no feature {name!r}",
                        where=f"features.{key}",
                        remedy=f"Use {', '.join(FEATURES)}; or name a further column of your sensor and its normalisation: "
                        f"features.offset.{name}=... features.scale.{name}=....",
                    )
                if name in further and not NAME.fullmatch(name):
                    raise ConfigError(
                        f"{name!r} is not the name of a column",
                        where=f"features.{key}",
                        remedy="Use letters, digits and _.",
                    )

    def __len__(self) -> int:
        """F: the number of features."""
        return sum(self._width(name) for name in self.use) * max(1, len(self.knots))

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `FeatureSpec(**spec.to_dict())` is an equal one."""
        return {
            "use": list(self.use),
            "offset": dict(self.offset),
            "scale": dict(self.scale),
            "ground_cell": self.ground_cell,
            "pillar_cells": list(self.pillar_cells),
            "knots": list(self.knots),
        }

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the E further columns of the sensor that a scan must have."""
        return tuple(name for name in self.use if name not in FEATURES)

    @property
    def measured(self) -> tuple[str, ...]:
        """Names of the M columns that `measure` gives."""
        return RAW + self.extra + tuple(name.partition("@")[0] for name in self.surroundings)

    @property
    def surroundings(self) -> tuple[str, ...]:
        """Names of the measured columns beyond x, y, z and remission, with the cell in metres, such as "extent@0.5"."""
        names = [f"height@{self.ground_cell:g}"] if "height" in self.use else []
        pillars = [name for name in ("extent", "count") if name in self.use]
        return tuple(names + [f"{name}@{cell:g}" for name in pillars for cell in self.pillar_cells])

    @property
    def metric_columns(self) -> list[int]:
        """Columns of `measured` beyond x, y, z that are lengths, and so scale with a cloud."""
        return [column for column, name in enumerate(self.measured) if name in ("height", "extent")]

    def measure(self, points: Tensor) -> Tensor:
        """A whole scan (N, 4 + E), x, y, z in metres, remission and the columns of `extra` -> (N, M), with the columns of
        its surroundings."""
        return torch.cat([points, self.measure_surroundings(points)], dim=1)

    def measure_surroundings(self, points: Tensor) -> Tensor:
        """A whole scan (N, 3 or more) -> (N, S), the columns named by `surroundings`."""
        xyz_N3, columns = points[:, :3], []
        if "height" in self.use:
            columns.append(ground_height(xyz_N3, self.ground_cell))
        if "extent" in self.use or "count" in self.use:
            pillars = [pillar_extent_and_count(xyz_N3, cell) for cell in self.pillar_cells]
            if "extent" in self.use:
                columns += [extent_N for extent_N, _ in pillars]
            if "count" in self.use:
                columns += [torch.log2(count_N) for _, count_N in pillars]
        return torch.stack(columns, dim=1) if columns else points[:, :0]

    def __call__(self, measured: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (..., N, F) of measured points (..., N, M); padded points, where mask (..., N) is False, get zeros."""
        columns = [self._columns(name, measured) for name in self.use]
        normalised = [
            (column - self.offset[name]) / self.scale[name] for name, column in zip(self.use, columns, strict=True)
        ]
        features = torch.cat(normalised, dim=-1)
        if self.knots:
            features = self._with_pieces(features)
        return features if mask is None else features.masked_fill_(~mask[..., None], 0.0)

    def _with_pieces(self, values: Tensor) -> Tensor:
        """(..., V) normalised -> (..., V + V * intervals): the values, then their piecewise linear encoding.

        Each piece is a line, clamped to -1 .. 1, so all of them are one matrix product, which is many times as fast as
        a loop over the intervals.
        """
        knots, width = values.new_tensor(self.knots), values.shape[-1]
        slope = 2.0 / knots.diff()
        identity = torch.eye(width, dtype=values.dtype, device=values.device)
        lines = torch.cat([identity, torch.kron(identity, slope[None])], dim=1)
        at_zero = torch.cat([identity.new_zeros(width), (-1.0 - knots[:-1] * slope).repeat(width)])
        with torch.autocast(values.device.type, enabled=False):  # half precision would round coordinates to decimetres
            columns = torch.addmm(at_zero, values.reshape(-1, width), lines)
        columns[:, width:].clamp_(-1.0, 1.0)
        return columns.view(*values.shape[:-1], -1)

    def _width(self, name: str) -> int:
        return len(self.pillar_cells) if name in ("extent", "count") else 1

    def _columns(self, name: str, measured: Tensor) -> Tensor:
        if name == "range":
            return torch.linalg.vector_norm(measured[..., :3], dim=-1, keepdim=True)
        first = self.measured.index(name)
        return measured[..., first : first + self._width(name)]


def ground_height(xyz_N3: Tensor, cell: float) -> Tensor:
    """Height above the ground (N,), metres, with the ground estimated from the scan itself.

    The lowest point of each cell is its ground, or the median of the cells around it if it lies 1 m below that (a
    reflection or an outlier). The lowest of 3 x 3 cells then bridges cells without ground, and a mean of 3 x 3 smooths it.
    """
    index_N, edge = _cells(xyz_N3, cell)
    lowest_GG = _reduce(xyz_N3[:, 2], index_N, edge, "amin").view(1, 1, edge, edge)
    lowest_GG = _without_outliers(lowest_GG)
    lowest_GG = -F.max_pool2d(-lowest_GG, 3, stride=1, padding=1)
    known_GG = (lowest_GG < EMPTY / 2).to(lowest_GG.dtype)
    total = F.avg_pool2d(lowest_GG * known_GG, 3, stride=1, padding=1)
    ground_GG = total / F.avg_pool2d(known_GG, 3, stride=1, padding=1).clamp(min=1e-6)
    return xyz_N3[:, 2] - ground_GG.flatten()[index_N]


def _without_outliers(lowest_GG: Tensor) -> Tensor:
    """(1, 1, G, G) in which a cell 1 m below the median of its 3 x 3 cells gets that median; most cells are empty."""
    row_C, column_C = (lowest_GG[0, 0] < EMPTY / 2).nonzero(as_tuple=True)
    padded = F.pad(lowest_GG[0, 0], (1, 1, 1, 1), value=EMPTY)
    step = torch.arange(3, device=lowest_GG.device)
    around_C33 = padded[(row_C[:, None] + step)[:, :, None], (column_C[:, None] + step)[:, None, :]]
    around_C9 = around_C33.flatten(1)
    median_C = around_C9.masked_fill(around_C9 >= EMPTY / 2, torch.nan).nanmedian(dim=1).values
    centre_C = around_C9[:, 4]
    lowest_GG[0, 0, row_C, column_C] = torch.where(centre_C < median_C - 1.0, median_C, centre_C)
    return lowest_GG


def pillar_extent_and_count(xyz_N3: Tensor, cell: float) -> tuple[Tensor, Tensor]:
    """For each point: highest minus lowest z of its pillar (N,), metres, and the number of points in it (N,)."""
    index_N, edge = _cells(xyz_N3, cell)
    lowest = _reduce(xyz_N3[:, 2], index_N, edge, "amin")
    highest = -_reduce(-xyz_N3[:, 2], index_N, edge, "amin")
    count = torch.zeros_like(lowest).index_add_(0, index_N, torch.ones_like(xyz_N3[:, 2]))
    return (highest - lowest)[index_N], count[index_N]


def _cells(xyz_N3: Tensor, cell: float) -> tuple[Tensor, int]:
    """Index of each point's cell (N,) in a square grid around the sensor, and the grid's edge G in cells."""
    edge = max(1, round(2 * REACH / cell))
    column_N2 = ((xyz_N3[:, :2] + REACH) / cell).floor().long().clamp_(0, edge - 1)
    return column_N2[:, 0] * edge + column_N2[:, 1], edge


def _reduce(values_N: Tensor, index_N: Tensor, edge: int, how: str) -> Tensor:
    return torch.full((edge * edge,), EMPTY, dtype=values_N.dtype, device=values_N.device).scatter_reduce_(
        0, index_N, values_N, how
    )
