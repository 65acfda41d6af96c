"""Bare arrays: SemanticKITTI's `.bin`, NumPy's `.npy` and `.npz`; and the `.label` file that their labels go to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.data.scan import COLUMNS
from pointseg.errors import DataError
from pointseg.files import whole_file
from pointseg.formats.cloud import PointCloud, cloud_of, reading, refuse_empty

__all__ = ["count_bin", "count_npy", "read_bin", "read_npy", "read_npz", "write_label_file"]

RECORD = 4 * len(COLUMNS)


def read_bin(path: Path, remission_scale: float | None = None) -> PointCloud:
    """float32, N x 4: x, y, z in metres and remission, which is 0 to 1 unless a scale is given."""
    with reading(path, ".bin"):
        size = path.stat().st_size
        refuse_empty(size, path)
        if size % RECORD:
            raise DataError(
                f"{size} bytes is not a multiple of the {RECORD} bytes of one point (x, y, z, remission in float32)",
                where=path,
                remedy="The file is cut off or of another format; copy it again from its source.",
            )
        points = np.fromfile(path, "<f4").reshape(-1, len(COLUMNS))
    return _plain(points, path, remission_scale)


def read_npy(path: Path, remission_scale: float | None = None) -> PointCloud:
    """An array (N, 3) or (N, 4) of numbers, remission 0 to 1 unless a scale is given. Pickled objects are not loaded."""
    with reading(path, ".npy"):
        array = np.load(path, allow_pickle=False)
    return _plain(array, path, remission_scale)


def read_npz(path: Path, remission_scale: float | None = None) -> PointCloud:
    """The array `points` of an archive, or its only one, as in a `.npy`."""
    with reading(path, ".npz"), np.load(path, allow_pickle=False) as archive:
        names = list(archive.files)
        if "points" not in names and len(names) != 1:
            raise DataError(
                f"there is no array `points` among {', '.join(names) or 'none'}",
                where=path,
                remedy="Name the array (N, 3) or (N, 4) `points`.",
            )
        array = archive["points" if "points" in names else names[0]]
    return _plain(array, path, remission_scale)


def _plain(array: NDArray[Any], path: Path, remission_scale: float | None) -> PointCloud:
    if array.ndim != 2 or array.shape[1] not in (3, 4) or array.dtype.kind not in "fiu":
        raise DataError(
            f"an array of shape {array.shape} and type {array.dtype} is no cloud",
            where=path,
            remedy="Give numbers (N, 4): x, y, z in metres and remission in 0 to 1, or (N, 3).",
        )
    single = array.dtype == np.float32
    numbers = array.astype(np.float32 if single else np.float64, copy=False)
    remission = numbers[:, 3] if numbers.shape[1] == 4 else None
    # remission in [0, 1] is part of these formats, so nothing is guessed; the predictor says where it is not
    return cloud_of(numbers[:, :3], remission, path, remission_scale=remission_scale or 1.0)


def count_bin(path: Path) -> int:
    """Points, from the file's size."""
    return path.stat().st_size // RECORD


def count_npy(path: Path) -> int | None:
    """Points, from the header; None where it cannot be read."""
    try:
        with reading(path, ".npy"):  # the header is Python's text, and damaged it raises what Python's parser does
            return len(np.load(path, mmap_mode="r", allow_pickle=False))
    except DataError:
        return None


def write_label_file(target: Path, raw_ids: NDArray[np.uint32]) -> None:
    """uint32, little-endian, one raw id a point."""
    with whole_file(target) as temporary:
        np.ascontiguousarray(raw_ids, "<u4").tofile(temporary)
