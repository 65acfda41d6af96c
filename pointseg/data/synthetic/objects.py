"""The objects of a street, each built from a few primitives, and where they are at a time.

Sizes are metres; an object's frame has its origin on the ground, x along its length, z up.

Shapes:  P primitives, O objects
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.synthetic.ground import LENGTH, Ground
from pointseg.data.synthetic.materials import material_index
from pointseg.data.synthetic.shapes import BOX, CYLINDER, ELLIPSOID, Primitives

__all__ = ["Builder", "Objects", "raw_id"]

SOLID = float("inf")
MAX_INSTANCE = 0xFFFF
Triple = tuple[float, float, float]


@cache
def _raw_ids() -> dict[str, int]:
    return {name: raw for raw, (name, _) in LabelMap.load("semantickitti").labels.items()}


def raw_id(name: str) -> int:
    """Raw id of a SemanticKITTI name.

    Example:
        >>> raw_id("moving-car")
        252
    """
    return _raw_ids()[name]


@dataclass(frozen=True)
class Objects:
    """All objects of a street.

    Attributes:
        parts: their primitives, in the frame of the object that owns them.
        s, n: (O,) place in street coordinates at time 0, metres.
        yaw: (O,) radians relative to the road.
        speed: (O,) along the road, metres per second, negative against it.
        lift: (O,) height of the object's origin above the ground.
    """

    parts: Primitives
    s: NDArray[np.float64]
    n: NDArray[np.float64]
    yaw: NDArray[np.float64]
    speed: NDArray[np.float64]
    lift: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.s)

    def at(self, time: float, ground: Ground, around: float) -> Primitives:
        """Primitives in the world's frame at a time in seconds.

        The street repeats: of each object's copies the one nearest to s = `around` is taken.
        """
        s = self.s + self.speed * time
        s = around + (s - around + LENGTH / 2) % LENGTH - LENGTH / 2
        place = ground.line.to_world(s, self.n)
        heading = self.yaw + ground.line.heading(s)
        z = ground.height_at(*place.T.astype(np.float32)) + self.lift
        owner = self.parts.owner
        cos, sin = np.cos(heading)[owner], np.sin(heading)[owner]
        x, y, up = self.parts.center.T
        center = np.stack(
            [place[owner, 0] + cos * x - sin * y, place[owner, 1] + sin * x + cos * y, z[owner] + up], axis=-1
        )
        return replace(self.parts, center=center, yaw=(self.parts.yaw + heading[owner]).astype(np.float32))


class Builder:
    """Collects objects and their primitives.

    Example:
        >>> b = Builder()
        >>> b.place("pole", s=10.0, n=4.5)
        >>> b.cylinder("mast", (0, 0, 2), radius=0.06, height=4)
        >>> len(b.finish())
        1
    """

    def __init__(self) -> None:
        self._rows: list[tuple[object, ...]] = []
        self._objects: list[tuple[float, float, float, float, float]] = []
        self._instances = 0
        self._label = 0
        self._shade = 1.0

    def place(
        self,
        name: str,
        s: float,
        n: float,
        yaw: float = 0.0,
        speed: float = 0.0,
        lift: float = 0.0,
        thing: bool = False,
        shade: float = 1.0,
    ) -> None:
        """Start an object; the primitives that follow belong to it. A `thing` gets an instance id of its own."""
        instance = 0
        if thing:
            if self._instances == MAX_INSTANCE:
                raise ConfigError("more things than instance ids", where="synthetic", remedy="Report this as a defect.")
            self._instances += 1
            instance = self._instances
        self._label = raw_id(name) | instance << 16
        self._shade = shade
        self._objects.append((s, n, yaw, speed, lift))

    def name(self, name: str, shade: float = 1.0) -> None:
        """The primitives that follow have another class (a tree's crown after its trunk)."""
        self._label = raw_id(name) | (self._label & ~MAX_INSTANCE)
        self._shade = shade

    def box(
        self,
        material: str,
        center: Triple,
        size: Triple,
        yaw: float = 0.0,
        taper: tuple[float, float] = (0.0, 0.0),
        density: float = SOLID,
        shade: float = 1.0,
    ) -> None:
        """A box of full sizes; `taper` is how much its half length and half width shrink per metre of height."""
        half = (size[0] / 2, size[1] / 2, size[2] / 2)
        self._add(BOX, material, center, half, yaw, taper, density, shade)

    def cylinder(
        self, material: str, center: Triple, radius: float, height: float, density: float = SOLID, shade: float = 1.0
    ) -> None:
        """An upright cylinder."""
        self._add(CYLINDER, material, center, (radius, radius, height / 2), 0.0, (0.0, 0.0), density, shade)

    def ellipsoid(
        self,
        material: str,
        center: Triple,
        half: Triple,
        yaw: float = 0.0,
        density: float = SOLID,
        shade: float = 1.0,
    ) -> None:
        """An ellipsoid with these half axes."""
        self._add(ELLIPSOID, material, center, half, yaw, (0.0, 0.0), density, shade)

    def _add(
        self,
        kind: int,
        material: str,
        center: Triple,
        half: Triple,
        yaw: float,
        taper: tuple[float, float],
        density: float,
        shade: float,
    ) -> None:
        self._rows.append(
            (
                kind, *center, *half, yaw, *taper, density, material_index(material), shade * self._shade,
                self._label, len(self._objects) - 1,
            )
        )  # fmt: skip

    def finish(self) -> Objects:
        """Everything that was placed."""
        table = np.array(self._rows, np.float64).reshape(-1, 15)
        f32 = table.astype(np.float32)
        parts = Primitives(
            kind=table[:, 0].astype(np.int8),
            center=table[:, 1:4].copy(),
            half=f32[:, 4:7].copy(),
            yaw=f32[:, 7].copy(),
            taper=f32[:, 8:10].copy(),
            density=f32[:, 10].copy(),
            material=table[:, 11].astype(np.int16),
            shade=f32[:, 12].copy(),
            label=table[:, 13].astype(np.uint32),
            owner=table[:, 14].astype(np.int32),
        )
        s, n, yaw, speed, lift = np.array(self._objects, np.float64).reshape(-1, 5).T.copy()
        return Objects(parts, s, n, yaw, speed, lift)
