"""CSV and Parquet: columns x, y, z and remission by name; labels go to a copy with the columns `label` and `class`.

Both are read and written in parts. CSV values are copied as text, so no digit changes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.files import whole_file
from pointseg.core.labels import LabelMap
from pointseg.core.optional_packages import needed
from pointseg.data.formats.cloud import AS_IS, PointCloud, ReadSettings, cloud_of, reading
from pointseg.data.formats.columns import LONGEST_HEAD, further_columns, long_head, point_columns
from pointseg.data.formats.label_columns import LABEL, class_names

__all__ = ["count_parquet", "read_csv", "read_parquet", "write_csv", "write_parquet"]

CLASS = "class"
ROWS = 1 << 18  # in one part
SEPARATORS = ",;\t|"


def read_csv(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """A table with a line of names; commas, semicolons, tabs or bars separate the fields."""
    pandas = needed("pandas", "formats", "CSV")
    with reading(path, "CSV"):
        separator, names = _header(path)
        used, remission = _used(names, settings, path)
        parts = [
            part[used].to_numpy(np.float64)
            for part in pandas.read_csv(
                path, sep=separator, usecols=list(set(used)), index_col=False, chunksize=ROWS, encoding="utf-8-sig"
            )
        ]
    values = np.concatenate(parts) if parts else np.empty((0, len(used)))
    return _cloud(values, remission, path, settings)


def write_csv(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """Copy the source with the columns `label` (raw id) and `class`."""
    pandas = needed("pandas", "formats", "CSV")
    with reading(source, "CSV"):
        separator, _ = _header(source)
    done = 0
    with whole_file(target) as temporary:
        for part in _text_parts(pandas, source, separator):
            ids = raw_ids[done : done + len(part)]
            names, index = class_names(ids, label_map)
            part[LABEL], part[CLASS] = ids, np.array(names, object)[index]
            part.to_csv(temporary, sep=separator, index=False, mode="a" if done else "w", header=not done)
            done += len(part)


def _text_parts(pandas: Any, source: Path, separator: str) -> Iterator[Any]:
    as_text = {"dtype": str, "keep_default_na": False, "index_col": False, "encoding": "utf-8-sig"}
    with reading(source, "CSV"):  # here, so that a failure of writing does not look like one of reading
        yield from pandas.read_csv(source, sep=separator, chunksize=ROWS, **as_text)


def _header(path: Path) -> tuple[str, list[str]]:
    """The separator and the names.

    Raises:
        DataError: if the line of names is too long, or a quote in it is not closed.
    """
    with open(path, encoding="utf-8-sig") as file:
        line = file.readline(LONGEST_HEAD).rstrip("\r\n")
    if len(line) >= LONGEST_HEAD - 1:
        raise long_head(path, "a line of names")
    separator = max(SEPARATORS, key=line.count)
    rows = csv.reader([line, ""], delimiter=separator)
    names = next(rows)
    if rows.line_num > 1:
        raise DataError("a quote in the line of names is not closed", where=path, remedy="Close it, or remove it.")
    return separator, names


def read_parquet(path: Path, settings: ReadSettings = AS_IS) -> PointCloud:
    """A table of numbers."""
    parquet = needed("pyarrow.parquet", "formats", "Parquet")
    with reading(path, "Parquet"), parquet.ParquetFile(path) as file:
        used, remission = _used(file.schema_arrow.names, settings, path)
        types = needed("pyarrow.types", "formats", "Parquet")
        for name in used[3 + remission :]:  # repeated texts may take any amount of memory
            kind = file.schema_arrow.field(name).type
            if not (types.is_floating(kind) or types.is_integer(kind)):
                raise DataError(
                    f"the column {name} holds no numbers", where=path, remedy="Write it as float or integer."
                )
        values = np.empty((file.metadata.num_rows, len(used)))
        done = 0
        for batch in file.iter_batches(ROWS, columns=list(set(used))):
            for number, name in enumerate(used):
                column = batch.column(name).to_numpy(zero_copy_only=False)
                values[done : done + len(batch), number] = column
            done += len(batch)
    return _cloud(values, remission, path, settings)


def count_parquet(path: Path) -> int | None:
    """Rows, from the footer; None where it cannot be read."""
    parquet = needed("pyarrow.parquet", "formats", "Parquet")
    try:
        with reading(path, "Parquet"):
            return int(parquet.read_metadata(path).num_rows)
    except DataError:
        return None


def write_parquet(source: Path, target: Path, raw_ids: NDArray[np.uint32], label_map: LabelMap) -> None:
    """Copy the source with the columns `label` (raw id) and `class`; other columns and the schema's metadata stay."""
    arrow, parquet = needed("pyarrow", "formats", "Parquet"), needed("pyarrow.parquet", "formats", "Parquet")
    with reading(source, "Parquet"), parquet.ParquetFile(source) as file:
        kept = [name for name in file.schema_arrow.names if name not in (LABEL, CLASS)]
        text = arrow.dictionary(arrow.int32(), arrow.string())
        schema = arrow.schema(
            [*(file.schema_arrow.field(name) for name in kept), (LABEL, arrow.uint32()), (CLASS, text)],
            metadata=_without_pandas(file.schema_arrow.metadata),
        )
        with whole_file(target) as temporary, parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch, ids in _batches(file, source, raw_ids, kept):
                names, index = class_names(ids, label_map)
                classes = arrow.DictionaryArray.from_arrays(arrow.array(index, arrow.int32()), names)
                columns = [*(batch.column(name) for name in kept), arrow.array(ids, arrow.uint32()), classes]
                writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _without_pandas(metadata: dict[bytes, bytes] | None) -> dict[bytes, bytes]:
    """pandas lists in the metadata the columns that it wrote, which are no longer all."""
    return {key: value for key, value in (metadata or {}).items() if key != b"pandas"}


def _batches(
    file: Any, source: Path, raw_ids: NDArray[np.uint32], kept: list[str]
) -> Iterator[tuple[Any, NDArray[np.uint32]]]:
    done = 0
    with reading(source, "Parquet"):  # here, so that a failure of reading does not look like one of writing
        for batch in file.iter_batches(ROWS, columns=kept):
            yield batch, raw_ids[done : done + len(batch)]
            done += len(batch)


def _used(names: Sequence[str], settings: ReadSettings, path: Path) -> tuple[list[str], bool]:
    """The columns to read, x, y and z first, and whether remission comes next."""
    columns, remission = point_columns(names, path)
    further = further_columns(names, settings.extra, path)
    return [*columns, *([remission] if remission else []), *further], remission is not None


def _cloud(values: NDArray[np.float64], remission: bool, path: Path, settings: ReadSettings) -> PointCloud:
    first = 3 + remission
    return cloud_of(values[:, :3], values[:, 3] if remission else None, path, settings, list(values[:, first:].T))
