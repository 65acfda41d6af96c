"""Casts the rays of one turn at many primitives: windows of the range image, then a depth buffer.

Only rays within a primitive's window of azimuth and elevation can hit it, so pairs of ray and primitive are listed
from these windows, nearest primitives first, and pairs that something nearer already hides are dropped before they
are computed. Depth and primitive are packed into one integer per ray (the bits of a positive float32 sort like the
number), so that the nearest hit is one `minimum`.

Shapes:  R rays (beams x steps), P primitives, N pairs
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pointseg.data.synthetic.sensor import Sensor
from pointseg.data.synthetic.shapes import INTERSECTIONS, Floats, Primitives

__all__ = ["cast_primitives"]

PAIRS_AT_ONCE = 100_000  # what stays in the processor's cache
CORNERS = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)


def _windows(
    primitives: Primitives, rotation: NDArray[np.float64], position: NDArray[np.float64], sensor: Sensor
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Floats]:
    """Per primitive: first row, rows, first column, columns of its window, and the nearest distance it can have."""
    half = primitives.half.astype(np.float64)
    lean = np.maximum(1 + np.abs(primitives.taper) * half[:, 2:] / np.maximum(half[:, :2], 1e-6), 1)
    reach = half.copy()
    reach[:, :2] *= lean  # the wide end of a tapered box
    cos, sin = np.cos(primitives.yaw)[:, None], np.sin(primitives.yaw)[:, None]
    local = CORNERS * reach[:, None, :]
    corners = np.stack(
        [cos * local[..., 0] - sin * local[..., 1], sin * local[..., 0] + cos * local[..., 1], local[..., 2]], axis=-1
    )
    # into the sensor's frame; einsum, because a matrix product may round differently with another number of threads
    center = np.einsum("pi,ij->pj", primitives.center - position, rotation)
    corners = np.einsum("pci,ij->pcj", corners, rotation) + center[:, None, :]

    # nearest horizontal distance: from the sensor to the footprint, in the primitive's own frame
    own = np.stack(
        [
            cos[:, 0] * (primitives.center[:, 0] - position[0]) + sin[:, 0] * (primitives.center[:, 1] - position[1]),
            -sin[:, 0] * (primitives.center[:, 0] - position[0]) + cos[:, 0] * (primitives.center[:, 1] - position[1]),
        ],
        axis=-1,
    )
    near = np.hypot(*np.maximum(np.abs(own) - reach[:, :2], 0).T)
    far = np.hypot(*np.abs(corners[..., :2]).max(axis=1).T)
    tilt = np.arccos(np.clip(rotation[2, 2], -1, 1))
    level = near * np.cos(tilt) - np.abs(corners[..., 2]).max(axis=1) * np.sin(tilt)
    level = np.maximum(level, 1e-3)

    top, bottom = corners[..., 2].max(axis=1), corners[..., 2].min(axis=1)
    highest = np.arctan2(top, np.where(top > 0, level, far)) + 1e-3
    lowest = np.arctan2(bottom, np.where(bottom < 0, level, far)) - 1e-3
    descending = -sensor.elevations
    row = np.searchsorted(descending, -highest)
    rows = np.searchsorted(descending, -lowest) - row

    heading = np.arctan2(center[:, 1], center[:, 0])
    away = np.arctan2(corners[..., 1], corners[..., 0]) - heading[:, None]
    away = (away + np.pi) % (2 * np.pi) - np.pi
    step = 2 * np.pi / sensor.azimuth_steps
    first = np.floor((heading + away.min(axis=1)) / step - 0.5).astype(np.int64)
    last = np.ceil((heading + away.max(axis=1)) / step - 0.5).astype(np.int64)
    columns = last - first + 1
    around = (level < 0.05) | (columns > sensor.azimuth_steps * 0.49)  # over or around the sensor
    first, columns = np.where(around, 0, first), np.where(around, sensor.azimuth_steps, columns)
    return row, np.maximum(rows, 0), first % sensor.azimuth_steps, columns, near.astype(np.float32)


def _hits(
    kind: int,
    which: NDArray[np.int64],
    rays: NDArray[np.int64],
    directions: list[Floats],
    table: list[Floats],
    texture: Floats,
    random: np.random.Generator,
) -> Floats:
    """Distance of each pair's hit, infinite where the ray misses or passes through; (N,)."""
    cos, sin, ox, oy, oz, hx, hy, hz, tx, ty, density = table
    dx, dy, dz = (axis.take(rays) for axis in directions)
    c, s = cos.take(which), sin.take(which)
    direction = [c * dx + s * dy, c * dy - s * dx, dz]
    origin = [axis.take(which) for axis in (ox, oy, oz)]
    half = [axis.take(which) for axis in (hx, hy, hz)]
    taper = [axis.take(which) for axis in (tx, ty)]
    enter, leave = INTERSECTIONS[kind](origin, direction, half, taper)
    rate = density.take(which)
    porous = np.flatnonzero(np.isfinite(rate) & (enter < leave))
    if len(porous):
        way = 0.15 * random.standard_exponential(len(porous), np.float32) + texture.take(rays[porous])
        enter[porous] += way / rate[porous]
    return np.where((enter < leave) & (enter > 0.3), enter, np.float32(np.inf))


def _batches(kind: NDArray[np.int8], pairs: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split primitives, sorted nearest first, into batches of one kind with about PAIRS_AT_ONCE pairs."""
    batches: list[NDArray[np.int64]] = []
    slices = np.searchsorted(np.cumsum(pairs), np.arange(4, int(pairs.sum()) // PAIRS_AT_ONCE + 5) * PAIRS_AT_ONCE)
    bounds = np.unique(np.concatenate([[0], slices, [len(kind)]]))
    for start, stop in pairwise(bounds):
        for shape in INTERSECTIONS:
            chosen = start + np.flatnonzero(kind[start:stop] == shape)
            cuts = np.flatnonzero(np.diff(np.cumsum(pairs[chosen]) // PAIRS_AT_ONCE)) + 1
            batches += [part for part in np.split(chosen, cuts) if len(part)]
    return batches


def _pairs(
    batch: NDArray[np.int64],
    row: NDArray[np.int64],
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    columns: NDArray[np.int64],
    steps: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ray and primitive of each pair (N,) in the windows of a batch of primitives; see `_windows`."""
    # one span of columns for each row of each window, then one pair for each column of each span
    span = np.repeat(batch, rows[batch])
    nth = np.arange(len(span)) - np.repeat(np.cumsum(rows[batch]) - rows[batch], rows[batch])
    start, count = first[span], columns[span]
    total = np.cumsum(count)
    column = np.arange(total[-1]) - np.repeat(total - count - start, count)
    column -= steps * (column >= steps)
    return column + np.repeat((row[span] + nth) * steps, count), np.repeat(span, count)


def cast_primitives(
    primitives: Primitives,
    pose: NDArray[np.float64],
    sensor: Sensor,
    directions: list[Floats],
    depth: Floats,
    texture: Floats,
    random: np.random.Generator,
) -> tuple[Floats, NDArray[np.int64]]:
    """Cast every ray at every primitive and keep the nearest hit.

    Args:
        primitives: in the world's frame.
        pose: (4, 4) sensor to world.
        sensor: gives the rays.
        directions: the rays in the world's frame, x y z of (R,) each.
        depth: (R,) distance of what the rays hit otherwise, e.g. the ground; infinite for nothing.
        texture: (R,) how far neighbouring rays get into porous primitives, 1 on average.
        random: decides further where rays end within porous primitives.

    Returns:
        Distance (R,) and index of the primitive that is hit (R,), -1 where none is nearer than `depth`.
    """
    rotation, position = pose[:3, :3], pose[:3, 3]
    offset = primitives.center - position
    reach = sensor.max_range + np.linalg.norm(primitives.half, axis=1)
    candidates = np.flatnonzero((offset * offset).sum(axis=1) < reach * reach)
    row, rows, first, columns, near = _windows(primitives.take(candidates), rotation, position, sensor)
    visible = np.flatnonzero((rows > 0) & (near < sensor.max_range))
    order = visible[np.argsort(near[visible], kind="stable")]
    row, rows, first, columns, near = row[order], rows[order], first[order], columns[order], near[order]
    index = candidates[order]
    chosen = primitives.take(index)

    cos, sin = np.cos(chosen.yaw), np.sin(chosen.yaw)
    x, y, z = (position - chosen.center).astype(np.float32).T
    table = [cos, sin, cos * x + sin * y, cos * y - sin * x, z, *chosen.half.T, *chosen.taper.T, chosen.density]
    table = [np.ascontiguousarray(column, np.float32) for column in table]

    buffer = (depth.view(np.uint32).astype(np.uint64) << np.uint64(32)) | np.uint64(0xFFFFFFFF)
    for batch in _batches(chosen.kind, rows * columns):
        rays, which = _pairs(batch, row, rows, first, columns, sensor.azimuth_steps)
        unhidden = np.flatnonzero(depth.take(rays) > near.take(which))
        rays, which = rays.take(unhidden), which.take(unhidden)
        distance = _hits(int(chosen.kind[batch[0]]), which, rays, directions, table, texture, random)
        hit = np.flatnonzero(distance < depth.take(rays))
        rays = rays.take(hit)
        key = (distance.take(hit).view(np.uint32).astype(np.uint64) << np.uint64(32)) | which.take(hit).astype(
            np.uint64
        )
        np.minimum.at(buffer, rays, key)
        depth = (buffer >> np.uint64(32)).astype(np.uint32).view(np.float32)
    which = (buffer & np.uint64(0xFFFFFFFF)).astype(np.int64)
    none = which == 0xFFFFFFFF
    return depth, np.where(none, -1, index[np.where(none, 0, which)] if len(index) else -1)
