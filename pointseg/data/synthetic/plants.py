"""Trees, bushes, hedges and forest edges: clusters of porous ellipsoids, so that rays end at different depths."""

from __future__ import annotations

import numpy as np

from pointseg.data.synthetic.objects import Builder

__all__ = ["bush", "hedge", "thicket", "tree"]

Random = np.random.Generator


def _density(random: Random, low: float, high: float) -> float:
    """Hits per metre of way through foliage: from airy to thick, evenly on a logarithmic scale."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def tree(b: Builder, random: Random, s: float, n: float, size: float = 1.0, bare: float = 2.2) -> None:
    """A tree: trunk with a few boughs, and a crown that begins at `bare` metres."""
    radius = float(np.clip(random.normal(0.15, 0.045), 0.06, 0.5)) * (0.5 + 0.5 * size)
    height = bare + random.uniform(3.0, 5.0) * size
    b.place("trunk", s, n, random.uniform(0, 6.28), shade=random.uniform(0.75, 1.15))
    b.cylinder("bark", (0, 0, bare / 2), radius, bare + 0.4)
    b.cylinder("bark", (0, 0, 0.12), radius * 1.35, 0.24)
    b.cylinder("bark", (0.05, 0.03, bare + 0.9), radius * 0.75, 2.0)
    b.name("vegetation", random.uniform(0.85, 1.12))
    width = random.uniform(1.3, 2.3) * size
    for _ in range(int(random.integers(4, 8))):
        angle, out = random.uniform(0, 6.28), random.uniform(0.1, 0.75) * width
        up = random.uniform(bare + 0.5, height)
        half = (
            random.uniform(0.5, 0.9) * width,
            random.uniform(0.5, 0.9) * width,
            random.uniform(0.35, 0.6) * width,
        )
        up = max(up, bare + half[2] * 0.6)
        b.ellipsoid("leaves", (out * np.cos(angle), out * np.sin(angle), up), half, density=_density(random, 0.2, 2.5))


def bush(b: Builder, random: Random, s: float, n: float, size: float = 1.0) -> None:
    """A shrub of a few lobes that reach the ground."""
    b.place("vegetation", s, n, random.uniform(0, 6.28), shade=random.uniform(0.85, 1.12))
    for _ in range(int(random.integers(2, 5))):
        w, h = random.uniform(0.4, 0.9) * size, random.uniform(0.45, 0.95) * size
        x, y = random.normal(0, 0.45, 2) * size
        b.ellipsoid("leaves", (float(x), float(y), h * 0.75), (w, w * 0.9, h), density=_density(random, 2.0, 14.0))


def hedge(b: Builder, random: Random, s: float, n: float, length: float, height: float, yaw: float = 0.0) -> None:
    """A clipped or grown hedge along its own x axis, `length` metres about (s, n)."""
    width = random.uniform(0.6, 1.2)
    shade = random.uniform(0.85, 1.12)
    rough = random.uniform(0.02, 0.25)  # 0 = clipped
    density = _density(random, 5.0, 35.0)
    pieces = max(1, round(length / 3.0))
    step = length / pieces
    for i in range(pieces):  # short pieces: each stands on the ground of its own place
        along = (i + 0.5) * step - length / 2
        b.place("vegetation", s + along * np.cos(yaw), n + along * np.sin(yaw), yaw, shade=shade)
        h = height * float(1 + rough * random.normal(0, 0.4))
        b.box("leaves", (0, 0, h / 2 - 0.1), (step * 1.02, width * 0.9, h + 0.2), density=density)
        for _ in range(3):
            x, y = random.uniform(-step / 2, step / 2), random.normal(0, 0.2 * width)
            up = random.uniform(0.25, 0.95) * h
            half = (random.uniform(0.5, 1.0), width * 0.6, 0.15 + rough * 1.2 + 0.15 * h)
            b.ellipsoid("leaves", (float(x), float(y), up), half, density=density * 0.6)


def thicket(b: Builder, random: Random, s: float, n: float, length: float, height: float, depth: float = 4.0) -> None:
    """A forest's edge or an overgrown bank: bushes below, crowns above, some trunks that show between them."""
    for along in np.arange(-length / 2 + 1, length / 2, 2.0):
        at, out = s + along + random.normal(0, 0.5), n + random.uniform(-0.5, 0.5) * depth
        b.place("vegetation", at, out, random.uniform(0, 6.28), shade=random.uniform(0.85, 1.12))
        for _ in range(4):
            w, h = random.uniform(0.4, 1.6), random.uniform(0.15, 0.5) * height
            x, y, up = random.normal(0, 1.0), random.normal(0, 1.2), random.uniform(0.3, 1.2) * h
            half = (w, w * random.uniform(0.5, 1.5), h)
            b.ellipsoid("leaves", (float(x), float(y), up), half, density=_density(random, 0.2, 4.5))
        for _ in range(2):
            w, h = random.uniform(0.8, 2.2), random.uniform(0.15, 0.35) * height
            x, y, up = random.normal(0, 0.8), random.normal(0, 1.0), random.uniform(0.45, 0.9) * height
            b.ellipsoid("leaves", (float(x), float(y), up), (w, w, h), density=_density(random, 0.15, 2.0))
        if random.random() < 0.18:
            b.name("trunk")
            b.cylinder("bark", (0.4, 0.2, height * 0.3), random.uniform(0.08, 0.2), height * 0.6)
