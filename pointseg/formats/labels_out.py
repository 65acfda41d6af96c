"""What a label is called and coloured in files of other kinds than `.label`.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pointseg.labels import LabelMap

__all__ = ["ASPRS", "LABEL", "asprs_classes", "class_colors", "class_names"]

LABEL = "label"  # the column or property that receives the raw id

# The classification of LAS (ASPRS, "LAS Specification 1.4 R15", table 17), by class name, where there is but one answer.
# Vegetation has three there, by height, so it stays unclassified, like all that has none.
UNCLASSIFIED, GROUND, BUILDING, WATER = 1, 2, 6, 9
ASPRS: Mapping[str, int] = MappingProxyType(
    {
        "road": GROUND,
        "parking": GROUND,
        "sidewalk": GROUND,
        "terrain": GROUND,
        "ground": GROUND,
        "other-ground": GROUND,
        "building": BUILDING,
        "water": WATER,
    }
)


def _of_ids(raw_ids_N: NDArray[np.uint32]) -> tuple[list[int], NDArray[np.int64]]:
    found, index_N = np.unique(raw_ids_N, return_inverse=True)
    return [int(raw) for raw in found], index_N.reshape(-1)


def class_names(raw_ids_N: NDArray[np.uint32], label_map: LabelMap) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the raw ids that occur, and which of them each point has (N,)."""
    found, index_N = _of_ids(raw_ids_N)
    return [label_map.labels[raw][0] if raw in label_map.labels else "" for raw in found], index_N


def class_colors(raw_ids_N: NDArray[np.uint32], label_map: LabelMap) -> NDArray[np.uint8]:
    """(N, 3) red, green, blue."""
    found, index_N = _of_ids(raw_ids_N)
    colors = [label_map.labels[raw][1] if raw in label_map.labels else (0, 0, 0) for raw in found]
    return np.array(colors, np.uint8).reshape(-1, 3)[index_N]


def asprs_classes(raw_ids_N: NDArray[np.uint32], label_map: LabelMap) -> NDArray[np.uint8]:
    """(N,) the classification that LAS files hold: see `ASPRS`."""
    names, index_N = class_names(raw_ids_N, label_map)
    return np.array([ASPRS.get(name, UNCLASSIFIED) for name in names], np.uint8)[index_N]
