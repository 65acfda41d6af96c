"""Labels in files of other kinds than `.label`: the added column, class names, colours and LAS classes.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap

__all__ = ["ASPRS", "LABEL", "asprs_classes", "class_colors", "class_names", "with_fields"]

LABEL = "label"  # the column or property that receives the raw id

# The classification of LAS (ASPRS, "LAS Specification 1.4 R15", table 17), by class name, where the class is clear.
# LAS has three classes of vegetation, by height, so it stays unclassified, like all classes that LAS lacks.
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


def class_names(raw_ids_N: NDArray[np.uint32], label_map: LabelMap) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the raw ids that occur, and which of them each point has (N,)."""
    raw_ids, index_N = np.unique(raw_ids_N, return_inverse=True)
    return [label_map.labels[raw][0] if raw in label_map.labels else "" for raw in raw_ids.tolist()], index_N.reshape(
        -1
    )


def class_colors(raw_ids_N: NDArray[np.uint32], label_map: LabelMap) -> NDArray[np.uint8]:
    """(N, 3) red, green, blue."""
    raw_ids, index_N = np.unique(raw_ids_N, return_inverse=True)
    colors = [label_map.labels[raw][1] if raw in label_map.labels else (0, 0, 0) for raw in raw_ids.tolist()]
    return np.array(colors, np.uint8).reshape(-1, 3)[index_N.reshape(-1)]


def asprs_classes(raw_ids_N: NDArray[np.uint32], label_map: LabelMap) -> NDArray[np.uint8]:
    """(N,) the classification of LAS files: see `ASPRS`."""
    names, index_N = class_names(raw_ids_N, label_map)
    return np.array([ASPRS.get(name, UNCLASSIFIED) for name in names], np.uint8)[index_N]


def with_fields(data: NDArray[Any], added: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """A structured array (N,) with further fields at its end; fields of the same names are replaced."""
    kept = [(name, data.dtype[name]) for name in data.dtype.names or () if name not in added]
    rows = np.empty(len(data), [*kept, *((name, values.dtype) for name, values in added.items())])
    for name in rows.dtype.names or ():
        rows[name] = added[name] if name in added else data[name]
    return rows
