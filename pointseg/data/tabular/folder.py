"""Describes a folder of tables of points, as `prepare format=parquet` or `csv` writes them, without reading the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.core.errors import DataError
from pointseg.core.optional_packages import needed
from pointseg.data.tabular.mltable import mltable_text

__all__ = ["Tables", "find_tables"]

CHUNK = 1 << 22  # bytes
LONGEST_HEAD = 1 << 16  # bytes of a line of names
REMEDY = "Write it again: python -m pointseg.prepare input=DIR output=DIR format=parquet"


@dataclass(frozen=True)
class Tables:
    """Tables that belong together.

    Attributes:
        parts: the files, in order.
        columns: of every file.
        points: rows of all files.
        scans: of all files; None if that is unknown without reading them.
    """

    parts: tuple[Path, ...]
    columns: tuple[str, ...]
    points: int
    scans: int | None

    @property
    def mltable(self) -> str:
        """The content of the MLTable file that reads them."""
        return mltable_text(self.parts[0].suffix, self.columns)

    @property
    def tags(self) -> dict[str, str]:
        """What is known of them, as text."""
        tags = {"layout": f"tables of points ({self.parts[0].suffix[1:]})", "points": str(self.points)}
        return tags if self.scans is None else {**tags, "scans": str(self.scans)}


def find_tables(folder: Path) -> Tables:
    """The tables of a folder, by their headers and footers; CSV files are read once, to count their lines.

    Raises:
        DataError: if there are none or of both kinds, or one is cut off, has other columns, or holds no points.

    Example:
        >>> find_tables(Path("tables")).columns[:4]
        ('x', 'y', 'z', 'remission')
    """
    by_suffix = {suffix: sorted(folder.glob(f"*{suffix}")) for suffix in (".parquet", ".csv")}
    if not any(by_suffix.values()):
        raise DataError("the folder has no tables (*.parquet, *.csv)", where=folder, remedy=REMEDY)
    if all(by_suffix.values()):
        raise DataError("the folder has tables of two kinds", where=folder, remedy="Keep .parquet or .csv alone.")
    tables = [_parquet(part) for part in by_suffix[".parquet"]] + [_csv(part) for part in by_suffix[".csv"]]
    first = tables[0]
    for table in tables:
        if table.columns != first.columns:
            raise DataError(f"the table has other columns than {first.path.name}", where=table.path, remedy=REMEDY)
    if missing := [name for name in ("x", "y", "z") if name not in first.columns]:
        raise DataError(f"the tables have no column {missing[0]}", where=first.path, remedy=REMEDY)
    scans = None
    if all(table.scans is not None for table in tables):
        scans = len(set().union(*(table.scans or () for table in tables)))
    return Tables(tuple(table.path for table in tables), first.columns, sum(table.rows for table in tables), scans)


@dataclass(frozen=True)
class _Table:
    """One file; scans: sequence and frame of each, None if unknown."""

    path: Path
    columns: tuple[str, ...]
    rows: int
    scans: set[tuple[str, str]] | None


def _parquet(path: Path) -> _Table:
    arrow = needed("pyarrow", "formats", "tables")
    parquet = needed("pyarrow.parquet", "formats", "tables")
    try:
        with parquet.ParquetFile(path) as file:
            columns = tuple(file.schema_arrow.names)
            return _Table(path, columns, file.metadata.num_rows, _scans_of(file.metadata, columns))
    except (OSError, arrow.ArrowException) as error:
        what = f"the table cannot be read ({str(error).splitlines()[0][:120]})"
        raise DataError(what, where=path, remedy=REMEDY) from error


def _scans_of(metadata: Any, columns: Sequence[str]) -> set[tuple[str, str]] | None:
    """Sequence and frame of each row group, by its statistics; None if a group holds several scans."""
    if not {"sequence", "frame"} <= set(columns):
        return None
    names = [metadata.schema.column(index).name for index in range(metadata.num_columns)]
    scans = set()
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        ends = [group.column(names.index(name)).statistics for name in ("sequence", "frame")]
        if any(end is None or not end.has_min_max or end.min != end.max for end in ends):
            return None
        scans.add((str(ends[0].min), str(ends[1].min)))
    return scans


def _csv(path: Path) -> _Table:
    """A line of names, then a line for each point; the last line must end, else the file is cut off."""
    try:
        with open(path, "rb") as file:
            names = file.readline(LONGEST_HEAD).decode("utf-8")
            lines, last = 0, names[-1:].encode()
            while chunk := file.read(CHUNK):
                lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the table cannot be read ({type(error).__name__})", where=path, remedy=REMEDY) from error
    if last != b"\n":
        raise DataError("the table is cut off: its last line does not end", where=path, remedy=REMEDY)
    return _Table(path, tuple(name.strip().strip('"') for name in names.split(",")), lines, None)
