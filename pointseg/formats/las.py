"""LAS and LAZ: read and written in chunks, so that millions of points need no more memory than their coordinates.

The result is the source with a classification by ASPRS's table where that has one, and an extra dimension `semantic` with
the raw id; every other dimension, the VRLs and the EVLRs stay.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import DataError
from pointseg.extras import needed
from pointseg.files import whole_file
from pointseg.formats.cloud import (
    PointCloud,
    origin_note,
    reading,
    refuse_empty,
    scaled_remission,
    sensor_origin,
)
from pointseg.formats.labels_out import asprs_classes
from pointseg.formats.las_check import refuse_impossible_header, refuse_impossible_points
from pointseg.input_check import looks_georeferenced
from pointseg.labels import LabelMap

__all__ = ["CHUNK", "SEMANTIC", "count_las", "read_las", "write_las"]

CHUNK = 1 << 18  # points: 10 to 20 MB of records
SEMANTIC = "semantic"
COPC = "copc"  # its VRLs say where in the file the points of a place are, which is no longer so in a copy


def read_las(path: Path, remission_scale: float | None = None) -> PointCloud:
    """x, y, z and intensity of every point, in the order of the file."""
    laspy = needed("laspy", "formats", "LAS")
    with reading(path, "LAS"), _opened(laspy, path) as file:
        count = int(file.header.point_count)
        refuse_empty(count, path)
        origin = np.zeros(3)
        low, high = np.array(file.header.mins), np.array(file.header.maxs)
        if georeferenced := looks_georeferenced(np.stack([low, high])):
            origin = np.round((low + high) / 2)  # near enough for float32, until all points are known
        refuse_impossible_points(path, file.header, count)
        points = np.empty((count, 4), np.float32)
        done = 0
        for chunk in file.chunk_iterator(CHUNK):
            rows = points[done : done + len(chunk)]
            for column, name in enumerate("xyz"):
                # scaled here: the chunk's own x, y, z are float64 too, but of the whole coordinate
                rows[:, column] = np.asarray(chunk[name], np.float64) - origin[column]
            rows[:, 3] = chunk["intensity"]
            done += len(chunk)
        if done != count:
            raise DataError(
                f"{done:,} of {count:,} points are there", where=path, remedy="The file is cut off; copy it again."
            )
    notes = []
    if georeferenced:
        shift = sensor_origin(points)
        points[:, :3] -= shift.astype(np.float32)
        origin += shift
        notes.append(origin_note(origin))
    remission, note = scaled_remission(points[:, 3], path, remission_scale)
    notes += [note] if note else []
    if remission is None:
        return PointCloud(np.ascontiguousarray(points[:, :3]), origin, tuple(notes))
    points[:, 3] = remission
    return PointCloud(points, origin, tuple(notes))


def _opened(laspy: Any, path: Path) -> Any:
    refuse_impossible_header(path)
    return laspy.open(path)


def count_las(path: Path) -> int | None:
    """Points, from the header; None where it cannot be read."""
    laspy = needed("laspy", "formats", "LAS")
    try:
        with reading(path, "LAS"), _opened(laspy, path) as file:
            return int(file.header.point_count)
    except DataError:
        return None


def write_las(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """The source with classification and the dimension `semantic`."""
    laspy = needed("laspy", "formats", "LAS")
    with reading(source, "LAS"), laspy.open(source) as file:
        header = copy.deepcopy(file.header)
        header.vlrs[:] = [vlr for vlr in header.vlrs if vlr.user_id != COPC]
        evlrs = [vlr for vlr in file.evlrs or [] if vlr.user_id != COPC]
        header.evlrs = None
        if SEMANTIC not in header.point_format.dimension_names:
            extra = laspy.ExtraBytesParams(SEMANTIC, np.uint16, description="raw label id")
            header.add_extra_dim(extra)
        compressed = target.suffix.lower() == ".laz"
        with (
            whole_file(target) as temporary,
            # the suffix of a temporary name says nothing, so the compression is told
            open(temporary, "wb") as stream,
            laspy.open(stream, mode="w", header=header, do_compress=compressed, closefd=False) as writer,
        ):
            done = 0
            for chunk in file.chunk_iterator(CHUNK):
                ids = raw_ids[done : done + len(chunk)]
                record = laspy.ScaleAwarePointRecord.zeros(len(chunk), header=header)
                record.copy_fields_from(chunk)
                record["classification"] = asprs_classes(ids, label_map)
                record[SEMANTIC] = ids.astype(np.uint16)  # a label map's raw ids fit 16 bits
                writer.write_points(record)
                done += len(chunk)
            if evlrs:
                writer.write_evlrs(laspy.vlrs.vlrlist.VLRList(evlrs))
