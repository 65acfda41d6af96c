"""Columns of tables and structured files by the names that people give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointseg.errors import DataError

__all__ = ["REMISSION_NAMES", "listed", "point_columns"]

REMISSION_NAMES = ("remission", "intensity", "reflectance", "scalar_intensity")  # the last is CloudCompare's

MOST_NAMES, LONGEST_NAME = 10, 40  # that a message repeats of a file


def point_columns(names: Sequence[str], where: Path) -> tuple[list[str], str | None]:
    """The columns of x, y, z and of remission (None where there is none), as the file spells them.

    Raises:
        DataError: if x, y or z is missing; it names the columns that were found.

    Example:
        >>> point_columns(["X", "Y", "Z", "Intensity", "time"], path)
        (['X', 'Y', 'Z'], 'Intensity')
    """
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(name.strip().lower(), name)
    missing = [name for name in "xyz" if name not in spelled]
    if missing:
        raise DataError(
            f"there is no column {', '.join(missing)} among {listed(names)}",
            where=where,
            remedy=f"Name the columns x, y, z and, where there is one, {' or '.join(REMISSION_NAMES[:3])}.",
        )
    remission = next((spelled[name] for name in REMISSION_NAMES if name in spelled), None)
    return [spelled[name] for name in "xyz"], remission


def listed(names: Sequence[str]) -> str:
    """Names that a file has, for a message: the first of them where they are many.

    Example:
        >>> listed(["x", "lat", "z"])
        'x, lat, z'
    """
    shown = ", ".join(name[:LONGEST_NAME] for name in names[:MOST_NAMES]) or "none"
    return shown + (f" and {len(names) - MOST_NAMES:,} others" if len(names) > MOST_NAMES else "")
