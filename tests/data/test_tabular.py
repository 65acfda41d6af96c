"""Tables read back and compared with the scans they come from, point by point."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import FRAMES, KittiTree, write_tree
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError, LabelMapError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.data.scan import Scan
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.sources import ResidentScans
from pointseg.data.store import PackedScans, PackSettings, pack
from pointseg.data.tabular import export as tabular
from pointseg.data.tabular.export import export_csv, export_parquet

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pc = pytest.importorskip("pyarrow.csv")
pd = pytest.importorskip("pandas")

COLUMNS = ["x", "y", "z", "remission", "label", "class", "instance", "sequence", "frame"]
Export = Callable[..., Path]


@pytest.fixture(scope="module")
def source(shared_tree: KittiTree) -> SemanticKITTIScans:
    return SemanticKITTIScans(shared_tree.root, None)


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parquet(folder: Path) -> Any:
    """All parts as one table."""
    return pa.concat_tables([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]).unify_dictionaries()


def class_names(labels: NDArray[np.uint32], label_map: LabelMap) -> list[str]:
    names = {raw: name for name, group in zip(label_map.class_names, label_map.classes, strict=True) for raw in group}
    return [names.get(int(label) & 0xFFFF, "ignored") for label in labels]


class BrokenScans:
    """A source whose scans cannot be read from a number on."""

    def __init__(self, source: SemanticKITTIScans, good: int, error: BaseException) -> None:
        self.names, self.source, self.good, self.error = source.names, source, good, error

    @property
    def expected_points(self) -> int:
        return self.source.expected_points

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Scan:
        if index >= self.good:
            raise self.error
        return self.source[index]


# ---- what the tables hold --------------------------------------------------------------------------------------------


def test_parquet_holds_every_point(
    source: SemanticKITTIScans, shared_tree: KittiTree, kitti_map: LabelMap, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    folder = export_parquet(source, tmp_path / "t", kitti_map, progress=lambda done, of: steps.append((done, of)))
    assert folder == tmp_path / "t"
    assert names_of(folder) == ["MLTable", "part-00000.parquet"]
    assert steps == [(i, 6) for i in range(1, 7)]
    table = parquet(folder)
    assert table.column_names == COLUMNS
    strings = pa.dictionary(pa.int32(), pa.string())
    types = [pa.float32()] * 4 + [pa.uint16(), strings, pa.uint16(), strings, strings]
    assert [field.type for field in table.schema] == types

    frame = table.to_pandas()
    points = np.concatenate([shared_tree.points[name] for name in source.names])
    labels = np.concatenate([shared_tree.labels[name] for name in source.names])
    assert np.array_equal(frame[["x", "y", "z", "remission"]].to_numpy(), points)
    assert np.array_equal(frame["label"].to_numpy(), labels & 0xFFFF)
    assert np.array_equal(frame["instance"].to_numpy(), labels >> 16)
    assert frame["class"].tolist() == class_names(labels, kitti_map)
    scans = [name for name in source.names for _ in range(len(shared_tree.points[name]))]
    assert (frame["sequence"].astype(str) + "/" + frame["frame"].astype(str)).tolist() == scans


def test_parquet_is_compressed_and_has_a_row_group_for_each_scan(
    source: SemanticKITTIScans, shared_tree: KittiTree, kitti_map: LabelMap, tmp_path: Path
) -> None:
    path = export_parquet(source, tmp_path, kitti_map) / "part-00000.parquet"
    metadata = pq.ParquetFile(path).metadata
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [len(shared_tree.points[name]) for name in source.names]
    assert {group.column(i).compression for group in groups for i in range(len(COLUMNS))} == {"ZSTD"}
    frames = [group.column(COLUMNS.index("frame")).statistics for group in groups]
    assert [(frame.min, frame.max) for frame in frames] == [(name[3:], name[3:]) for name in source.names]
    one = pq.read_table(path, filters=[("sequence", "=", "08"), ("frame", "=", "000003")])
    assert np.array_equal(one["x"].to_numpy(), shared_tree.points["08/000003"][:, 0])


def test_a_scan_of_more_points_than_a_row_group_holds(
    source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, "ROWS_PER_GROUP", 900)
    metadata = pq.ParquetFile(export_parquet(source, tmp_path / "t", kitti_map) / "part-00000.parquet").metadata
    assert metadata.num_row_groups == 18 and metadata.num_rows == source.expected_points
    assert max(metadata.row_group(i).num_rows for i in range(18)) == 900


@pytest.mark.parametrize(("rows_per_file", "files"), [(1, 6), (4100, 3), (6100, 2), (10**9, 1)])
def test_files_hold_whole_scans(
    rows_per_file: int, files: int, source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path
) -> None:
    folder = export_parquet(source, tmp_path / "t", kitti_map, rows_per_file=rows_per_file)
    assert names_of(folder) == ["MLTable", *(f"part-{i:05d}.parquet" for i in range(files))]
    assert parquet(folder).num_rows == source.expected_points
    scans = [scan for path in sorted(folder.glob("*.parquet")) for scan in scans_in(path)]
    assert scans == source.names


def scans_in(path: Path) -> list[str]:
    """Names of the scans of a file, each once."""
    frame = pq.read_table(path, columns=["sequence", "frame"]).to_pandas().astype(str).drop_duplicates()
    return [f"{sequence}/{number}" for sequence, number in frame.to_numpy().tolist()]


def test_csv_equals_parquet(source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path) -> None:
    folder = export_csv(source, tmp_path / "csv", kitti_map, rows_per_file=8000)
    assert names_of(folder) == ["MLTable", "part-00000.csv", "part-00001.csv"]
    expected = parquet(export_parquet(source, tmp_path / "parquet", kitti_map))
    plain = pa.schema(
        [field.with_type(pa.string()) if pa.types.is_dictionary(field.type) else field for field in expected.schema]
    )
    options = pc.ConvertOptions(column_types=plain, strings_can_be_null=False)
    parts = [pc.read_csv(path, convert_options=options) for path in sorted(folder.glob("*.csv"))]
    assert pa.concat_tables(parts).combine_chunks().equals(expected.cast(plain).combine_chunks())
    with open(folder / "part-00001.csv", encoding="utf-8", newline="") as file:
        header, first, *_ = csv.reader(file)
    assert header == COLUMNS
    assert first[-2:] == ["08", "000000"] and len(first) == len(COLUMNS)


def test_pandas_reads_both(source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path) -> None:
    one = pd.read_parquet(export_parquet(source, tmp_path / "p", kitti_map) / "part-00000.parquet")
    as_text = {"sequence": str, "frame": str, **dict.fromkeys(("x", "y", "z", "remission"), np.float32)}
    other = pd.read_csv(export_csv(source, tmp_path / "c", kitti_map) / "part-00000.csv", dtype=as_text)
    for name in COLUMNS:
        assert one[name].tolist() == other[name].tolist()


# ---- what a source may lack or add -----------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [export_parquet, export_csv])
def test_scans_without_labels_have_nulls(export: Export, kitti_map: LabelMap, tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "kitti", ("00", "11"))
    for frame in FRAMES:
        tree.label(f"11/{frame:06d}").unlink()
    tree.label("11/000000").parent.rmdir()
    source = SemanticKITTIScans(tree.root, None, labelled=None)
    folder = export(source, tmp_path / "t", kitti_map)
    frame = parquet(folder).to_pandas() if export is export_parquet else pd.read_csv(folder / "part-00000.csv")
    none = frame["sequence"].astype(int) == 11
    assert none.sum() == sum(len(points) for name, points in tree.points.items() if name.startswith("11"))
    for column in ("label", "class", "instance"):
        assert frame[column][none].isna().all() and not frame[column][~none].isna().any()
    assert not frame[["x", "y", "z", "remission", "sequence", "frame"]].isna().any().any()


def six_columns(root: Path, tree: KittiTree) -> Path:
    """The tree's scans with a ring and a time."""
    for name, points in tree.points.items():
        more = np.stack([np.arange(len(points)) % 64, np.linspace(0, 0.1, len(points))], axis=1)
        np.concatenate([points, more.astype(np.float32)], axis=1).tofile(tree.bin(name))
    return root


@pytest.mark.parametrize("export", [export_parquet, export_csv])
def test_further_columns_keep_their_names(export: Export, tree: KittiTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    root = six_columns(tree.root, tree)
    source = SemanticKITTIScans(root, ["08"], columns=("x", "y", "z", "remission", "ring", "time"))
    folder = export(source, tmp_path / "t", kitti_map)
    read = parquet(folder).to_pandas() if export is export_parquet else pd.read_csv(folder / "part-00000.csv")
    assert read.columns.tolist() == [*COLUMNS, "ring", "time"]
    expected = np.concatenate([scan.extra for scan in map(source.__getitem__, range(3)) if scan.extra is not None])
    assert np.array_equal(read[["ring", "time"]].to_numpy(np.float32), expected)
    if export is export_csv:
        floats = yaml.safe_load((folder / "MLTable").read_text())["transformations"][1]["convert_column_types"][0]
        assert floats["columns"][-2:] == ["ring", "time"]


def test_a_further_column_may_not_take_a_name(tree: KittiTree, kitti_map: LabelMap, tmp_path: Path) -> None:
    source = SemanticKITTIScans(
        six_columns(tree.root, tree), ["08"], columns=("x", "y", "z", "remission", "ring", "frame")
    )
    with pytest.raises(ConfigError, match="'frame'"):
        export_parquet(source, tmp_path / "t", kitti_map)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize("keep_raw", [True, False])
def test_a_packed_store(
    keep_raw: bool, source: SemanticKITTIScans, shared_tree: KittiTree, kitti_map: LabelMap, tmp_path: Path
) -> None:
    settings = PackSettings(record="wide", features=None, keep_raw=keep_raw, keep_order=True)
    store = pack(source, tmp_path / "store", kitti_map, settings, processes=1).store
    assert store is not None
    table = parquet(export_parquet(PackedScans(store), tmp_path / "t", kitti_map))
    labels = np.concatenate([shared_tree.labels[name] for name in source.names])
    assert table["class"].to_pylist() == class_names(labels, kitti_map)
    points = np.concatenate([shared_tree.points[name] for name in source.names])
    assert np.abs(table["x"].to_numpy() - points[:, 0]).max() < 6e-4  # whole millimetres
    if keep_raw:
        assert np.array_equal(table["instance"].to_numpy(), labels >> 16)
        assert np.array_equal(table["label"].to_numpy(), labels & 0xFFFF)
    else:
        assert "instance" not in table.column_names
        assert np.array_equal(table["label"].to_numpy(), kitti_map.to_raw(kitti_map.to_train(labels)))


# ---- MLTable ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [export_parquet, export_csv])
def test_mltable_points_at_the_parts(
    export: Export, source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path
) -> None:
    folder = export(source, tmp_path / "t", kitti_map, rows_per_file=5000)
    content = yaml.safe_load((folder / "MLTable").read_text(encoding="utf-8"))
    assert content["type"] == "mltable" and content["$schema"].endswith("/MLTable.schema.json")
    (path,) = content["paths"]
    assert sorted(folder.glob(path["pattern"])) == sorted(folder.glob("part-*"))
    assert len(list(folder.glob(path["pattern"]))) == 3
    if export is export_parquet:
        assert content["transformations"] == [{"read_parquet": {"include_path_column": False}}]
    else:
        read, convert = content["transformations"]
        assert read["read_delimited"]["delimiter"] == "," and read["read_delimited"]["encoding"] == "utf8"
        assert read["read_delimited"]["header"] == "all_files_same_headers"
        types = {name: entry["column_type"] for entry in convert["convert_column_types"] for name in entry["columns"]}
        assert types == {**dict.fromkeys(COLUMNS[:4], "float"), "label": "int", "instance": "int"}
        assert read["read_delimited"]["infer_column_types"] is False  # sequence "08" stays a string


# ---- whole or not at all ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [export_parquet, export_csv])
@pytest.mark.parametrize("error", [DataError("the scan is bad"), KeyboardInterrupt(), MemoryError()])
def test_an_error_leaves_nothing(
    error: BaseException, export: Export, source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(type(error)):
        export(BrokenScans(source, 4, error), tmp_path, kitti_map, rows_per_file=4100, threads=1)
    assert names_of(tmp_path) == ["notes.txt"]
    assert export(source, tmp_path, kitti_map) == tmp_path  # the folder can be used


@pytest.mark.parametrize("export", [export_parquet, export_csv])
def test_an_error_while_writing_leaves_nothing(
    export: Export, source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    form = tabular._Parquet if export is export_parquet else tabular._Csv
    write, seen = form.write, []

    def full(self: Any, writer: Any, table: Any) -> None:
        seen.append(names_of(tmp_path))
        if len(seen) == 4:
            raise OSError(28, "No space left on device")
        write(self, writer, table)

    monkeypatch.setattr(form, "write", full)
    with pytest.raises(OutputError, match=r"part-00001\.\w+.*disk|No space left"):
        export(source, tmp_path, kitti_map, rows_per_file=6100)
    assert names_of(tmp_path) == []
    assert not any(name.startswith("part-00001") or name == "MLTable" for names in seen for name in names)
    assert any(name.startswith(".part-00001") for name in seen[-1])  # written beside, until it is whole


def test_a_scan_that_a_network_does_not_give_is_no_error_of_the_output(
    source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"the scan cannot be read \(reset\): 08/000003"):
        export_parquet(BrokenScans(source, 4, ConnectionResetError("reset")), tmp_path, kitti_map)


def test_a_label_that_the_map_does_not_know(source: SemanticKITTIScans, small_map: LabelMap, tmp_path: Path) -> None:
    with pytest.raises(LabelMapError, match=r"000000\.label"):
        export_parquet(source, tmp_path, small_map)
    assert names_of(tmp_path) == []


def test_memory_is_bounded(
    source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scans are written as they come: at most a few windows of threads are read before the first is written."""

    class Long:
        names: Sequence[str] = [f"{i:03d}/000000" for i in range(60)]
        expected_points = 0
        read = 0

        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> Scan:
            self.read += 1
            return source[index % 6]

    long = Long()
    ahead: list[int] = []
    write = tabular._Parquet.write

    def watched(self: Any, writer: Any, table: Any) -> None:
        ahead.append(long.read - len(ahead))
        write(self, writer, table)

    monkeypatch.setattr(tabular._Parquet, "write", watched)
    export_parquet(long, tmp_path, kitti_map, threads=1)
    assert len(ahead) == 60 and max(ahead) <= 9


# ---- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [export_parquet, export_csv])
@pytest.mark.parametrize("found", ["part-00007.parquet", "part-00000.csv", "MLTable"])
def test_a_folder_with_tables_is_refused(
    found: str, export: Export, source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path
) -> None:
    (tmp_path / found).write_text("kept")
    with pytest.raises(OutputError, match=found):
        export(source, tmp_path, kitti_map)
    assert names_of(tmp_path) == [found] and (tmp_path / found).read_text() == "kept"


@pytest.mark.parametrize("export", [export_parquet, export_csv])
def test_without_pyarrow_the_remedy_is_named(
    export: Export, source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install .* -e '\.\[formats\]'"):
        export(source, tmp_path / "t", kitti_map)
    assert not (tmp_path / "t").exists()


def test_other_refusals(source: SemanticKITTIScans, kitti_map: LabelMap, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rows_per_file"):
        export_parquet(source, tmp_path, kitti_map, rows_per_file=0)
    with pytest.raises(ConfigError, match="threads"):
        export_csv(source, tmp_path, kitti_map, threads=0)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        export_parquet(source, tmp_path / "file" / "folder", kitti_map)
    nothing = ResidentScans(source)
    nothing._scans.clear()
    with pytest.raises(DataError, match="no scan to write"):
        export_parquet(nothing, tmp_path, kitti_map)
