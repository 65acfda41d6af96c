"""The text at the beginning of a file, within bounds: what readers make of it takes many times its size in memory."""

from __future__ import annotations

from pathlib import Path

from pointseg.errors import DataError

__all__ = ["LONGEST_HEAD", "long_head"]

LONGEST_HEAD = 65536  # bytes


def long_head(path: Path, end: str) -> DataError:
    """The error about a file whose head is longer.

    Args:
        end: what ends a head of this kind.

    Example:
        >>> raise long_head(path, "end_header")
    """
    return DataError(
        f"the head of the file does not end ({end}) within {LONGEST_HEAD:,} bytes",
        where=path,
        remedy="Remove comments and columns that are not needed, or export the points again.",
    )
