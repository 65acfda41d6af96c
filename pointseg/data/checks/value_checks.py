"""Finds values that no working sensor gives: coordinates, remission, and other number types read as 32-bit floats.

Legend: N points, C columns of a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Fault", "as_other_type", "look_at_coordinates", "look_at_remission", "unlabelled_instances"]

COPY_AGAIN = "Copy the file again from its source."
TINY = 1e-30  # metres: no distance comes this near zero without being zero (rounding leaves 1e-17)
FEW = 3  # points: up to so many are single damaged values, more are another number type
ZERO_RUN = 32  # points of zero bytes one after another: 512 bytes, the smallest block a disk loses
GRIDS = (100, 255)  # steps in which sensors give remission, over 0 to 1
ON_GRID = 0.99


@dataclass(frozen=True)
class Fault:
    """What is wrong with some values; `many`: so many that another number type may be the reason."""

    level: str
    kind: str
    what: str
    remedy: str = COPY_AGAIN
    many: bool = False


def look_at_coordinates(points: NDArray[np.float32], max_range: float, max_height: float) -> Fault | None:
    """The worst fault of the coordinates of points (N, 4) in metres, which are finite."""
    farthest, zero, tiny = [0.0] * 3, [False] * 3, False
    axis = np.empty(len(points), np.float32)  # one array for all columns: fresh memory costs more than the check
    for number in range(3):
        np.copyto(axis, points[:, number])
        np.abs(axis, out=axis)
        farthest[number] = float(axis.max())
        if (near := axis < TINY).any():
            zero[number], tiny = not axis[near].all(), tiny or bool(axis[near].any())
    # no point is farther than the corner of the box; distances are computed only if that is too far
    if math.hypot(farthest[0], farthest[1]) > max_range or farthest[2] > max_height:
        fault = _too_far(points, max_range, max_height)
        if fault is not None:
            return fault
    return _too_near(points) if tiny or all(zero) else None


def _too_far(points: NDArray[np.float32], max_range: float, max_height: float) -> Fault | None:
    x, y, z = np.abs(points[:, :3].T.astype(np.float64))
    reach = np.hypot(x, y)
    outside = int(np.count_nonzero((reach > max_range) | (z > max_height)))
    if not outside:
        return None
    return Fault(
        "error",
        "out of range",
        f"{outside} of {len(points)} points are more than {max_range:g} m away or {max_height:g} m up or down "
        f"(up to {reach.max():.6g} m away, {z.max():.6g} m up or down)",
        "Copy the file again, or raise check.max_range or check.max_height.",
        many=outside > max(FEW, len(points) // 100),
    )


def _too_near(points: NDArray[np.float32]) -> Fault | None:
    """The fault of coordinates that are zero, or nearly."""
    magnitude, count = np.abs(points[:, :3].T), len(points)
    tiny = int(np.count_nonzero(((magnitude < TINY) & (magnitude > 0)).any(axis=0)))
    if tiny > FEW:
        what = f"{tiny} of {count} points have a coordinate below {TINY:g} m that is not zero: not 32-bit floats"
        return Fault("error", "wrong dtype", what, "Write the file again as float32, little-endian.", many=True)
    if tiny:
        what = f"{tiny} of {count} points have a coordinate below {TINY:g} m that is not zero: no sensor gives that"
        return Fault("error", "out of range", what)
    return _zeros(magnitude)


def _zeros(magnitude: NDArray[np.float32]) -> Fault | None:
    """The fault of points at (0, 0, 0)."""
    at_zero = ~(magnitude > 0).any(axis=0)
    zeros, count = int(np.count_nonzero(at_zero)), magnitude.shape[1]
    if not zeros:
        return None
    what = f"{zeros} of {count} points lie at (0, 0, 0)"
    if zeros > count // 2:
        return Fault("error", "zero points", what if zeros < count else f"all {count} points lie at (0, 0, 0)")
    places = np.flatnonzero(at_zero)
    if zeros >= ZERO_RUN and places[-1] - places[0] == zeros - 1:
        lost = f"points {places[0]} to {places[-1]} are zero and no other is: a lost block"
        return Fault("error", "zero points", lost)
    remedy = "If these are rays without an echo, leave them out of the file and of its labels."
    return Fault("warning", "zero points", what, remedy)


def look_at_remission(points: NDArray[np.float32]) -> Fault | None:
    """The fault of the remission of points (N, 4), or of points that are all the same."""
    remission, count = np.ascontiguousarray(points[:, 3]), len(points)
    if count > 1 and points[0, 0] == points[-1, 0] and (points[:, :3] == points[0, :3]).all():
        place = ", ".join(f"{value:g}" for value in points[0, :3])
        return Fault("error", "same points", f"all {count} points lie at ({place})")
    low, high = float(remission.min()), float(remission.max())
    if low < 0 or high > 1:
        outside = int(np.count_nonzero((remission < 0) | (remission > 1)))
        if low >= 0 and high <= 255 and outside > count // 20:
            what = f"remission goes up to {high:g}: another scale"
            return Fault("error", "remission scale", what, "Set remission_scale=255.")
        what = f"remission of {outside} of {count} points leaves 0 to 1 ({low:g} to {high:g})"
        return Fault("error", "remission", what)
    for steps in GRIDS:
        if _on_grid(remission[:: max(1, count // 512)], steps).mean() < ON_GRID - 0.05:
            continue  # a sample rules most grids out
        off = count - int(np.count_nonzero(_on_grid(remission, steps)))
        if off == 0:
            return None
        if off <= count * (1 - ON_GRID):
            what = f"remission of {off} of {count} points is not in steps of 1/{steps}, as all others are"
            return Fault("error", "remission", what)
    return None


def _on_grid(remission: NDArray[np.float32], steps: int) -> NDArray[np.bool_]:
    levels = remission * np.float32(steps)
    np.rint(levels, out=levels)
    levels /= np.float32(steps)
    return levels == remission


def unlabelled_instances(labels: NDArray[np.uint32]) -> int:
    """How many raw labels (N,) have an instance id but semantic id 0, if these are more than half; else 0."""
    count = int(np.count_nonzero((labels > 0xFFFF) & ((labels & 0xFFFF) == 0)))
    return count if count > len(labels) // 2 else 0


def as_other_type(path: Path, columns: int, max_range: float, max_height: float) -> str | None:
    """The number type as which a `.bin` file of C columns makes sense, or "text"; None if there is none."""
    try:
        with open(path, "rb") as file:
            start = file.read(256)
    except OSError:
        return None
    if start and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in start):
        return "text"
    for dtype, name in ((">f4", "big-endian numbers"), ("<f8", "64-bit floats"), (">f8", "big-endian 64-bit floats")):
        values = np.fromfile(path, dtype)
        if values.size == 0 or values.size % columns or values.nbytes != path.stat().st_size:
            continue
        with np.errstate(all="ignore"):
            sizes = np.abs(values.reshape(-1, columns)[:, :4].astype(np.float64))
        if not np.isfinite(sizes).all():
            continue
        inside = (sizes[:, :2] <= max_range).all() and (sizes[:, 2] <= max_height).all() and (sizes[:, 3] <= 255).all()
        if inside and not ((sizes < TINY) & (sizes > 0)).any() and sizes[:, :3].any():
            return name
    return None
