"""PCD, as the Point Cloud Library writes it: ascii, binary and binary_compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import DataError
from pointseg.extras import needed
from pointseg.files import whole_file
from pointseg.formats.cloud import PointCloud, cloud_of_fields, reading
from pointseg.formats.heads import LONGEST_HEAD, long_head
from pointseg.formats.labels_out import LABEL, class_colors
from pointseg.labels import LabelMap

__all__ = ["read_pcd", "size_pcd", "write_pcd"]

COLOR = "rgb"  # 0x00RRGGBB in the bits of a float32, as the library and its viewers have it

MOST_COLUMNS = 4096  # of all fields together; a COUNT of billions would be as many names


def read_pcd(path: Path, remission_scale: float | None = None) -> PointCloud:
    """x, y, z and intensity of every point; NaN, which organised clouds have where nothing was hit, is kept."""
    data = _read(path)[1]
    return cloud_of_fields(data, path, "PCD", remission_scale)


def write_pcd(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """The source, in its own encoding, width, height and viewpoint, with `label` (raw id) and the class colour as `rgb`."""
    pypcd4 = needed("pypcd4", "formats", "PCD")
    header, data = _read(source)
    red, green, blue = class_colors(raw_ids, label_map).T.astype(np.uint32)
    color = (red << 16 | green << 8 | blue).astype(np.uint32).view(np.float32)
    added: dict[str, NDArray[Any]] = {COLOR: color, LABEL: raw_ids.astype(np.uint32)}
    kept = [i for i, name in enumerate(header.fields) if name not in added]
    header = header.derive(
        fields=(*(header.fields[i] for i in kept), COLOR, LABEL),
        size=(*(header.size[i] for i in kept), 4, 4),
        type=(*(header.type[i] for i in kept), "F", "U"),
        count=(*(header.count[i] for i in kept), 1, 1),
    )
    rows = np.empty(len(data), header.build_dtype())
    for name in rows.dtype.names or ():
        rows[name] = added[name] if name in added else data[name]
    with whole_file(target) as temporary:
        if header.data == pypcd4.Encoding.ASCII:
            _write_ascii(temporary, header, rows)
        else:
            pypcd4.PointCloud(header, rows).save(temporary, header.data)


def size_pcd(path: Path) -> int:
    """Bytes in memory that the head promises: of the points or, where that is more, of the block they are unpacked from.

    Raises:
        DataError: if the head is too long, names too many columns or cannot be read.
    """
    pypcd4 = needed("pypcd4", "formats", "PCD")
    with reading(path, "PCD"), open(path, "rb") as file:
        header = pypcd4.MetaData.parse_header(_head(file, path))
        if (columns := sum(header.count)) > MOST_COLUMNS:
            raise DataError(
                f"the points have {columns:,} columns, more than {MOST_COLUMNS:,}",
                where=path,
                remedy="Export the points with x, y, z and intensity alone.",
            )
        plain = header.data in (pypcd4.Encoding.ASCII, pypcd4.Encoding.BINARY)
        block = 0 if plain else int.from_bytes(file.read(8)[4:], "little")
        return max(block, header.points * header.build_dtype().itemsize)


def _head(file: BinaryIO, path: Path) -> list[str]:
    """The lines that the package takes for the head: up to one that begins with DATA, ten at most, without comments."""
    lines: list[str] = []
    left = LONGEST_HEAD
    while raw := file.readline(left):
        left -= len(raw)
        if left <= 0:
            raise long_head(path, "a line DATA")
        line = raw.decode().strip()
        if line and not line.startswith("#"):
            lines.append(line)
            if line.startswith("DATA") or len(lines) == 10:
                break
    return lines


def _write_ascii(path: Path, header: Any, rows: NDArray[Any]) -> None:
    """With as many digits as give the same number again: the package's own writer keeps ten decimals, which loses `rgb`."""
    digits = {4: "%.9g", 8: "%.17g"}
    kinds = [rows.dtype[name] for name in rows.dtype.names or ()]
    with open(path, "wb") as file:
        file.write(header.compose_header().encode())
        np.savetxt(file, rows, [digits[kind.itemsize] if kind.kind == "f" else "%d" for kind in kinds])


def _read(path: Path) -> tuple[Any, NDArray[Any]]:
    pypcd4 = needed("pypcd4", "formats", "PCD")
    with reading(path, "PCD"):
        cloud = pypcd4.PointCloud.from_path(path)
        data = np.atleast_1d(cloud.pc_data)  # an ascii file of one point comes without its axis
        if len(data) != cloud.metadata.points:
            raise DataError(
                f"{len(data):,} of {cloud.metadata.points:,} points are there",
                where=path,
                remedy="The file is cut off; copy it again.",
            )
        return cloud.metadata, data
