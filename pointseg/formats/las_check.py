"""LAS and LAZ files that promise more than they can hold, refused before they are read.

What reads them takes such numbers at their word: it looks for billions of records, or takes memory for them and, where there
is none, ends the process. A folder of files would end with its one damaged file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pointseg.errors import DataError

__all__ = ["refuse_impossible_header", "refuse_impossible_points"]

HEADER = 375  # bytes of LAS 1.4's, the longest
VERSION, VLRS, EVLRS = 25, 100, 243  # places of the minor version and of the numbers of records
VLR_BYTES, EVLR_BYTES = 54, 60  # of a record without content


def refuse_impossible_header(path: Path) -> None:
    """Refuse numbers of variable-length records that the file is too small for.

    Raises:
        DataError: naming the number.
        OSError: if the file cannot be opened.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(HEADER)
    records = int.from_bytes(header[VLRS : VLRS + 4], "little")
    far = int.from_bytes(header[EVLRS : EVLRS + 4], "little") if len(header) > VERSION and header[VERSION] >= 4 else 0
    if records * VLR_BYTES > size or far * EVLR_BYTES > size:
        raise DataError(
            f"{size:,} bytes cannot hold the {max(records, far):,} records that the header names",
            where=path,
            remedy="The file is damaged; copy it again from its source.",
        )


def refuse_impossible_points(path: Path, header: Any, count: int) -> None:
    """Refuse points, or a LAZ file's table of chunks, that the file is too small for.

    Raises:
        DataError: naming the numbers.
    """
    size = path.stat().st_size
    if header.are_points_compressed:
        promised, what = _chunks(path, header.offset_to_point_data, size), "chunks of points"
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


def _chunks(path: Path, first: int, size: int) -> int:
    """How many chunks the table of a LAZ file names (LASzip: its place stands before the points, or at the end of files
    that were streamed)."""
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
