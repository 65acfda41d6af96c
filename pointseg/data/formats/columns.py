"""The header of a file of points: its columns, by the names that people give them, and a limit on its length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointseg.core.errors import DataError
from pointseg.core.text import listed

__all__ = ["LONGEST_HEAD", "REMISSION_NAMES", "columns_text", "further_columns", "long_head", "point_columns"]

REMISSION_NAMES = ("remission", "intensity", "reflectance", "scalar_intensity")  # the last is CloudCompare's
LONGEST_HEAD = 65536  # bytes; what readers make of a header takes many times its size in memory


def point_columns(names: Sequence[str], where: Path) -> tuple[list[str], str | None]:
    """The columns of x, y, z and of remission (None if there is none), as the file spells them.

    Raises:
        DataError: if x, y or z is missing; it lists the columns of the file.

    Example:
        >>> point_columns(["X", "Y", "Z", "Intensity", "time"], path)
        (['X', 'Y', 'Z'], 'Intensity')
    """
    spelled = _spelled(names)
    if missing := [name for name in "xyz" if name not in spelled]:
        raise DataError(
            f"there is no column {', '.join(missing)} among {columns_text(names)}",
            where=where,
            remedy=f"Name the columns x, y, z and, if there is one, {' or '.join(REMISSION_NAMES[:3])}.",
        )
    remission = next((spelled[name] for name in REMISSION_NAMES if name in spelled), None)
    return [spelled[name] for name in "xyz"], remission


def further_columns(names: Sequence[str], wanted: Sequence[str], where: Path) -> list[str]:
    """The wanted columns beyond x, y, z and remission, as the file spells them.

    Raises:
        DataError: if one is missing; it lists the columns of the file.

    Example:
        >>> further_columns(["x", "y", "z", "intensity", "Ring"], ["ring"], path)
        ['Ring']
    """
    spelled = _spelled(names)
    if missing := [name for name in wanted if name.lower() not in spelled]:
        raise DataError(
            f"there is no column {', '.join(missing)} among {columns_text(names)}, and the model needs it",
            where=where,
            remedy="Export it with the points, under this name, or use a model without it.",
        )
    return [spelled[name.lower()] for name in wanted]


def _spelled(names: Sequence[str]) -> dict[str, str]:
    """Lower-case name -> name as it is spelled; of equal ones the first."""
    return {name.strip().lower(): name for name in reversed(names)}


def columns_text(names: Sequence[str]) -> str:
    """Names in a file, for a message: short, and only the first of many.

    Example:
        >>> columns_text(["x", "lat", "z"])
        'x, lat, z'
    """
    return listed([name[:40] for name in names], 10) or "none"


def long_head(path: Path, end: str) -> DataError:
    """The error about a file whose header is too long.

    Args:
        end: what ends a header of this kind.

    Example:
        >>> raise long_head(path, "end_header")
    """
    return DataError(
        f"the header of the file does not end ({end}) within {LONGEST_HEAD:,} bytes",
        where=path,
        remedy="Remove comments and columns that are not needed, or export the points again.",
    )
