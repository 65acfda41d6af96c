"""The returns of surfaces: remission by material and distance, and which rays are lost.

The figures follow the means, spreads and shares of zeros that real HDL-64E scans show per class and distance.

Shapes:  N points
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.data.synthetic.shapes import Floats

__all__ = ["MATERIALS", "Material", "material_index", "reflect"]


class Material(NamedTuple):
    """A surface as the sensor sees it."""

    remission: float  # mean at the distance where the sensor sees best, about 12 m
    spread: float  # standard deviation from point to point
    dark: float  # share of points that come back with remission 0 near by: mirroring or black surfaces
    lost: float  # share of rays that do not come back at all
    rough: float = 0.0  # how far the range scatters beyond the sensor's own noise, metres; on ground, at 11 m
    ground: bool = False  # seen at grazing angles: fades faster with distance
    bright: float = 0.0  # share of points that come back with remission near 1: retro-reflecting
    grain: float = 0.5  # share of the spread that neighbouring points do not have in common
    deep: float = (
        0.0  # share of points at 15 m that lie behind the surface: in a room, a gap, at a beam's second target
    )
    depth: float = 0.0  # how far behind on average, metres


MATERIALS: dict[str, Material] = {
    "asphalt": Material(0.28, 0.08, 0.015, 0.004, 0.003, True, grain=0.33),
    "marking": Material(0.45, 0.15, 0.0, 0.004, 0.004, True, grain=0.4),
    "paving": Material(0.315, 0.07, 0.006, 0.004, 0.006, True, grain=0.38),
    "parking": Material(0.305, 0.07, 0.008, 0.004, 0.006, True, grain=0.4),
    "gravel": Material(0.31, 0.09, 0.005, 0.004, 0.011, True, grain=0.4),
    "grass": Material(0.36, 0.075, 0.002, 0.005, 0.05, True, grain=0.72),
    "soil": Material(0.31, 0.09, 0.005, 0.005, 0.03, True, grain=0.6),
    "leaves": Material(0.345, 0.11, 0.01, 0.01, 0.015, grain=0.85),
    "bark": Material(0.39, 0.14, 0.025, 0.01, 0.02, grain=0.6, deep=0.02, depth=0.2),
    "wall": Material(0.39, 0.115, 0.0, 0.01, 0.006, grain=0.3, deep=0.02, depth=0.3),
    "window": Material(0.26, 0.16, 0.15, 0.35, 0.08, grain=0.4, deep=0.2, depth=1.0),
    "planks": Material(0.335, 0.12, 0.02, 0.01, 0.018, grain=0.45, deep=0.02, depth=0.2),
    "rail": Material(0.30, 0.15, 0.06, 0.02, 0.015, grain=0.5, deep=0.03, depth=0.3),
    "mast": Material(0.31, 0.19, 0.05, 0.02, 0.015, grain=0.55),
    "sign": Material(0.42, 0.17, 0.01, 0.01, 0.004, False, 0.18, grain=0.2),
    "paint": Material(0.31, 0.14, 0.05, 0.02, 0.01, grain=0.15, deep=0.008, depth=0.4),
    "black": Material(0.10, 0.10, 0.80, 0.06, 0.01, grain=0.2),
    "glass": Material(0.08, 0.10, 0.70, 0.45, 0.05, grain=0.2, deep=0.1, depth=0.5),
    "tyre": Material(0.10, 0.10, 0.45, 0.08, 0.01, grain=0.3),
    "lamp": Material(0.60, 0.25, 0.05, 0.02, 0.01, False, 0.3, grain=0.3),
    "tarpaulin": Material(0.46, 0.14, 0.05, 0.02, 0.012, grain=0.3),
    "cloth": Material(0.49, 0.14, 0.012, 0.01, 0.015, grain=0.65),
    "frame": Material(0.50, 0.24, 0.07, 0.03, 0.01, grain=0.8),
    "clutter": Material(0.33, 0.18, 0.06, 0.02, 0.015, grain=0.4),
}
_INDEX = {name: i for i, name in enumerate(MATERIALS)}
_TABLE = np.array([tuple(map(float, m)) for m in MATERIALS.values()], np.float32)

# How the strength of a return goes with distance: near returns saturate the receiver, far ones fade; ground is seen at
# grazing angles, and a mast fills a part of the beam only.
_METRES = np.arange(0, 101, dtype=np.float32)
_FADING: dict[str, list[tuple[float, float]]] = {
    "upright": [
        (4, 0.9),
        (7, 0.93),
        (10, 1.0),
        (14, 1.06),
        (20, 1.0),
        (25, 0.89),
        (30, 0.8),
        (40, 0.55),
        (50, 0.4),
        (100, 0.1),
    ],
    "thin": [
        (4, 0.9),
        (7, 0.93),
        (10, 1.0),
        (14, 1.06),
        (20, 0.95),
        (25, 0.75),
        (30, 0.6),
        (40, 0.42),
        (50, 0.25),
        (100, 0),
    ],
    "road": [
        (4, 0.98),
        (7, 1.0),
        (18, 1.0),
        (22, 0.88),
        (27, 0.66),
        (32, 0.41),
        (37, 0.22),
        (45, 0.04),
        (60, -0.2),
        (100, -0.2),
    ],
    "paved": [
        (4, 0.98),
        (7, 1.0),
        (18, 1.0),
        (22, 0.95),
        (27, 0.83),
        (32, 0.65),
        (37, 0.43),
        (45, 0.24),
        (60, 0),
        (100, -0.2),
    ],
    "soft": [
        (4, 0.98),
        (7, 1.0),
        (18, 0.98),
        (22, 0.94),
        (27, 0.86),
        (32, 0.77),
        (37, 0.66),
        (45, 0.5),
        (60, 0.3),
        (100, 0),
    ],
}
_ON_GROUND = {"grass": "soft", "soil": "soft", "asphalt": "road", "marking": "road"}
_CURVES = np.stack([np.interp(_METRES, *np.array(curve, np.float64).T) for curve in _FADING.values()]).astype(
    np.float32
)
_NAMES = list(_FADING)
_CURVE = np.array(
    [
        _NAMES.index("thin" if name == "mast" else _ON_GROUND.get(name, "paved") if material.ground else "upright")
        for name, material in MATERIALS.items()
    ],
    np.int64,
)
_below = NormalDist().inv_cdf
_DARK = np.array(
    [_below(max(m.dark, 1e-9)) for m in MATERIALS.values()], np.float32
)  # below it a standard normal is as often
_BRIGHT = np.array([-_below(max(m.bright, 1e-9)) for m in MATERIALS.values()], np.float32)  # and above it
# The receiver takes away its own noise, and what is weaker than a threshold reads 0: at 30 to 35 m 62 % of a road do.
NOISE_FLOOR, THRESHOLD = 0.1, 0.08


def material_index(name: str) -> int:
    """Position of a material in the table.

    Example:
        >>> material_index("asphalt")
        0
    """
    return _INDEX[name]


def reflect(
    material: NDArray[np.int16],
    shade: Floats,
    distance: Floats,
    incidence: Floats,
    pattern: tuple[Floats, Floats],
    random: np.random.Generator,
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """The returns of N hits.

    Args:
        material: (N,) index into the table of materials.
        shade: (N,) brightness of this object relative to its material's mean.
        distance: (N,) metres.
        incidence: (N,) |cosine| between the ray and the surface's normal where known, else 1.
        pattern: two of (N,), standard normal and alike for neighbouring rays: of brightness, and of dark and bright parts.
        random: of this scan.

    Returns:
        Remission (N,) in [0, 1] on steps of 0.01, roughness of the range (N,) in metres, how far behind the surface the
        point lies (N,) in metres, and which hits come back (N,).
    """
    mean, spread, _, lost, rough, ground, _, grain, deep, depth = _TABLE.T
    fading = _CURVES[_CURVE[material], np.minimum(distance.astype(np.int64), 100)]
    clear = np.clip(fading, 0, 1)
    # near by, neighbouring points lie closer to each other and have more in common
    own = np.minimum(grain[material] * (0.75 + distance / np.float32(40)), 1)
    shared = np.sqrt(1 - np.square(own))
    blotches, parts = (own * random.standard_normal(len(own), np.float32) + shared * alike for alike in pattern)
    value = (mean[material] * shade + NOISE_FLOOR) * fading - NOISE_FLOOR
    value += blotches * (spread[material] * clear + NOISE_FLOOR * (1 - clear))
    value[value < THRESHOLD] = 0
    value[parts < _DARK[material]] = 0
    shining = parts > _BRIGHT[material]
    value[shining] = 0.8 + 0.19 * random.random(int(shining.sum()), np.float32)
    remission = np.rint(np.clip(value, 0, 0.99) * 100) / np.float32(100)
    # of far and grazing rays more are lost
    weak = lost[material] + 0.10 * np.square(distance / 80) + 0.35 * np.maximum(0, 0.035 - incidence) / 0.035
    returned = random.random(len(value), np.float32) >= weak
    # a beam widens on its way, and ground seen at a grazing angle spreads it further
    scatter = rough[material] * np.where(ground[material] > 0, distance / np.float32(11), np.float32(1))
    behind = np.zeros(len(value), np.float32)
    past = np.flatnonzero(random.random(len(value), np.float32) < deep[material] * np.square(distance / np.float32(15)))
    behind[past] = depth[material[past]] * random.standard_exponential(len(past), np.float32)
    return remission.astype(np.float32), scatter, behind, returned
