"""The returns of surfaces: remission by material and distance, and which rays are lost.

The figures follow the means, spreads and shares of zeros that real HDL-64E scans show per class and distance.

Shapes:  N points
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.data.synthetic.shapes import Floats

__all__ = ["MATERIALS", "Material", "material_index", "reflect"]


class Material(NamedTuple):
    """A surface as the sensor sees it."""

    remission: float  # mean at the distance where the sensor sees best, about 12 m
    spread: float  # standard deviation from point to point
    dark: float  # share of points that come back with remission 0: mirroring or black surfaces
    lost: float  # share of rays that do not come back at all
    rough: float = 0.0  # how far the range scatters beyond the sensor's own noise, metres
    ground: bool = False  # seen at grazing angles: fades faster with distance
    bright: float = 0.0  # share of points that come back with remission near 1: retro-reflecting


MATERIALS: dict[str, Material] = {
    "asphalt": Material(0.26, 0.075, 0.015, 0.004, 0.003, True),
    "marking": Material(0.45, 0.15, 0.0, 0.004, 0.004, True),
    "paving": Material(0.305, 0.07, 0.006, 0.004, 0.006, True),
    "parking": Material(0.30, 0.07, 0.008, 0.004, 0.006, True),
    "gravel": Material(0.31, 0.09, 0.005, 0.004, 0.011, True),
    "grass": Material(0.36, 0.075, 0.002, 0.005, 0.05, True),
    "soil": Material(0.31, 0.09, 0.005, 0.005, 0.03, True),
    "leaves": Material(0.355, 0.115, 0.01, 0.01, 0.015),
    "bark": Material(0.39, 0.14, 0.025, 0.01, 0.02),
    "wall": Material(0.40, 0.13, 0.015, 0.01, 0.006),
    "window": Material(0.26, 0.16, 0.15, 0.35, 0.03),
    "planks": Material(0.345, 0.13, 0.02, 0.01, 0.012),
    "rail": Material(0.30, 0.17, 0.06, 0.02, 0.008),
    "mast": Material(0.31, 0.19, 0.10, 0.02, 0.015),
    "sign": Material(0.42, 0.17, 0.01, 0.01, 0.004, False, 0.18),
    "paint": Material(0.31, 0.12, 0.12, 0.02, 0.01),
    "black": Material(0.10, 0.10, 0.80, 0.06, 0.01),
    "glass": Material(0.08, 0.10, 0.70, 0.45, 0.05),
    "tyre": Material(0.10, 0.10, 0.45, 0.08, 0.01),
    "lamp": Material(0.60, 0.25, 0.05, 0.02, 0.01, False, 0.3),
    "tarpaulin": Material(0.46, 0.14, 0.05, 0.02, 0.012),
    "cloth": Material(0.49, 0.14, 0.012, 0.01, 0.015),
    "frame": Material(0.50, 0.24, 0.07, 0.03, 0.01),
    "clutter": Material(0.33, 0.18, 0.06, 0.02, 0.015),
}
_INDEX = {name: i for i, name in enumerate(MATERIALS)}
_TABLE = np.array([tuple(map(float, m)) for m in MATERIALS.values()], np.float32)

# How remission goes with distance: near returns saturate the receiver, far ones fade; ground is seen at grazing angles.
_METRES = np.arange(0, 101, dtype=np.float32)
_UPRIGHT = np.interp(
    _METRES, [0, 4, 7, 10, 14, 22, 30, 40, 55, 100], [0.6, 0.74, 0.86, 1.04, 1.13, 1.04, 0.76, 0.52, 0.32, 0.15]
)
_GROUND = np.interp(
    _METRES, [0, 4, 7, 20, 25, 30, 36, 45, 55, 100], [0.95, 0.97, 1.0, 0.98, 0.85, 0.5, 0.27, 0.08, 0.02, 0.0]
)
_GRASS = np.interp(
    _METRES, [0, 4, 7, 20, 25, 32, 40, 50, 60, 100], [0.95, 0.97, 1.0, 0.96, 0.9, 0.68, 0.45, 0.3, 0.2, 0.05]
)
_FADING = np.stack([_UPRIGHT, _GROUND, _GRASS]).astype(np.float32)
_PROFILE = np.array(
    [2 if name in ("grass", "soil") else int(material.ground) for name, material in MATERIALS.items()], np.int64
)


def material_index(name: str) -> int:
    """Position of a material in the table.

    Example:
        >>> material_index("asphalt")
        0
    """
    return _INDEX[name]


def reflect(
    material: NDArray[np.int16], shade: Floats, distance: Floats, incidence: Floats, random: np.random.Generator
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """The returns of N hits.

    Args:
        material: (N,) index into the table of materials.
        shade: (N,) brightness of this object relative to its material's mean.
        distance: (N,) metres.
        incidence: (N,) |cosine| between the ray and the surface's normal where known, else 1.
        random: of this scan.

    Returns:
        Remission (N,) in [0, 1] on steps of 0.01, roughness of the range (N,) in metres, and which hits come back (N,).
    """
    mean, spread, dark, lost, rough, _, bright = _TABLE.T
    fading = _FADING[_PROFILE[material], np.minimum(distance.astype(np.int64), 100)]
    value = mean[material] * shade
    value += random.standard_normal(len(value), np.float32) * spread[material] * np.sqrt(np.minimum(fading, 1))
    value *= fading
    kind = random.random(len(value), np.float32)
    # far and grazing returns are weak: more of them read 0, and more are lost
    value[kind < dark[material]] = 0
    shining = kind > 1 - bright[material]
    value[shining] = 0.8 + 0.19 * random.random(int(shining.sum()), np.float32)
    remission = np.rint(np.clip(value, 0, 0.99) * 100) / np.float32(100)
    weak = lost[material] + 0.10 * np.square(distance / 80) + 0.35 * np.maximum(0, 0.035 - incidence) / 0.035
    returned = random.random(len(value), np.float32) >= weak
    return remission.astype(np.float32), rough[material], returned
