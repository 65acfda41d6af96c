"""Folders of tables of points, as `prepare format=parquet` or `csv` writes them, looked at without reading the points."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pointseg.data.tabular import MLTABLE, mltable_text
from pointseg.errors import DataError
from pointseg.extras import needed

__all__ = ["Tables", "check_mltable", "find_tables"]

SUFFIXES = (".parquet", ".csv")
NEEDED = ("x", "y", "z")
CHUNK = 1 << 22
REMEDY = "Write it again: python -m pointseg.prepare input=DIR output=DIR format=parquet"


@dataclass(frozen=True)
class Tables:
    """Tables that belong together.

    Attributes:
        parts: the files, in order.
        columns: that all of them have.
        points: rows of all.
        scans: of all; None where that is not known without reading them.
    """

    parts: tuple[Path, ...]
    columns: tuple[str, ...]
    points: int
    scans: int | None

    @property
    def mltable(self) -> str:
        """The content of the file MLTable that reads them."""
        return mltable_text(self.parts[0].suffix, self.columns)

    @property
    def tags(self) -> dict[str, str]:
        """What is known of them, as words."""
        found = {"layout": f"tables of points ({self.parts[0].suffix[1:]})", "points": str(self.points)}
        return found if self.scans is None else {**found, "scans": str(self.scans)}


def find_tables(folder: Path) -> Tables:
    """The tables of a folder; only their heads and ends are read, of CSV each file once.

    Raises:
        DataError: if there are none, they are of both kinds, cut off, unlike each other, or hold no points.

    Example:
        >>> find_tables(Path("tables")).columns[:4]
        ('x', 'y', 'z', 'remission')
    """
    found = {suffix: tuple(sorted(folder.glob(f"*{suffix}"))) for suffix in SUFFIXES}
    if not any(found.values()):
        raise DataError("the folder has no tables (*.parquet, *.csv)", where=folder, remedy=REMEDY)
    if all(found.values()):
        raise DataError("the folder has tables of two kinds", where=folder, remedy="Keep .parquet or .csv alone.")
    suffix = next(suffix for suffix in SUFFIXES if found[suffix])
    parts = found[suffix]
    heads = [_parquet_head(part) if suffix == ".parquet" else _csv_head(part) for part in parts]
    columns = heads[0][0]
    for part, head in zip(parts, heads, strict=True):
        if head[0] != columns:
            raise DataError(f"the table has other columns than {parts[0].name}", where=part, remedy=REMEDY)
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise DataError(f"the tables have no column {missing[0]}", where=parts[0], remedy=REMEDY)
    scans = None if any(head[2] is None for head in heads) else len(set().union(*(head[2] or () for head in heads)))
    return Tables(parts, columns, sum(head[1] for head in heads), scans)


Head = tuple[tuple[str, ...], int, set[tuple[str, str]] | None]  # columns, rows, scans where they are known


def _parquet_head(part: Path) -> Head:
    arrow = needed("pyarrow", "formats", "tables")
    parquet = needed("pyarrow.parquet", "formats", "tables")
    try:
        with parquet.ParquetFile(part) as file:
            about = file.metadata
            columns = tuple(file.schema_arrow.names)
            return columns, about.num_rows, _scans_of(about, columns)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(
            f"the table cannot be read ({str(error).splitlines()[0][:120]})", where=part, remedy=REMEDY
        ) from error


def _scans_of(about: Any, columns: Sequence[str]) -> set[tuple[str, str]] | None:
    """Sequence and frame of each group of rows, by its statistics; None where a group holds several scans."""
    if not {"sequence", "frame"} <= set(columns):
        return None
    names = [about.schema.column(index).name for index in range(about.num_columns)]
    found = set()
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        scan = []
        for name in ("sequence", "frame"):
            statistics = group.column(names.index(name)).statistics
            if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
                return None
            scan.append(str(statistics.min))
        found.add((scan[0], scan[1]))
    return found


def _csv_head(part: Path) -> Head:
    """A line of names, then a line a point; the last one ends too, else the file is cut off."""
    try:
        with open(part, "rb") as file:
            first = file.readline(1 << 16).decode("utf-8")
            lines, last = 0, first[-1:].encode()
            for chunk in _chunks(file):
                lines, last = lines + chunk.count(b"\n"), chunk[-1:]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the table cannot be read ({type(error).__name__})", where=part, remedy=REMEDY) from error
    if last != b"\n":
        raise DataError("the table is cut off: its last line does not end", where=part, remedy=REMEDY)
    return tuple(name.strip().strip('"') for name in first.split(",")), lines, None


def _chunks(file: Any) -> Iterator[bytes]:
    while chunk := file.read(CHUNK):
        yield chunk


def check_mltable(folder: Path) -> None:
    """Raises DataError if the folder's file MLTable is none, or reads nothing of the folder."""
    path = folder / MLTABLE
    remedy = "Remove it, and a correct one is written."
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"it cannot be read ({type(error).__name__})", where=path, remedy=remedy) from error
    paths = content.get("paths") if isinstance(content, dict) else None
    if not isinstance(paths, list) or not paths or not all(isinstance(entry, dict) for entry in paths):
        raise DataError("it names no paths", where=path, remedy=remedy)
    steps = content.get("transformations") or []
    if not any(isinstance(step, dict) and any(str(key).startswith("read_") for key in step) for step in steps):
        raise DataError("it does not say how the files are read", where=path, remedy=remedy)
    for entry in paths:
        _check_entry(entry, folder, path)


def _check_entry(entry: dict[str, Any], folder: Path, path: Path) -> None:
    kind, value = next(iter(entry.items()), ("", ""))
    if kind not in ("file", "folder", "pattern") or not isinstance(value, str) or len(entry) != 1:
        raise DataError(f"{entry} is no path", where=path, remedy="Give file, folder or pattern.")
    if "://" in value:
        return
    if value.startswith("/") or ".." in Path(value).parts:
        raise DataError(
            "a path leads out of the folder, and only the folder is uploaded",
            where=f"{path}: {value}",
            remedy="Write it relative to the folder.",
        )
    present = any(folder.glob(value.removeprefix("./"))) if kind == "pattern" else (folder / value).exists()
    if not present:
        raise DataError("no file is there", where=f"{path}: {value}", remedy="Correct the path.")
