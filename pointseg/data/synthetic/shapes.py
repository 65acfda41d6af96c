"""Primitives and where a ray enters and leaves them: tapered boxes, vertical cylinders, ellipsoids.

Every primitive has a frame of its own: origin at its centre, z up, turned by `yaw` about z. Intersections are computed
for N pairs of a ray and a primitive at once, in that frame. A ray that misses enters later than it leaves.

Shapes:  N pairs of ray and primitive, P primitives
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOX", "CYLINDER", "ELLIPSOID", "INTERSECTIONS", "Primitives"]

Floats = NDArray[np.float32]

BOX, CYLINDER, ELLIPSOID = 0, 1, 2
TINY = np.float32(1e-9)


@dataclass(frozen=True)
class Primitives:
    """P primitives as columns.

    Attributes:
        kind: (P,) BOX, CYLINDER or ELLIPSOID.
        center: (P, 3) metres; float64, as a drive may lead far from the origin.
        half: (P, 3) half length, half width and half height in metres; a cylinder uses the first as its radius.
        yaw: (P,) radians about z.
        taper: (P, 2) how much the half length and half width of a box shrink per metre of height, from its middle.
        density: (P,) hits per metre of way through it; infinite where solid.
        material: (P,) index into the table of materials.
        shade: (P,) how much brighter or darker it is than its material's mean.
        label: (P,) raw label, instance id in the upper 16 bits.
        owner: (P,) index of the object that it is part of.
    """

    kind: NDArray[np.int8]
    center: NDArray[np.float64]
    half: Floats
    yaw: Floats
    taper: Floats
    density: Floats
    material: NDArray[np.int16]
    shade: Floats
    label: NDArray[np.uint32]
    owner: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> Primitives:
        """The primitives at these positions, or where this mask is true."""
        return Primitives(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def _half_space(enter: Floats, leave: Floats, offset: Floats, slope: Floats) -> None:
    """Narrow [enter, leave] to where offset + slope * t <= 0, in place."""
    slope = np.where(np.abs(slope) < TINY, TINY, slope)
    t = -offset / slope
    inward = slope < 0
    np.maximum(enter, np.where(inward, t, -np.inf), out=enter)
    np.minimum(leave, np.where(inward, np.inf, t), out=leave)


def _slab(enter: Floats, leave: Floats, origin: Floats, direction: Floats, half: Floats) -> None:
    """Narrow [enter, leave] to where |origin + direction * t| <= half, in place."""
    inverse = 1 / np.where(np.abs(direction) < TINY, TINY, direction)
    middle, width = -origin * inverse, half * np.abs(inverse)
    np.maximum(enter, middle - width, out=enter)
    np.minimum(leave, middle + width, out=leave)


def intersect_boxes(o: list[Floats], d: list[Floats], half: list[Floats], taper: list[Floats]) -> tuple[Floats, Floats]:
    """Boxes whose sides may lean inwards. o, d: origin and direction, each x y z of (N,); -> enter, leave (N,)."""
    enter, leave = np.zeros_like(d[0]), np.full_like(d[0], np.inf)
    _slab(enter, leave, o[2], d[2], half[2])
    for axis in (0, 1):
        lean = taper[axis]
        if not lean.any():
            _slab(enter, leave, o[axis], d[axis], half[axis])
            continue
        for sign in (1, -1):
            _half_space(enter, leave, sign * o[axis] + lean * o[2] - half[axis], sign * d[axis] + lean * d[2])
    return enter, leave


def _quadratic(a: Floats, b: Floats, c: Floats) -> tuple[Floats, Floats]:
    """Where a t^2 + 2 b t + c <= 0: enter, leave; a miss enters at infinity."""
    root = b * b - a * c
    miss = root < 0
    root = np.sqrt(np.maximum(root, 0))
    a = np.maximum(a, TINY)
    enter = np.where(miss, np.inf, np.maximum((-b - root) / a, 0))
    return enter, (-b + root) / a


def intersect_cylinders(
    o: list[Floats], d: list[Floats], half: list[Floats], taper: list[Floats]
) -> tuple[Floats, Floats]:
    """Upright cylinders of radius half[0] and half height half[2]."""
    enter, leave = _quadratic(
        d[0] * d[0] + d[1] * d[1], o[0] * d[0] + o[1] * d[1], o[0] * o[0] + o[1] * o[1] - half[0] * half[0]
    )
    _slab(enter, leave, o[2], d[2], half[2])
    return enter, leave


def intersect_ellipsoids(
    o: list[Floats], d: list[Floats], half: list[Floats], taper: list[Floats]
) -> tuple[Floats, Floats]:
    """Ellipsoids with the half axes half[0], half[1], half[2]."""
    p = [o[i] / half[i] for i in range(3)]
    q = [d[i] / half[i] for i in range(3)]
    return _quadratic(
        q[0] * q[0] + q[1] * q[1] + q[2] * q[2],
        p[0] * q[0] + p[1] * q[1] + p[2] * q[2],
        p[0] * p[0] + p[1] * p[1] + p[2] * p[2] - 1,
    )


Intersect = Callable[[list[Floats], list[Floats], list[Floats], list[Floats]], tuple[Floats, Floats]]
INTERSECTIONS: dict[int, Intersect] = {
    BOX: intersect_boxes,
    CYLINDER: intersect_cylinders,
    ELLIPSOID: intersect_ellipsoids,
}
