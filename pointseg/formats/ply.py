"""PLY: the vertices, ascii or binary of either byte order; other elements, properties and comments stay as they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import DataError
from pointseg.extras import needed
from pointseg.files import whole_file
from pointseg.formats.cloud import PointCloud, cloud_of_fields, reading
from pointseg.formats.columns import listed
from pointseg.formats.heads import LONGEST_HEAD, long_head
from pointseg.formats.labels_out import LABEL, class_colors
from pointseg.labels import LabelMap

__all__ = ["lists_ply", "read_ply", "write_ply"]

COLORS = ("red", "green", "blue")


def read_ply(path: Path, remission_scale: float | None = None) -> PointCloud:
    """x, y, z and intensity of the element `vertex`."""
    data = _vertices(_read(path), path).data
    return cloud_of_fields(data, path, "PLY", remission_scale)


def write_ply(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """The source, in its own encoding, with `label` (raw id) and the class colour as `red`, `green`, `blue`."""
    plyfile = needed("plyfile", "formats", "PLY")
    whole = _read(source)
    vertices = _vertices(whole, source)
    added: dict[str, Any] = dict(zip(COLORS, class_colors(raw_ids, label_map).T, strict=True))
    added[LABEL] = raw_ids.astype(np.uint32)
    kept = [(name, vertices.data.dtype[name]) for name in vertices.data.dtype.names if name not in added]
    rows = np.empty(len(raw_ids), [*kept, *((name, values.dtype) for name, values in added.items())])
    for name, _ in kept:
        rows[name] = vertices.data[name]
    for name, values in added.items():
        rows[name] = values
    lists = [p for p in vertices.properties if isinstance(p, plyfile.PlyListProperty)]
    element = plyfile.PlyElement.describe(
        rows,
        vertices.name,
        len_types={p.name: p.len_dtype() for p in lists},
        val_types={p.name: p.val_dtype() for p in lists},
        comments=vertices.comments,
    )
    whole.elements = [element if e.name == vertices.name else e for e in whole.elements]
    with whole_file(target) as temporary, open(temporary, "wb") as stream:
        whole.write(stream)


def lists_ply(path: Path) -> int:
    """Lists in all elements, by the head: each becomes an array of its own.

    Raises:
        DataError: as `read_ply`, as far as the head tells.
    """
    with reading(path, "PLY"):
        return sum(element.rows * element.lists for element in _elements(path))


class _Element(NamedTuple):
    rows: int
    properties: int
    lists: int  # of the properties


def _elements(path: Path) -> list[_Element]:
    """What the head promises, as the package reads it; a head that is none is left to the package, which says so.

    Raises:
        DataError: if the head is too long, or the file too small for what it promises: the package would take memory
            for that first.
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
    found: list[_Element] = []
    for line in content.decode("ascii").split(start[1].decode()):
        words = line.split()
        if words[:1] == ["element"] and len(words) == 3:
            found.append(_Element(max(0, int(words[2])), 0, 0))
        elif words[:1] == ["property"] and found:
            rows, properties, lists = found[-1]
            found[-1] = _Element(rows, properties + 1, lists + (words[1:2] == ["list"]))
    promised = sum(rows * max(1, properties) for rows, properties, _ in found)  # each takes a byte, at the least
    if promised > size:
        raise DataError(
            f"{size:,} bytes cannot hold the {promised:,} values that the head promises",
            where=path,
            remedy="The file is cut off or damaged; copy it again from its source.",
        )
    return found


def _read(path: Path) -> Any:
    plyfile = needed("plyfile", "formats", "PLY")
    with reading(path, "PLY"):
        _elements(path)
        return plyfile.PlyData.read(str(path), mmap=False)


def _vertices(whole: Any, path: Path) -> Any:
    for element in whole.elements:
        if element.name == "vertex":
            return element
    found = listed([element.name for element in whole.elements])
    raise DataError(f"there is no element vertex among {found}", where=path, remedy="Export the points as vertices.")
