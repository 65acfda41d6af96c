"""LAS and LAZ: read and written in chunks, so that millions of points need no more memory than their coordinates.

Labels are written into a copy of the source: a classification by ASPRS's table, where it has the class, and an extra
dimension `semantic` with the raw id; every other dimension, the VLRs and the EVLRs stay.

Files that promise more than they can hold are refused before they are read. laspy trusts such numbers: it looks for
billions of records, or takes memory for them and, if there is none, ends the process, and with it the work on a whole
folder.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.files import whole_file
from pointseg.core.labels import LabelMap
from pointseg.core.optional_packages import needed
from pointseg.data.checks.input_check import looks_georeferenced
from pointseg.data.formats.cloud import (
    AS_IS,
    PointCloud,
    ReadSettings,
    origin_note,
    reading,
    refuse_empty,
    scaled_remission,
    sensor_origin,
)
from pointseg.data.formats.columns import further_columns
from pointseg.data.formats.label_columns import asprs_classes

__all__ = ["CHUNK", "SEMANTIC", "count_las", "read_las", "write_las"]

CHUNK = 1 << 18  # points: 10 to 20 MB of records
SEMANTIC = "semantic"
COPC = "copc"  # user id of VLRs that say where in the file the points of a place are; untrue in a copy

# the header of LAS 1.4
HEADER = 375  # bytes
VERSION, VLRS, EVLRS = 25, 100, 243  # places of the minor version and of the numbers of records
VLR_BYTES, EVLR_BYTES = 54, 60  # of a record without content


def read_las(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """x, y, z, intensity and the wanted dimensions of every point, in the order of the file."""
    laspy = needed("laspy", "formats", "LAS")
    with reading(path, "LAS"), _opened(laspy, path) as file:
        count = int(file.header.point_count)
        refuse_empty(count, path)
        origin = np.zeros(3)
        low, high = np.array(file.header.mins), np.array(file.header.maxs)
        if georeferenced := looks_georeferenced(np.stack([low, high])):
            origin = np.round((low + high) / 2)  # precise enough for float32, until all points are known
        _refuse_impossible_points(path, file.header, count)
        names = further_columns(list(file.header.point_format.dimension_names), settings.extra, path)
        points = np.empty((count, 4), np.float32)
        extra = np.empty((count, len(names)), np.float32) if names else None
        done = 0
        for chunk in file.chunk_iterator(CHUNK):
            rows = points[done : done + len(chunk)]
            for column, name in enumerate("xyz"):
                # scaled here, so that the origin is subtracted in float64
                rows[:, column] = np.asarray(chunk[name], np.float64) - origin[column]
            rows[:, 3] = chunk["intensity"]
            for column, name in enumerate(names):
                extra[done : done + len(chunk), column] = chunk[name]  # type: ignore[index]
            done += len(chunk)
        if done != count:
            raise DataError(
                f"the file has only {done:,} of {count:,} points",
                where=path,
                remedy="The file is cut off; copy it again.",
            )
    notes = []
    if georeferenced:
        shift = sensor_origin(points)
        points[:, :3] -= shift.astype(np.float32)
        origin += shift
        notes.append(origin_note(origin))
    remission, note = scaled_remission(points[:, 3], path, settings.remission_scale)
    notes += [note] if note else []
    if remission is None:
        points = np.ascontiguousarray(points[:, :3])
    else:
        points[:, 3] = remission
    return PointCloud(points, origin, tuple(notes), extra, settings.extra)


def _opened(laspy: Any, path: Path) -> Any:
    _refuse_impossible_header(path)
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
    """Copy the source with classification and the dimension `semantic`."""
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
            # a temporary name does not show the kind, so the compression is given
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


def _refuse_impossible_header(path: Path) -> None:
    """Refuse more variable-length records than fit into the file."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(HEADER)
    records = int.from_bytes(header[VLRS : VLRS + 4], "little")
    extended = (
        int.from_bytes(header[EVLRS : EVLRS + 4], "little") if len(header) > VERSION and header[VERSION] >= 4 else 0
    )
    if records * VLR_BYTES > size or extended * EVLR_BYTES > size:
        raise DataError(
            f"{size:,} bytes cannot hold the {max(records, extended):,} records that the header names",
            where=path,
            remedy="The file is damaged; copy it again from its source.",
        )


def _refuse_impossible_points(path: Path, header: Any, count: int) -> None:
    """Refuse more points, or more chunks in a LAZ file's table, than fit into the file."""
    size = path.stat().st_size
    if header.are_points_compressed:
        promised, what = _chunk_count(path, header.offset_to_point_data, size), "chunks of points"
        fits = promised <= size
    else:
        promised, what = count, "points"
        fits = size >= header.offset_to_point_data + count * header.point_format.size
    if not fits:
        raise DataError(
            f"{size:,} bytes cannot hold the {promised:,} {what} that the file names",
            where=path,
            remedy="The file is cut off or damaged; copy it again from its source.",
        )


def _chunk_count(path: Path, first: int, size: int) -> int:
    """Chunks in the table of a LAZ file (LASzip: the table's place is before the points, or at the end of a streamed
    file)."""
    with open(path, "rb") as file:
        file.seek(first)
        place = int.from_bytes(file.read(8), "little", signed=True)
        if place == -1:
            file.seek(-8, 2)
            place = int.from_bytes(file.read(8), "little", signed=True)
        if not first + 8 <= place <= size - 8:
            raise DataError(
                "the table of chunks is not in the file", where=path, remedy="It is cut off or damaged; copy it again."
            )
        file.seek(place + 4)  # after the version
        return int.from_bytes(file.read(4), "little")
