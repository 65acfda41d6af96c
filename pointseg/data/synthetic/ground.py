"""The ground of a street: a height and a surface for every 0.25 m, and the rays that meet it.

The map follows the street: its rows go along the centre line (s), its columns across (n, positive to the left), so that
lanes, kerbs and side streets are rectangles in it. It repeats after `length` metres, hence a drive never leaves it.

Shapes:  S x C cells, R rays, A azimuths, D distances
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointseg.data.synthetic.sensor import Sensor
from pointseg.data.synthetic.shapes import Floats

__all__ = ["CELL", "HALF_WIDTH", "LENGTH", "CenterLine", "Ground", "cast_ground"]

CELL = 0.25  # metres
LENGTH = 320.0  # metres after which a street repeats: two ranges of the sensor do not meet
HALF_WIDTH = 100.0  # metres to each side of the centre line
TURN = 2 * np.pi


@dataclass(frozen=True)
class CenterLine:
    """The middle of the road: y = sum of a few waves over x, so that it bends gently and repeats.

    Attributes:
        amplitude, wave, phase: of each wave: metres, whole waves in LENGTH, radians.
    """

    amplitude: NDArray[np.float64]
    wave: NDArray[np.float64]
    phase: NDArray[np.float64]

    def _angle(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(s)[..., None] * (self.wave * TURN / LENGTH) + self.phase

    def y(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """World y of the centre line at s."""
        return np.asarray((np.sin(self._angle(s)) * self.amplitude).sum(axis=-1))

    def heading(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Direction of the road at s, radians."""
        slope = (np.cos(self._angle(s)) * self.amplitude * self.wave).sum(axis=-1) * TURN / LENGTH
        return np.asarray(np.arctan(slope))

    def to_world(self, s: NDArray[np.float64], n: NDArray[np.float64]) -> NDArray[np.float64]:
        """Street coordinates to world x y: (..., 2). The exact inverse of what `Ground.cells` computes."""
        return np.stack(np.broadcast_arrays(s, self.y(s) + n / np.cos(self.heading(s))), axis=-1)


@dataclass(frozen=True)
class Ground:
    """Height and surface over street coordinates.

    Attributes:
        line: the centre line.
        height: (S, C) float32 metres.
        surface: (S, C) uint8 index into the street's surfaces.
    """

    line: CenterLine
    height: Floats
    surface: NDArray[np.uint8]

    def __post_init__(self) -> None:
        s = (np.arange(self.height.shape[0], dtype=np.float64) + 0.5) * CELL
        # n = (y - y_center) * cos(heading), scaled to cells: two small tables instead of waves per point
        cos = np.cos(self.line.heading(s)) / CELL
        object.__setattr__(self, "_scale", cos.astype(np.float32))
        object.__setattr__(self, "_shift", (HALF_WIDTH / CELL - self.line.y(s) * cos).astype(np.float32))

    def cells(self, x: Floats, y: Floats) -> NDArray[np.int32]:
        """Flat index of the cell under each world position."""
        rows, columns = self.height.shape
        row: NDArray[np.int32] = np.floor(x * np.float32(1 / CELL)).astype(np.int32)
        row %= rows
        scale: Floats = self._scale  # type: ignore[attr-defined]
        shift: Floats = self._shift  # type: ignore[attr-defined]
        column = (y * scale.take(row) + shift.take(row)).astype(np.int32)
        np.clip(column, 0, columns - 1, out=column)
        row *= columns
        row += column
        return row

    def height_at(self, x: Floats, y: Floats) -> Floats:
        """Height of the ground under world positions, metres, from the four nearest cells.

        A beam grazes far ground: steps of millimetres between cells would be decimetres of range.
        """
        rows, columns = self.height.shape
        s = x * np.float32(1 / CELL) - np.float32(0.5)
        row = np.floor(s)
        s -= row
        row = row.astype(np.int32) % rows
        scale: Floats = self._scale  # type: ignore[attr-defined]
        shift: Floats = self._shift  # type: ignore[attr-defined]
        n = np.clip(y * scale.take(row) + shift.take(row) - np.float32(0.5), 0, columns - 1.001)
        column = n.astype(np.int32)
        n -= column
        here = row * columns + column
        there = (row + 1) % rows * columns + column
        heights = self.height.reshape(-1)
        near = heights.take(here) * (1 - n) + heights.take(here + 1) * n
        return near + s * (heights.take(there) * (1 - n) + heights.take(there + 1) * n - near)


def _distances(sensor: Sensor) -> NDArray[np.float64]:
    """Where the profile is sampled: dense where beams meet flat ground, and some far ones; (D,)."""
    down = sensor.elevations[sensor.elevations < -0.02]
    flat = sensor.height / np.tan(-down)
    near = np.concatenate([flat, (flat[1:] + flat[:-1]) / 2, np.geomspace(1.5, sensor.max_range + 2, 60)])
    near = np.unique(near[(near >= 1.4) & (near <= sensor.max_range + 2)])
    keep = np.concatenate([[True], np.diff(near) > 0.08])
    return np.asarray(near[keep])


def cast_ground(ground: Ground, position: NDArray[np.float64], directions: list[Floats], sensor: Sensor) -> Floats:
    """Distance at which each ray meets the ground, infinite for none within range.

    For every azimuth the ground's height is sampled at growing distances; the running maximum of the elevations under
    which the samples are seen is what stands before the sky, so a ray ends between the first sample at or above
    its own elevation and the one before. Hills and kerbs hide what is behind them.

    Args:
        ground: the map.
        position: (3,) of the sensor, world.
        directions: x y z of (R,) each, world.
        sensor: for its range and beams.

    Returns:
        (R,) metres.
    """
    dx, dy, dz = directions
    steps = sensor.azimuth_steps
    rho = _distances(sensor).astype(np.float32)
    angle = (np.arange(steps, dtype=np.float32) + 0.5) * np.float32(TURN / steps)
    x = np.float32(position[0]) + np.cos(angle)[:, None] * rho
    y = np.float32(position[1]) + np.sin(angle)[:, None] * rho
    height = ground.height_at(x, y) - np.float32(position[2])
    slope = np.maximum.accumulate(height / rho, axis=1)  # (A, D)

    level = np.sqrt(dx * dx + dy * dy)
    wanted = dz / level
    column = (np.arctan2(dy, dx) * np.float32(steps / TURN)).astype(np.int32) % steps
    column = np.where(dy < 0, (column - 1) % steps, column)
    # one sorted list for all azimuths: each gets a band of its own, wider than any slope
    band = np.float64(16.0)
    keys = (np.clip(slope, -7, 7) + band * np.arange(steps)[:, None]).reshape(-1)
    place = np.searchsorted(keys, wanted + band * column)
    nth = place - column * len(rho)
    hits = np.flatnonzero((nth > 0) & (nth < len(rho)))
    place, nth = place[hits], nth[hits]
    flat = height.reshape(-1)
    want = wanted[hits]
    before = want * rho[nth - 1] - flat[place - 1]
    after = want * rho[nth] - flat[place]
    part = np.clip(before / np.maximum(before - after, 1e-6), 0, 1)
    distance = np.full(len(dx), np.inf, np.float32)
    distance[hits] = (rho[nth - 1] + part * (rho[nth] - rho[nth - 1])) / level[hits]
    return distance
