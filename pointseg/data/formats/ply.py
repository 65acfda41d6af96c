"""PLY: the vertices, ascii or binary of either byte order; other elements, properties and comments stay as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.files import whole_file
from pointseg.core.labels import LabelMap
from pointseg.core.optional_packages import needed
from pointseg.data.formats.cloud import AS_IS, PointCloud, ReadSettings, cloud_of_fields, reading
from pointseg.data.formats.columns import LONGEST_HEAD, columns_text, long_head
from pointseg.data.formats.label_columns import LABEL, class_colors, with_fields

__all__ = ["lists_ply", "read_ply", "write_ply"]

COLORS = ("red", "green", "blue")


def read_ply(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """x, y, z and intensity of the element `vertex`."""
    data = _vertices(_read(path), path).data
    return cloud_of_fields(data, path, "PLY", settings)


def write_ply(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """Copy the source, in its own encoding, with `label` (raw id) and the class colour as `red`, `green`, `blue`."""
    plyfile = needed("plyfile", "formats", "PLY")
    ply = _read(source)
    vertices = _vertices(ply, source)
    colors = dict(zip(COLORS, class_colors(raw_ids, label_map).T, strict=True))
    rows = with_fields(vertices.data, {**colors, LABEL: raw_ids.astype(np.uint32)})
    lists = [p for p in vertices.properties if isinstance(p, plyfile.PlyListProperty)]
    element = plyfile.PlyElement.describe(
        rows,
        vertices.name,
        len_types={p.name: p.len_dtype() for p in lists},
        val_types={p.name: p.val_dtype() for p in lists},
        comments=vertices.comments,
    )
    ply.elements = [element if e.name == vertices.name else e for e in ply.elements]
    with whole_file(target) as temporary, open(temporary, "wb") as stream:
        ply.write(stream)


def lists_ply(path: Path) -> int:
    """Lists in all elements, by the header: each becomes an array of its own.

    Raises:
        DataError: as `read_ply` does for its header.
    """
    with reading(path, "PLY"):
        return sum(element.rows * element.lists for element in _elements(path))


class _Element(NamedTuple):
    rows: int
    properties: int
    lists: int  # of the properties


def _elements(path: Path) -> list[_Element]:
    """The elements of the header, as plyfile reads it; none if it is not a PLY header, which plyfile then reports.

    Raises:
        DataError: if the header is too long, or the file too small for it: plyfile would take memory for everything first.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(LONGEST_HEAD)
    start = re.match(rb"ply(\r\n|\r|\n)", head)
    if start is None:
        return []
    content, end, _ = head.partition(start[1] + b"end_header" + start[1])
    if not end and size > LONGEST_HEAD:
        raise long_head(path, "end_header")
    elements: list[_Element] = []
    for line in content.decode("ascii").split(start[1].decode()):
        parts = line.split()
        if parts[:1] == ["element"] and len(parts) == 3:
            elements.append(_Element(max(0, int(parts[2])), 0, 0))
        elif parts[:1] == ["property"] and elements:
            rows, properties, lists = elements[-1]
            elements[-1] = _Element(rows, properties + 1, lists + (parts[1:2] == ["list"]))
    promised = sum(rows * max(1, properties) for rows, properties, _ in elements)  # each takes at least a byte
    if promised > size:
        raise DataError(
            f"{size:,} bytes cannot hold the {promised:,} values of its header",
            where=path,
            remedy="The file is cut off or damaged; copy it again from its source.",
        )
    return elements


def _read(path: Path) -> Any:
    plyfile = needed("plyfile", "formats", "PLY")
    with reading(path, "PLY"):
        _elements(path)
        return plyfile.PlyData.read(str(path), mmap=False)


def _vertices(ply: Any, path: Path) -> Any:
    for element in ply.elements:
        if element.name == "vertex":
            return element
    names = columns_text([element.name for element in ply.elements])
    raise DataError(f"there is no element vertex among {names}", where=path, remedy="Export the points as vertices.")
