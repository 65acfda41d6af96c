"""Files of point clouds, whatever their kind: one way to read them, one way to write labels back.

NumPy reads `.bin`, `.npy` and `.npz`; the other kinds need the extra `formats`, whose packages are imported on use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import ConfigError, DataError
from pointseg.extras import needed
from pointseg.formats import las, pcd, ply, raw, table
from pointseg.formats.cloud import PointCloud, finite_points, over_all
from pointseg.labels import LabelMap

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
    "require_packages",
    "write_labels",
]

LABEL_SUFFIX = ".label"

Reader = Callable[[Path, float | None], PointCloud]
Writer = Callable[[Path, Path, NDArray[np.uint32], LabelMap], None]


class Kind(NamedTuple):
    """How a kind of file is read, how labels are written back into it (None: as a `.label` file), how its points are
    counted without reading them (None: not), and which packages of the extra `formats` that takes."""

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
    """By the end of the name.

    Raises:
        DataError: if there is no such kind.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path.suffix or 'a file without an ending'} is no kind of point cloud that is read",
            where=path,
            remedy=f"Kinds: {', '.join(KINDS)}.",
        )
    return kind


def has_own_kind(path: Path) -> bool:
    """Whether labels can be written back into files of this kind."""
    return kind_of(path).write is not None


def read_cloud(path: str | Path, *, remission_scale: float | None = None) -> PointCloud:
    """Read a cloud by the kind that its name ends with.

    Args:
        path: a file.
        remission_scale: what intensity is divided by, so that it lies in [0, 1]. None: that of `.bin`, `.npy` and `.npz`
            is taken as it is; that of other kinds is divided by 255 or 65535 where it goes beyond 1, which a note says.

    Raises:
        DataError: if the file is missing, empty, damaged, of no known kind, or lacks x, y, z.
        ConfigError: if a package of the extra `formats` is not installed.

    Example:
        >>> cloud = read_cloud("tile.laz")
        >>> cloud.points.shape, cloud.origin
        ((5000000, 4), array([4.56780e+05, 5.43210e+06, 3.12000e+02]))
    """
    path = Path(path)
    return kind_of(path).read(path, remission_scale)


def count_points(path: str | Path) -> int | None:
    """Points of a file where a look at its header or size tells; None where it does not."""
    points = kind_of(Path(path)).points
    try:
        return None if points is None else points(Path(path))
    except OSError:
        return None


def require_packages(suffixes: Iterable[str]) -> None:
    """Refuse kinds of files whose packages are not installed, before work begins.

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
