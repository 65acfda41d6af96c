"""Bare arrays: SemanticKITTI's `.bin`, NumPy's `.npy` and `.npz`; their labels go to `.label` files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.files import whole_file
from pointseg.data.formats.cloud import AS_IS, PointCloud, ReadSettings, cloud_of, reading, refuse_empty
from pointseg.data.formats.columns import further_columns
from pointseg.data.scan import COLUMNS

__all__ = ["count_bin", "count_npy", "read_bin", "read_npy", "read_npz", "refuse_unnamed_columns", "write_label_file"]


def read_bin(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """float32, N x 4: x, y, z in metres and remission, which is 0 to 1 unless a scale is given; or the named columns."""
    columns = settings.columns or COLUMNS
    if settings.columns is None:
        refuse_unnamed_columns([path], settings.extra)
    with reading(path, ".bin"):
        size, record = path.stat().st_size, 4 * len(columns)
        refuse_empty(size, path)
        if size % record:
            raise DataError(
                f"{size} bytes is not a multiple of the {record} bytes of one point ({', '.join(columns)} in float32)",
                where=path,
                remedy="The file is cut off or of another format; copy it again from its source.",
            )
        points = np.fromfile(path, "<f4").reshape(-1, len(columns))
    return _plain(points, path, settings)


def refuse_unnamed_columns(paths: Iterable[Path], extra: Sequence[str]) -> None:
    """Refuse a `.bin` file without named columns, if further columns are needed.

    Raises:
        DataError: naming the first such file.
    """
    for path in paths if extra else ():
        if path.suffix.lower() == ".bin":
            raise DataError(
                f"a .bin file does not name its columns, and the model needs {', '.join(extra)}",
                where=path,
                remedy=f"Name them in their order: columns=[{','.join([*COLUMNS, *extra])}].",
            )


def read_npy(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """An array (N, 3) or (N, 4) of numbers, remission 0 to 1 unless a scale is given; or of the named columns, else of the
    wanted ones. Pickled objects are not loaded."""
    with reading(path, ".npy"):
        array = np.load(path, allow_pickle=False)
    return _plain(array, path, settings)


def read_npz(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
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
    return _plain(array, path, settings)


def _plain(array: NDArray[Any], path: Path, settings: ReadSettings) -> PointCloud:
    columns = settings.columns or (*COLUMNS, *settings.extra)
    widths = (3, 4) if len(columns) == 4 else (len(columns),)
    if array.ndim != 2 or array.shape[1] not in widths or array.dtype.kind not in "fiu":
        raise DataError(
            f"an array of shape {array.shape} and type {array.dtype} is not a cloud",
            where=path,
            remedy="Give numbers (N, 4): x, y, z in metres and remission in 0 to 1, or (N, 3)."
            if len(columns) == 4
            else f"Give numbers (N, {len(columns)}): {', '.join(columns)}; or name its columns=[...].",
        )
    single = array.dtype == np.float32
    numbers = array.astype(np.float32 if single else np.float64, copy=False)
    remission = numbers[:, 3] if numbers.shape[1] > 3 else None
    further = [numbers[:, columns.index(name)] for name in further_columns(columns, settings.extra, path)]
    # these formats hold remission in [0, 1], so no scale is guessed; the predictor warns about other values
    settings = settings._replace(remission_scale=settings.remission_scale or 1.0)
    return cloud_of(numbers[:, :3], remission, path, settings, further)


def count_bin(path: Path, columns: int = len(COLUMNS)) -> int:
    """Points, from the file's size."""
    return path.stat().st_size // (4 * columns)


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
