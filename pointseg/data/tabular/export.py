"""Writes scans as tables, one row a point: Parquet or CSV, with an MLTable file for Azure Machine Learning.

OUTPUT/
  part-00000.parquet   whole scans, in the order of the source; one row group a scan
  part-00001.parquet   ...
  MLTable              how to read the parts; written last, so a folder without it is unfinished

The folder can be registered as it is: az ml data create --name semantic-kitti-tabular --type mltable --path OUTPUT

| column | type | what |
| --- | --- | --- |
| x, y, z | float32 | metres, in the sensor's frame |
| remission | float32 | 0 to 1 |
| label | uint16 | raw semantic id; null in scans without labels |
| class | string | name of the class the id counts as, or "ignored"; null in scans without labels |
| instance | uint16 | instance id, 0 for none; null in scans without labels; absent if the source keeps none |
| sequence, frame | string | the scan: "08", "000123" |
| others | float32 | further columns of the source, by their names |

Strings are dictionary-encoded in Parquet. A packed store without raw labels gives the canonical id of each point's class,
and one without the original order gives each scan's points shuffled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError, OutputError
from pointseg.core.files import check_writable, whole_file, write_text
from pointseg.core.labels import SEMANTIC_BITS, LabelMap
from pointseg.core.limits import require_at_least
from pointseg.core.optional_packages import needed
from pointseg.core.progress import Update
from pointseg.data.scan import COLUMNS, Scan
from pointseg.data.sources import ScanSource, in_order
from pointseg.data.store.reader import PackedScans
from pointseg.data.tabular.mltable import MLTABLE, TEXT_COLUMNS, mltable_text

__all__ = ["export_csv", "export_parquet"]

ROWS_PER_FILE = 20_000_000  # about 250 MB of Parquet
ROWS_PER_GROUP = 1 << 20
OWN_COLUMNS = (*COLUMNS, "label", "class", "instance", "sequence", "frame")


def export_parquet(
    source: ScanSource,
    output: str | Path,
    label_map: LabelMap,
    *,
    rows_per_file: int = ROWS_PER_FILE,
    progress: Update | None = None,
    threads: int = 2,
) -> Path:
    """Write scans as Parquet files compressed with zstd, and the MLTable file; returns the folder.

    A few scans are in memory at a time. If writing fails, nothing is left in the folder.

    Args:
        source: the scans, labelled or not.
        output: a folder without files of this kind; it is made if missing.
        label_map: gives the raw ids their classes.
        rows_per_file: points of a file at most, but at least one scan.
        progress: called with (scans written, scans in all).
        threads: that read scans.

    Raises:
        OutputError: if the folder holds such files, or cannot be written.
        ConfigError: if pyarrow is missing, a number is too small, or a further column has the name of a column of the table.
        DataError, LabelMapError: if a scan cannot be read, or its labels are not in the map.

    Example:
        >>> folder = export_parquet(SemanticKITTIScans("kitti", ["08"]), "tables", LabelMap.load("semantickitti"))
        >>> points = pyarrow.dataset.dataset(sorted(map(str, folder.glob("*.parquet"))))
        >>> points.to_table(columns=["x", "y", "z", "class"], filter=pyarrow.dataset.field("frame") == "000000")
    """
    return _export(_Parquet(), source, Path(output).expanduser(), label_map, rows_per_file, progress, threads)


def export_csv(
    source: ScanSource,
    output: str | Path,
    label_map: LabelMap,
    *,
    rows_per_file: int = ROWS_PER_FILE,
    progress: Update | None = None,
    threads: int = 2,
) -> Path:
    """Write scans as CSV files (UTF-8, one line of names) and the MLTable file: see `export_parquet`.

    Numbers are written with enough digits to give the same float32 again; null is an empty field.

    Example:
        >>> export_csv(SemanticKITTIScans("semantickitti", ["08"]), "tables", LabelMap.load("semantickitti"))
    """
    return _export(_Csv(), source, Path(output).expanduser(), label_map, rows_per_file, progress, threads)


# ---- the two formats -------------------------------------------------------------------------------------------------


class _Parquet:
    suffix = ".parquet"

    def schema(self, schema: Any) -> Any:
        return schema

    def writer(self, path: Path, schema: Any) -> AbstractContextManager[Any]:
        # a dictionary of coordinates, which hardly repeat, would double the time and make larger files
        repeated = [name for name in ("remission", *OWN_COLUMNS[4:]) if name in schema.names]
        writer = _arrow("parquet").ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated)
        return writer  # type: ignore[no-any-return]

    def write(self, writer: Any, table: Any) -> None:
        writer.write_table(table, row_group_size=ROWS_PER_GROUP)


class _Csv:
    suffix = ".csv"

    def schema(self, schema: Any) -> Any:
        text = _arrow().string()
        return _arrow().schema([field.with_type(text) if field.name in TEXT_COLUMNS else field for field in schema])

    def writer(self, path: Path, schema: Any) -> AbstractContextManager[Any]:
        csv = _arrow("csv")  # larger batches than its default are half as fast again
        return csv.CSVWriter(path, schema, write_options=csv.WriteOptions(batch_size=1 << 16))  # type: ignore[no-any-return]

    def write(self, writer: Any, table: Any) -> None:
        writer.write_table(table.cast(self.schema(table.schema)))


def _arrow(module: str = "") -> Any:
    """pyarrow, or a module of it."""
    return needed(f"pyarrow.{module}" if module else "pyarrow", "formats", "tables")


# ---- writing ---------------------------------------------------------------------------------------------------------


def _export(
    form: _Parquet | _Csv,
    source: ScanSource,
    output: Path,
    label_map: LabelMap,
    rows_per_file: int,
    progress: Update | None,
    threads: int,
) -> Path:
    require_at_least(rows_per_file, 1, "rows_per_file")
    require_at_least(threads, 1, "threads")
    if len(source) == 0:
        raise DataError("there is no scan to write", where="source", remedy="Name sequences that have scans.")
    _arrow()  # refuses a missing package before there is a folder
    instances = source.store.keeps("raw") if isinstance(source, PackedScans) else True
    scans = _ScanTables(source, label_map, _extra_names(source), instances)
    _refuse_tables(output)
    check_writable(output, "output")
    coming = in_order(scans.table, len(source), threads)
    written: list[Path] = []
    try:
        table: Any = next(coming)
        schema, done = form.schema(table.schema), 0
        while table is not None:
            written.append(output / f"part-{len(written):05d}{form.suffix}")
            rows = 0
            with whole_file(written[-1]) as temporary, form.writer(temporary, schema) as writer:
                while table is not None and (rows == 0 or rows + table.num_rows <= rows_per_file):
                    form.write(writer, table)
                    rows, done = rows + table.num_rows, done + 1
                    if progress:
                        progress(done, len(source))
                    table = next(coming, None)
        write_text(output / MLTABLE, mltable_text(form.suffix, schema.names))
    except BaseException:
        for part in written:
            part.unlink(missing_ok=True)
        raise
    return output


def _refuse_tables(output: Path) -> None:
    present = sorted([*output.glob("part-*.parquet"), *output.glob("part-*.csv"), *output.glob(MLTABLE)])
    if present:
        raise OutputError(
            f"the folder holds tables already ({present[0].name})",
            where=output,
            remedy="Name another folder, or remove its part-* and MLTable files.",
        )


# ---- scans as tables -------------------------------------------------------------------------------------------------


def _extra_names(source: ScanSource) -> tuple[str, ...] | None:
    """Names of the columns beyond x, y, z and remission; None if the source does not name them."""
    names = getattr(source, "extra", None)
    if taken := [name for name in names or () if name in OWN_COLUMNS]:
        what = f"a further column is called {taken[0]!r}, like a column of the table"
        raise ConfigError(what, where="columns", remedy="Rename it.")
    return None if names is None else tuple(names)


@dataclass(frozen=True)
class _ScanTables:
    """Scans as Arrow tables."""

    source: ScanSource
    label_map: LabelMap
    extra: tuple[str, ...] | None
    instances: bool

    def table(self, number: int) -> Any:
        name = self.source.names[number]
        try:
            scan = self.source[number]
        except OSError as error:  # a store on a network; it must not look like an error of the output
            raise DataError(f"the scan cannot be read ({error})", where=name) from error
        return _arrow().table(dict(self._columns(name, scan)))

    def _columns(self, name: str, scan: Scan) -> Iterator[tuple[str, Any]]:
        arrow, unlabelled = _arrow(), scan.labels is None
        raw = np.zeros(len(scan.points), np.uint32) if scan.labels is None else scan.labels
        train_ids = raw if unlabelled else scan.train_ids(self.label_map)
        sequence, _, frame = name.rpartition("/")

        def nullable(values: NDArray[Any], dtype: type) -> Any:
            return arrow.array(values.astype(dtype), mask=np.full(len(values), True) if unlabelled else None)

        def strings(indices: Any, names: list[str]) -> Any:
            return arrow.DictionaryArray.from_arrays(indices, names)

        yield from zip(COLUMNS, map(arrow.array, np.ascontiguousarray(scan.points.T)), strict=True)
        yield "label", nullable(raw & SEMANTIC_BITS, np.uint16)
        yield "class", strings(nullable(train_ids, np.int32), ["ignored", *self.label_map.class_names])
        if self.instances:
            yield "instance", nullable(raw >> np.uint32(16), np.uint16)
        first = arrow.array(np.zeros(len(raw), np.int32))
        yield "sequence", strings(first, [sequence])
        yield "frame", strings(first, [frame])
        names, values = self._extra_of(name, scan)
        yield from zip(names, map(arrow.array, np.ascontiguousarray(values)), strict=True)

    def _extra_of(self, name: str, scan: Scan) -> tuple[tuple[str, ...], NDArray[np.float32]]:
        values = np.empty((0, len(scan.points)), np.float32) if scan.extra is None else scan.extra.T
        names = tuple(f"extra_{i}" for i in range(len(values))) if self.extra is None else self.extra
        if len(names) != len(values):
            what = f"the scan has {len(values)} further columns, the source names {len(names)}"
            raise DataError(what, where=name, remedy="Name the columns of its files with columns=.")
        return names, values
