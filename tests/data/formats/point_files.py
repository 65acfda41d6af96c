"""Point files of every kind, made with the libraries of their own, and read back with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray
from plyfile import PlyData, PlyElement
from pypcd4 import Encoding
from pypcd4 import PointCloud as Pcd

Points = NDArray[np.float32]


def structured(points: Points) -> NDArray[Any]:
    """x, y, z, intensity and the point's number, by which order is told."""
    kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("intensity", "f4"), ("number", "u4")]
    rows = np.empty(len(points), kinds)
    for column, name in enumerate(("x", "y", "z", "intensity")):
        rows[name] = points[:, column]
    rows["number"] = np.arange(len(points))
    return rows


def write_bin(path: Path, points: Points) -> None:
    points.astype("<f4").tofile(path)


def write_npy(path: Path, points: Points) -> None:
    np.save(path, points)


def write_npz(path: Path, points: Points) -> None:
    np.savez(path, points=points, other=np.zeros(3))


def write_ply(path: Path, points: Points, text: bool = False, order: str = "<") -> None:
    face = np.empty(1, [("vertex_indices", "O")])
    face["vertex_indices"] = [np.array([0, 0, 0], np.int32)]
    elements = [PlyElement.describe(structured(points), "vertex", comments=["points"])]
    elements.append(
        PlyElement.describe(face, "face", len_types={"vertex_indices": "u1"}, val_types={"vertex_indices": "i4"})
    )
    PlyData(elements, text=text, byte_order="=" if text else order, comments=["made by a test"]).write(str(path))


def write_pcd(path: Path, points: Points, encoding: Encoding = Encoding.BINARY) -> None:
    rows = structured(points)
    kinds = [rows.dtype[name].type for name in rows.dtype.names or ()]
    Pcd.from_points([rows[name] for name in rows.dtype.names or ()], rows.dtype.names or (), kinds).save(path, encoding)


def write_csv(path: Path, points: Points) -> None:
    pandas.DataFrame(structured(points)).to_csv(path, index=False)


def write_parquet(path: Path, points: Points) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pandas(pandas.DataFrame(structured(points))), path)


def write_las(path: Path, points: Points, point_format: int = 6, version: str = "1.4") -> None:
    """Coordinates to 0.1 mm and intensity in 16 bits, with a VRL, an extra dimension and, in 1.4, an EVLR."""
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.scales = np.full(3, 1e-4)
    header.add_extra_dim(laspy.ExtraBytesParams("number", np.uint32))
    las = laspy.LasData(header)
    las.vlrs.append(laspy.VLR(user_id="test", record_id=7, description="own", record_data=b"hello"))
    las.x, las.y, las.z = (points[:, column].astype(np.float64) for column in range(3))
    las.intensity = np.round(points[:, 3] * 65535).astype(np.uint16)
    las.number = np.arange(len(points), dtype=np.uint32)
    if version == "1.4":
        las.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR("test", 9, "far", b"goodbye")])
    las.write(str(path))


Write = Callable[[Path, Points], None]
KINDS: dict[str, tuple[str, Write]] = {
    "bin": (".bin", write_bin),
    "npy": (".npy", write_npy),
    "npz": (".npz", write_npz),
    "ply ascii": (".ply", lambda path, points: write_ply(path, points, text=True)),
    "ply little": (".ply", write_ply),
    "ply big": (".ply", lambda path, points: write_ply(path, points, order=">")),
    "pcd ascii": (".pcd", lambda path, points: write_pcd(path, points, Encoding.ASCII)),
    "pcd binary": (".pcd", write_pcd),
    "pcd compressed": (".pcd", lambda path, points: write_pcd(path, points, Encoding.BINARY_COMPRESSED)),
    "las 1.2": (".las", lambda path, points: write_las(path, points, 3, "1.2")),
    "las 1.4": (".las", lambda path, points: write_las(path, points, 7, "1.4")),
    "laz 1.2": (".laz", lambda path, points: write_las(path, points, 1, "1.2")),
    "laz 1.4": (".laz", write_las),
    "csv": (".csv", write_csv),
    "parquet": (".parquet", write_parquet),
}
OWN = [name for name in KINDS if name not in ("bin", "npy", "npz")]


def columns_of(path: Path) -> dict[str, NDArray[Any]]:
    """Every column of a file of its own kind, by the kind's library."""
    if path.suffix == ".ply":
        data = PlyData.read(str(path))["vertex"].data
        return {name: data[name] for name in data.dtype.names}
    if path.suffix == ".pcd":
        data = np.atleast_1d(Pcd.from_path(path).pc_data)
        return {name: data[name] for name in data.dtype.names or ()}
    if path.suffix in (".las", ".laz"):
        las = laspy.read(path)
        return {name: np.asarray(las[name]) for name in las.point_format.dimension_names}
    table = pandas.read_csv(path) if path.suffix == ".csv" else pandas.read_parquet(path)
    return {name: table[name].to_numpy() for name in table.columns}
