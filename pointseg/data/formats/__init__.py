"""Reads files of point clouds of any kind, and writes labels back into them.

NumPy reads `.bin`, `.npy` and `.npz`; the other kinds need the extra `formats`, whose packages are imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.core.optional_packages import needed
from pointseg.data.formats import las, pcd, ply, raw, table
from pointseg.data.formats.cloud import PointCloud, ReadSettings, finite_points, over_all
from pointseg.data.formats.raw import refuse_unnamed_columns
from pointseg.data.scan import COLUMNS

__all__ = [
    "KINDS",
    "LABEL_SUFFIX",
    "PointCloud",
    "count_points",
    "finite_points",
    "has_own_kind",
    "kind_of",
    "over_all",
    "read_cloud",
    "refuse_unnamed_columns",
    "require_packages",
    "write_labels",
]

LABEL_SUFFIX = ".label"

Reader = Callable[[Path, ReadSettings], PointCloud]
Writer = Callable[[Path, Path, NDArray[np.uint32], LabelMap], None]


class Kind(NamedTuple):
    """A kind of file: how it is read, how labels are written back into it (None: as a `.label` file), how its points are
    counted without reading them (None: they are not), and the packages of the extra `formats` that it needs."""

    read: Reader
    write: Writer | None = None
    points: Callable[[Path], int | None] | None = None
    packages: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    ".bin": Kind(raw.read_bin, None, raw.count_bin),
    ".npy": Kind(raw.read_npy, None, raw.count_npy),
    ".npz": Kind(raw.read_npz),
    ".pcd": Kind(pcd.read_pcd, pcd.write_pcd, None, ("pypcd4",)),
    ".ply": Kind(ply.read_ply, ply.write_ply, None, ("plyfile",)),
    ".las": Kind(las.read_las, las.write_las, las.count_las, ("laspy",)),
    ".laz": Kind(las.read_las, las.write_las, las.count_las, ("laspy", "lazrs")),
    ".csv": Kind(table.read_csv, table.write_csv, None, ("pandas",)),
    ".parquet": Kind(table.read_parquet, table.write_parquet, table.count_parquet, ("pyarrow",)),
}


def kind_of(path: Path) -> Kind:
    """The kind of a file, by the end of its name.

    Raises:
        DataError: if there is no such kind.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path.suffix or 'a file without an ending'} is not a kind of point cloud that can be read",
            where=path,
            remedy=f"Kinds: {', '.join(KINDS)}.",
        )
    return kind


def has_own_kind(path: Path) -> bool:
    """Whether labels can be written back into files of this kind."""
    return kind_of(path).write is not None


def read_cloud(
    path: str | Path,
    *,
    remission_scale: float | None = None,
    extra: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> PointCloud:
    """Read a cloud of the kind that its name ends with.

    Args:
        path: a file.
        remission_scale: what intensity is divided by, so that it lies in [0, 1]. None: that of `.bin`, `.npy` and `.npz`
            stays unchanged; that of other kinds is divided by 255 or 65535 if it goes beyond 1, and a note says so.
        extra: further columns to read, such as ("ring",), as `PointCloud.extra`.
        columns: names of the columns of `.bin`, `.npy` and `.npz`, which do not name them: x, y, z, remission, then others.

    Raises:
        DataError: if the file is missing, empty, damaged, of an unknown kind, or lacks x, y, z or a wanted column.
        ConfigError: if a package of the extra `formats` is not installed, or `columns` do not begin with x, y, z, remission.

    Example:
        >>> cloud = read_cloud("tile.laz")
        >>> cloud.points.shape, cloud.origin
        ((5000000, 4), array([4.56780e+05, 5.43210e+06, 3.12000e+02]))
    """
    path = Path(path)
    if columns is not None and tuple(columns[: len(COLUMNS)]) != COLUMNS:
        remedy = f"Begin with {', '.join(COLUMNS)}; further names follow."
        raise ConfigError(f"{', '.join(columns)} are not the columns of a cloud", where="columns", remedy=remedy)
    settings = ReadSettings(remission_scale, tuple(extra), None if columns is None else tuple(columns))
    return kind_of(path).read(path, settings)


def count_points(path: str | Path, columns: Sequence[str] = COLUMNS) -> int | None:
    """Points of a file by its header or size; None if they do not say.

    Args:
        columns: of a `.bin` file.
    """
    points = kind_of(Path(path)).points
    try:
        if Path(path).suffix.lower() == ".bin":
            return raw.count_bin(Path(path), len(columns))
        return None if points is None else points(Path(path))
    except OSError:
        return None


def require_packages(suffixes: Iterable[str]) -> None:
    """Refuse kinds of files whose packages are not installed.

    Raises:
        ConfigError: naming the package and the extra.
    """
    for suffix in sorted({suffix.lower() for suffix in suffixes}):
        for package in KINDS[suffix].packages:
            needed(package, "formats", suffix)


def write_labels(source: str | Path, target: str | Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """Write raw ids (N,), in the order of the source's points: a `.label` file, or a copy of the source with the labels.

    Args:
        source: the file that the cloud was read from; it is left as it is.
        target: ends with `.label`, or like the source.
        label_map: names and colours of the ids.

    Raises:
        ConfigError: if target and source are the same file, or the target of another kind.
        OutputError: if it cannot be written.

    Example:
        >>> write_labels("street.ply", "predicted/street.ply", predictor(read_cloud("street.ply").points), label_map)
    """
    source, target = Path(source), Path(target)
    if target.resolve() == source.resolve():
        raise ConfigError("the labels would overwrite the cloud", where=target, remedy="Name another folder.")
    if target.suffix.lower() == LABEL_SUFFIX:
        raw.write_label_file(target, raw_ids)
        return
    write = kind_of(source).write
    if write is None or target.suffix.lower() != source.suffix.lower():
        raise ConfigError(
            f"labels of a {source.suffix} file cannot be written as {target.suffix or target.name}",
            where=target,
            remedy=f"Use {LABEL_SUFFIX}" + (f" or {source.suffix}." if write else "."),
        )
    write(source, target, raw_ids, label_map)
