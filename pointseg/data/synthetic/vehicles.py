"""Cars, trucks, buses, trailers, bicycles, motorcycles, people and riders, each from a few primitives.

`b` is the Builder; every function places one object at (s, n) in the street and gives it an instance id of its own.
"""

from __future__ import annotations

import numpy as np

from pointseg.data.synthetic.objects import Builder

__all__ = ["bicycle", "bus", "car", "motorcycle", "person", "rider", "trailer", "truck"]

Random = np.random.Generator


def _wheels(b: Builder, length: float, width: float, radius: float, axles: tuple[float, ...]) -> None:
    for x in axles:
        b.box("tyre", (x * length, 0.0, radius), (2 * radius, width, 2 * radius * 0.95))


def car(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, speed: float = 0.0) -> None:
    """A hatchback, saloon, estate or van."""
    kind = random.choice(4, p=[0.40, 0.25, 0.22, 0.13])
    length = random.normal((3.9, 4.6, 4.5, 4.9)[kind], 0.18)
    width = random.normal((1.70, 1.80, 1.80, 1.92)[kind], 0.04)
    height = random.normal((1.50, 1.44, 1.52, 1.98)[kind], 0.05)
    belt = 0.58 * height if kind < 3 else 0.55 * height
    shade = float(np.clip(random.lognormal(-0.1, 0.5), 0.25, 2.2))
    b.place("moving-car" if speed else "car", s, n, yaw, speed, thing=True, shade=1.0)
    sill = 0.22
    # dark and mirroring paint sends nothing back from a whole side, not from single points of it
    paint = "black" if random.random() < 0.42 else "paint"
    # two boxes, so that the corners are cut
    b.box(paint, (0, 0, (sill + belt) / 2), (length - 0.45, width, belt - sill), taper=(0.12, 0.08), shade=shade)
    b.box(
        paint,
        (0, 0, (sill + belt) / 2 - 0.03),
        (length, width - 0.5, belt - sill - 0.06),
        taper=(0.12, 0.0),
        shade=shade,
    )
    # bonnet and boot slope: the cabin sits behind the middle, its windows lean
    cabin = (0.56, 0.48, 0.66, 0.78)[kind] * length
    shift = (-0.07, -0.04, -0.10, -0.07)[kind] * length
    glass = height - belt - 0.08
    lean = (0.75, 0.85, 0.6, 0.35)[kind]
    b.box("glass", (shift, 0, belt + glass / 2), (cabin, width * 0.90, glass), taper=(lean, 0.22))
    roof = cabin - lean * glass
    b.box(paint, (shift, 0, height - 0.06), (roof, width * 0.76, 0.10), shade=shade)
    for x in (0.0, -0.48 * roof):  # the pillars between the windows
        b.box(paint, (shift + x, 0, belt + glass / 2), (0.13, width * 0.91, glass), taper=(0, 0.2), shade=shade)
    for x in (length / 2 - 0.05, -length / 2 + 0.05):
        for side in (-1, 1):
            b.box("lamp", (x, side * width * 0.38, belt * 0.78), (0.14, 0.28, 0.16))
        b.box("sign", (x * 1.005, 0, 0.48), (0.08, 0.5, 0.12), shade=1.4)
    _wheels(b, length, width * 0.97, 0.31, (0.31, -0.31))


def truck(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, speed: float = 0.0) -> None:
    """A delivery van with a box body, or a lorry."""
    large = random.random() < 0.45
    length, width, height = (9.0, 2.45, 3.5) if large else (6.2, 2.05, 2.75)
    length, height = length + random.normal(0, 0.5), height + random.normal(0, 0.15)
    shade = random.uniform(0.6, 1.2)
    b.place("moving-truck" if speed else "truck", s, n, yaw, speed, thing=True)
    cab = 2.0 if large else 1.9
    floor = 0.9 if large else 0.5
    back = -cab / 2 - 0.05
    b.box("tarpaulin", (back, 0, (floor + height) / 2), (length - cab - 0.1, width, height - floor), shade=shade)
    b.box("paint", ((length - cab) / 2, 0, 0.45 + 0.4), (cab, width * 0.97, 0.9))
    b.box("paint", ((length - cab) / 2, 0, 1.3 + 0.5), (cab * 0.9, width * 0.94, 1.0), taper=(0.2, 0.05))
    b.box("glass", ((length - cab) / 2 + 0.1, 0, 1.75), (cab * 0.92, width * 0.80, 0.6), taper=(0.2, 0.0))
    b.box("rail", (back, 0, floor - 0.15), (length - cab, width * 0.4, 0.25), shade=0.5)
    _wheels(b, length, width * 0.96, 0.48 if large else 0.34, (0.36, -0.28, -0.40) if large else (0.34, -0.30))


def bus(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, speed: float = 0.0) -> None:
    """A city bus."""
    length, width = random.uniform(10.5, 12.5), 2.55
    b.place("moving-bus" if speed else "bus", s, n, yaw, speed, thing=True)
    b.box("tarpaulin", (0, 0, 0.80), (length, width, 1.0))
    b.box("glass", (0, 0, 1.9), (length * 0.995, width * 0.98, 1.2))
    b.box("tarpaulin", (0, 0, 2.8), (length, width, 0.6))
    for x in np.linspace(-0.45, 0.45, 7):
        b.box("paint", (x * length, 0, 1.9), (0.18, width, 1.2))
    _wheels(b, length, width * 0.98, 0.48, (0.30, -0.25))


def trailer(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, speed: float = 0.0) -> None:
    """A caravan, a trailer or a small excavator: what SemanticKITTI calls other-vehicle."""
    b.place("moving-other-vehicle" if speed else "other-vehicle", s, n, yaw, speed, thing=True)
    kind = random.integers(3)
    shade = random.uniform(0.8, 1.3)
    if kind == 0:  # caravan
        length = random.uniform(4.2, 6.0)
        b.box("tarpaulin", (0, 0, 1.5), (length, 2.2, 2.1), taper=(0.08, 0.04), shade=shade)
        b.box("window", (0, 0, 1.75), (length * 0.6, 2.23, 0.5))
        b.box("rail", (length / 2 + 0.6, 0, 0.45), (1.3, 0.12, 0.12))
        _wheels(b, length, 2.1, 0.32, (0.0,))
    elif kind == 1:  # open trailer
        b.box("rail", (0, 0, 0.75), (2.6, 1.4, 0.5), shade=shade)
        b.box("rail", (1.8, 0, 0.5), (1.2, 0.1, 0.1))
        _wheels(b, 2.6, 1.6, 0.3, (0.0,))
    else:  # excavator
        b.box("tyre", (0, 0.8, 0.4), (2.6, 0.5, 0.8), shade=2.0)
        b.box("tyre", (0, -0.8, 0.4), (2.6, 0.5, 0.8), shade=2.0)
        b.box("tarpaulin", (-0.3, 0, 1.3), (2.0, 1.8, 0.9), shade=shade)
        b.box("tarpaulin", (0.2, 0.4, 2.0), (1.0, 0.8, 1.0), shade=shade)
        b.box("rail", (1.8, -0.3, 1.9), (1.9, 0.3, 0.35), shade=shade)
        b.box("rail", (2.8, -0.3, 1.2), (0.35, 0.3, 1.7), shade=shade)


def _two_wheels(b: Builder, wheel: float, base: float, width: float, density: float) -> None:
    for x in (-base / 2, base / 2):
        b.ellipsoid("tyre", (x, 0, wheel), (wheel, width, wheel), density=density, shade=2.5)


def _bicycle_parts(b: Builder) -> None:
    _two_wheels(b, 0.34, 1.05, 0.03, 14.0)
    b.box("frame", (0.05, 0, 0.55), (0.75, 0.05, 0.40), density=9.0)
    b.box("frame", (0, 0, 0.32), (0.35, 0.12, 0.18))
    b.box("frame", (-0.22, 0, 0.80), (0.06, 0.06, 0.45))
    b.box("frame", (-0.25, 0, 0.96), (0.26, 0.15, 0.07))
    b.box("frame", (0.42, 0, 0.85), (0.06, 0.06, 0.5))
    b.box("frame", (0.40, 0, 1.05), (0.08, 0.55, 0.06))
    b.box("lamp", (-0.62, 0, 0.62), (0.35, 0.12, 0.08))


def bicycle(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0) -> None:
    """A parked bicycle."""
    b.place("bicycle", s, n, yaw, thing=True, shade=random.uniform(0.6, 1.3))
    _bicycle_parts(b)


def _motorcycle_parts(b: Builder) -> None:
    _two_wheels(b, 0.30, 1.30, 0.08, 40.0)
    b.ellipsoid("paint", (0.12, 0, 0.80), (0.38, 0.19, 0.20))
    b.box("frame", (0, 0, 0.48), (0.65, 0.34, 0.40))
    b.box("cloth", (-0.38, 0, 0.80), (0.65, 0.26, 0.12), shade=0.3)
    b.box("frame", (0.52, 0, 0.70), (0.12, 0.16, 0.65))
    b.box("frame", (0.45, 0, 1.05), (0.10, 0.70, 0.08))
    b.ellipsoid("lamp", (0.62, 0, 0.88), (0.12, 0.14, 0.14))


def motorcycle(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0) -> None:
    """A parked motorcycle or scooter."""
    b.place("motorcycle", s, n, yaw, thing=True, shade=random.uniform(0.7, 1.4))
    _motorcycle_parts(b)


def person(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, speed: float = 0.0) -> None:
    """Somebody who stands or walks."""
    tall = float(np.clip(random.normal(1.70, 0.12), 1.15, 1.95))
    stride = random.uniform(0.08, 0.22) if speed else 0.03
    shade = random.uniform(0.6, 1.3)
    b.place("moving-person" if speed else "person", s, n, yaw, speed, thing=True)
    for side in (-1, 1):
        b.cylinder("cloth", (side * stride, side * 0.09, 0.24 * tall), 0.085, 0.48 * tall, shade=shade * 0.8)
        b.cylinder("cloth", (-side * stride, side * 0.25, 0.60 * tall), 0.055, 0.34 * tall, shade=shade)
    b.ellipsoid("cloth", (0, 0, 0.65 * tall), (0.16, 0.23, 0.21 * tall), shade=shade)
    b.ellipsoid("cloth", (0, 0, 0.93 * tall), (0.11, 0.09, 0.075 * tall), shade=1.1)
    if random.random() < 0.3:  # a rucksack or a bag
        b.box("cloth", (-0.22, 0, 0.66 * tall), (0.2, 0.3, 0.4), shade=random.uniform(0.4, 1.2))


def rider(
    b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, speed: float = 0.0, motor: bool = False
) -> None:
    """Somebody on a bicycle, or on a motorcycle; the vehicle under a rider has the rider's class."""
    name = "motorcyclist" if motor else "bicyclist"
    b.place(f"moving-{name}" if speed else name, s, n, yaw, speed, thing=True)
    if motor:
        _motorcycle_parts(b)
    else:
        _bicycle_parts(b)
    seat = 0.82 if motor else 0.98
    shade = random.uniform(0.5, 1.3)
    for side in (-1, 1):
        b.box("cloth", (0.02, side * 0.13, seat - 0.10), (0.42, 0.14, 0.16), shade=shade * 0.8)
        b.cylinder("cloth", (0.16, side * 0.13, seat - 0.42), 0.07, 0.55, shade=shade * 0.8)
        b.box("cloth", (0.22, side * 0.22, seat + 0.30), (0.45, 0.09, 0.10), shade=shade)
    b.ellipsoid("cloth", (-0.08, 0, seat + 0.30), (0.20, 0.22, 0.36), shade=shade)
    b.ellipsoid("cloth", (0.06, 0, seat + 0.74), (0.13, 0.11, 0.14), shade=0.9)
