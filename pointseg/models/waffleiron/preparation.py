"""What a WaffleIron needs of a cloud: a point of each voxel, its neighbours and cells, and which voxel answers for a point.

Runs in the loading processes. Legend: n points of a cloud, V voxels kept, Q neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BORDER", "cells_of", "first_of_each_voxel", "inside", "neighbours_of", "prepared"]

BORDER = 1e-4  # metres by which the field of view is narrowed, so that no point lies on its border
AXIS_BITS = 20  # of a voxel's index along one axis: at 0.1 m, 100 km from the lowest corner


def prepared(
    coords_n3: NDArray[np.float32],
    *,
    voxel: float,
    field_of_view: NDArray[np.float64],
    grid: NDArray[np.int64],
    neighbours: int,
) -> dict[str, NDArray[np.int32]]:
    """Integers by name: `kept` (V,) points that stand for their voxels; `cells` (V, 3) along x, y and z; `extent` (3, 2) the
    first and last occupied cell along each axis; `neighbours` (V, Q) voxels; `answer` (n,) voxels; `voxels` () V.

    A point answers as its voxel does; where that is outside the field of view, as the nearest kept voxel. A cloud that is
    wholly outside is kept as a whole, in the outermost cells. The kept points are in the order of their columns, so that
    sums over cells read memory in order.

    Args:
        coords_n3: metres; at least one point.
        voxel: edge of a voxel, metres.
        field_of_view: (3, 2) metres, from and to along x, y and z.
        grid: (3,) cells along x, y and z.
        neighbours: Q.
    """
    first_V, voxel_n = first_of_each_voxel(coords_n3, voxel)
    seen_V = inside(coords_n3[first_V], field_of_view)
    if not seen_V.any():
        seen_V[:] = True
    cells_V3 = cells_of(coords_n3[first_V[seen_V]], field_of_view, grid)
    order_V = np.lexsort((cells_V3[:, 2], cells_V3[:, 1], cells_V3[:, 0]))
    cells_V3, kept_V = cells_V3[order_V], first_V[seen_V][order_V]
    place = np.full(len(first_V), -1, dtype=np.int32)
    place[np.flatnonzero(seen_V)[order_V]] = np.arange(len(kept_V), dtype=np.int32)
    tree = _tree(coords_n3[kept_V])
    answer_n = place[voxel_n]
    if (unseen_n := answer_n < 0).any():
        answer_n[unseen_n] = tree.query(coords_n3[unseen_n], k=1)[1]
    return {
        "kept": kept_V.astype(np.int32),
        "cells": cells_V3.astype(np.int32),
        "extent": np.stack([cells_V3.min(axis=0), cells_V3.max(axis=0)], axis=1).astype(np.int32),
        "neighbours": neighbours_of(tree, coords_n3[kept_V], neighbours),
        "answer": answer_n,
        "voxels": np.array(len(kept_V), dtype=np.int32),
    }


def first_of_each_voxel(coords_n3: NDArray[np.float32], voxel: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first point of each voxel, and for each point (n,) the number of its voxel; voxels begin at the lowest corner."""
    exact_n3 = coords_n3.astype(np.float64)
    index_n3 = ((exact_n3 - exact_n3.min(axis=0)) / voxel).astype(np.int64).clip(0, (1 << AXIS_BITS) - 1)
    x_n, y_n, z_n = index_n3.T
    key_n = (((x_n << AXIS_BITS) | y_n) << AXIS_BITS) | z_n
    _, first_V, voxel_n = np.unique(key_n, return_index=True, return_inverse=True)
    return first_V, voxel_n


def inside(coords_n3: NDArray[np.float32], field_of_view: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) whether a point lies in the field of view (3, 2), borders excluded."""
    low, high = field_of_view.T
    within: NDArray[np.bool_] = ((coords_n3 > low + BORDER) & (coords_n3 < high - BORDER)).all(axis=1)
    return within


def cells_of(
    coords_n3: NDArray[np.float32], field_of_view: NDArray[np.float64], grid: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n, 3) cell along x, y and z; points outside the field of view are in the outermost cells."""
    low, high = field_of_view.T
    cells: NDArray[np.int64] = ((coords_n3 - low) / ((high - low) / grid)).clip(0, grid - 1).astype(np.int64)
    return cells


def neighbours_of(tree: Any, coords_V3: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """(V, count) nearest other voxels, the nearest first; in a smaller cloud the voxel itself fills the missing places."""
    voxels = len(coords_V3)
    found = min(count + 1, voxels)
    index_VQ = np.asarray(tree.query(coords_V3, k=found)[1], dtype=np.int32).reshape(voxels, found)[:, 1:]
    own_VQ = np.repeat(np.arange(voxels, dtype=np.int32)[:, None], count + 1 - found, axis=1)
    return np.concatenate([index_VQ, own_VQ], axis=1)


def _tree(coords_V3: NDArray[np.float32]) -> Any:
    from scipy.spatial import cKDTree  # type: ignore[import-untyped]  # on use: no other model needs SciPy

    return cKDTree(coords_V3, balanced_tree=False, compact_nodes=False)
