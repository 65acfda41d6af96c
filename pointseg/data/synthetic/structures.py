"""Buildings, fences, walls, poles, signs and street clutter, each from a few primitives."""

from __future__ import annotations

import numpy as np

from pointseg.data.synthetic.objects import Builder

__all__ = ["building", "clutter", "fence", "gantry", "lamp", "pole", "rail", "sign", "structure"]

Random = np.random.Generator
STOREY = 2.9  # metres


def building(
    b: Builder,
    random: Random,
    s: float,
    n: float,
    length: float,
    depth: float,
    height: float,
    side: int,
    yaw: float = 0.0,
) -> None:
    """A house of `length` along the street and `depth` across, centred at (s, n); its front looks towards n = 0.

    Windows and doors stand out or back a little and return fewer rays; bays and steps break the front's line.
    """
    shade = float(np.clip(random.normal(1.0, 0.22), 0.5, 1.5))
    b.place("building", s, n, yaw, shade=shade)
    b.box("wall", (0, 0, height / 2 - 1.0), (length, depth, height + 2.0))  # reaches below ground on a slope
    if random.random() < 0.6:
        b.box("planks", (0, 0, height + 1.5), (length + 0.8, depth + 0.8, 3.0), taper=(0.0, 1.2))
    front = -side * depth / 2
    pane, relief = (
        random.uniform(0.9, 1.6),
        random.uniform(0.06, 0.4),
    )  # a frame or bay that stands out, as deep as others lie back
    count = max(1, int(length / random.uniform(2.4, 3.6)))
    for i in range(count):
        x = (i + 0.5) * length / count - length / 2
        for storey in range(2):  # what the sensor sees of it
            low = 0.95 + storey * STOREY
            if low > height - 0.5:
                break
            if storey == 0 and random.random() < 0.18:  # a door or a garage
                wide = float(random.choice([1.0, 2.4]))
                b.box("planks", (x, front, 1.05), (wide, 0.12, 2.1), shade=0.8)
                continue
            b.box("window", (x, front, low + 0.65), (pane, relief, 1.3))
            b.box("wall", (x, front, low - 0.06), (pane + 0.2, 0.28, 0.1), shade=1.1)
    if random.random() < 0.35:
        wide, out = random.uniform(2, 4), random.uniform(0.5, 1.6)
        x = random.uniform(-0.5, 0.5) * max(length - wide, 0.1)
        b.box("wall", (x, front - side * out / 2, height * 0.3), (wide, out, height * 0.6))
    if random.random() < 0.4:
        x = random.uniform(-0.4, 0.4) * length
        b.box("wall", (x, front - side * 0.6, 0.15), (1.6, 1.4, 0.5), shade=0.9)


def fence(
    b: Builder, random: Random, s: float, n: float, length: float, height: float, kind: int, yaw: float = 0.0
) -> None:
    """A fence along its own x: kind 0 is a wall, 1 boards, 2 pickets or wire, 3 pickets on a low wall."""
    shade = float(np.clip(random.normal(1.0, 0.2), 0.5, 1.4))
    pieces = max(1, round(length / 4.0))
    step = length / pieces
    for i in range(pieces):
        along = (i + 0.5) * step - length / 2
        b.place("fence", s + along * np.cos(yaw), n + along * np.sin(yaw), yaw, shade=shade)
        if kind == 0:
            b.box("wall", (0, 0, height / 2 - 0.2), (step * 1.01, 0.24, height + 0.4))
        elif kind == 1:
            b.box("planks", (0, 0, height / 2), (step * 1.01, 0.05, height), density=80.0)
        else:
            base = 0.45 if kind == 3 else 0.0
            if kind == 3:
                b.box("wall", (0, 0, base / 2 - 0.2), (step * 1.01, 0.22, base + 0.4))
            b.box("rail", (0, 0, base + (height - base) / 2), (step, 0.06, height - base), density=9.0, shade=1.1)
            b.box("rail", (0, 0, height - 0.1), (step, 0.06, 0.08), shade=1.1)
        if kind:
            b.cylinder("planks", (-step / 2, 0, height / 2), 0.05, height + 0.1)


def rail(b: Builder, random: Random, s: float, n: float, length: float) -> None:
    """A crash barrier beside a fast road; SemanticKITTI counts it as fence."""
    pieces = max(1, round(length / 4.0))
    step = length / pieces
    for i in range(pieces):
        b.place("fence", s + (i + 0.5) * step - length / 2, n, shade=random.uniform(0.8, 1.2))
        b.box("rail", (0, 0, 0.62), (step * 1.02, 0.08, 0.32))
        b.box("rail", (0, 0.05, 0.35), (0.1, 0.1, 0.7))


def pole(b: Builder, random: Random, s: float, n: float, height: float = 2.5, radius: float = 0.05) -> None:
    """A plain post or bollard."""
    b.place("pole", s, n, shade=random.uniform(0.5, 1.5))
    b.cylinder("mast", (0, 0, height / 2 - 0.1), radius, height + 0.2)


def lamp(b: Builder, random: Random, s: float, n: float, side: int) -> None:
    """A street lamp, thicker at its foot."""
    b.place("pole", s, n, shade=random.uniform(0.5, 1.4))
    b.cylinder("mast", (0, 0, 0.6), 0.11, 1.4)
    b.cylinder("mast", (0, 0, 3.2), 0.075, 6.6)
    b.box("mast", (0, -side * 0.7, 6.5), (0.15, 1.6, 0.12))


def sign(b: Builder, random: Random, s: float, n: float, yaw: float = 0.0, large: bool = False) -> None:
    """A traffic sign or a direction board on one post or two; its plate stands across the local x axis."""
    wide, high = (random.uniform(1.6, 3.2), random.uniform(1.0, 1.9)) if large else (0.65, 0.65)
    if not large and random.random() < 0.4:
        high = random.uniform(0.85, 1.2)
    low = random.uniform(0.6, 3.0) if large else random.uniform(0.9, 2.7)
    b.place("pole", s, n, yaw, shade=random.uniform(0.7, 1.3))
    for y in (-0.35 * wide, 0.35 * wide) if large else (0.0,):
        b.cylinder("mast", (0, y, (low + high) / 2), 0.07 if large else 0.04, low + high)
    b.name("traffic-sign", random.uniform(0.7, 1.3))
    b.box("sign", (-0.06, 0, low + high / 2), (0.04, wide, high))


def gantry(b: Builder, random: Random, s: float, n: float) -> None:
    """A sign held over the roadway from one mast."""
    b.place("pole", s, n)
    b.cylinder("mast", (0, 0, 3.0), 0.15, 6.4)
    b.name("traffic-sign")
    b.box("sign", (0, -np.sign(n) * 2.2, 5.0), (0.15, 3.0, 1.6))


CLUTTER = ("other-object", "other-object", "other-object", "unlabeled")


def clutter(b: Builder, random: Random, s: float, n: float) -> None:
    """A dustbin, cabinet, bench, pile or board: what the labels call other-object or leave unlabelled."""
    b.place(
        CLUTTER[int(random.integers(len(CLUTTER)))],
        s,
        n,
        random.uniform(0, 3.1),
        shade=random.uniform(0.4, 1.4),
    )
    kind = random.integers(4)
    if kind == 0:
        for i in range(int(random.integers(1, 4))):
            b.box("clutter", (i * 0.7, 0, 0.52), (0.55, 0.6, 1.05), taper=(-0.05, -0.05))
    elif kind == 1:
        b.box("clutter", (0, 0, 0.6), (random.uniform(0.5, 1.6), 0.4, random.uniform(0.9, 1.5)))
    elif kind == 2:
        b.box("clutter", (0, 0, 0.42), (1.7, 0.45, 0.08))
        b.box("clutter", (0, 0.22, 0.7), (1.7, 0.06, 0.4))
        b.box("clutter", (0, 0, 0.2), (1.4, 0.3, 0.4), density=4.0)
    else:
        b.ellipsoid("clutter", (0, 0, 0.1), (random.uniform(0.5, 1.4), 0.7, random.uniform(0.4, 0.9)))


def structure(b: Builder, random: Random, s: float, n: float) -> None:
    """A shelter, kiosk or advertising pillar: other-structure."""
    b.place("other-structure", s, n, random.uniform(-0.1, 0.1), shade=random.uniform(0.7, 1.2))
    if random.random() < 0.5:
        b.cylinder("wall", (0, 0, 1.6), 0.7, 3.4)
        return
    b.box("window", (0, 0.7, 1.25), (3.6, 0.06, 2.2))
    b.box("rail", (0, 0, 2.5), (3.9, 1.6, 0.15))
    for x in (-1.8, 1.8):
        b.box("rail", (x, 0.7, 1.25), (0.1, 0.1, 2.5))
