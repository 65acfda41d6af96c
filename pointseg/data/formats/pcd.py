"""PCD, as the Point Cloud Library writes it: ascii, binary and binary_compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.files import whole_file
from pointseg.core.labels import LabelMap
from pointseg.core.optional_packages import needed
from pointseg.data.formats.cloud import AS_IS, PointCloud, ReadSettings, cloud_of_fields, reading
from pointseg.data.formats.columns import LONGEST_HEAD, long_head
from pointseg.data.formats.label_columns import LABEL, class_colors, with_fields

__all__ = ["read_pcd", "size_pcd", "write_pcd"]

COLOR = "rgb"  # 0x00RRGGBB as the bits of a float32, as the library and its viewers expect
MOST_COLUMNS = 4096  # of all fields together; a COUNT of billions would be as many names


def read_pcd(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """x, y, z and intensity of every point; NaN, which organised clouds have where no ray returned, is kept."""
    return cloud_of_fields(_read(path)[1], path, "PCD", settings)


def write_pcd(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """Copy the source, with its encoding, size and viewpoint, with `label` (raw id) and the class colour as `rgb`."""
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
    rows = with_fields(data, added)
    with whole_file(target) as temporary:
        if header.data == pypcd4.Encoding.ASCII:
            _write_ascii(temporary, header, rows)
        else:
            pypcd4.PointCloud(header, rows).save(temporary, header.data)


def size_pcd(path: Path) -> int:
    """Bytes in memory by the header: of the points or, if that is more, of the block they are unpacked from.

    Raises:
        DataError: if the header is too long, names too many columns or cannot be read.
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
    """The lines that pypcd4 takes for the header: up to one that begins with DATA, ten at most, without comments."""
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
    """With enough digits to give the same number again: pypcd4's own writer keeps ten decimals, which loses `rgb`."""
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
                f"the file has only {len(data):,} of {cloud.metadata.points:,} points",
                where=path,
                remedy="The file is cut off; copy it again.",
            )
        return cloud.metadata, data
