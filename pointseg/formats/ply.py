"""PLY: the vertices, ascii or binary of either byte order; other elements, properties and comments stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import DataError
from pointseg.extras import needed
from pointseg.files import whole_file
from pointseg.formats.cloud import PointCloud, cloud_of_fields, reading
from pointseg.formats.labels_out import LABEL, class_colors
from pointseg.labels import LabelMap

__all__ = ["read_ply", "write_ply"]

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


def _read(path: Path) -> Any:
    plyfile = needed("plyfile", "formats", "PLY")
    with reading(path, "PLY"):
        return plyfile.PlyData.read(str(path), mmap=False)


def _vertices(whole: Any, path: Path) -> Any:
    for element in whole.elements:
        if element.name == "vertex":
            return element
    found = ", ".join(element.name for element in whole.elements) or "none"
    raise DataError(f"there is no element vertex among {found}", where=path, remedy="Export the points as vertices.")
