"""Folders of tables are known by their heads; the MLTable that is written is the one that `prepare` writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from conftest import KittiTree

from pointseg.core.errors import DataError
from pointseg.core.labels import LabelMap
from pointseg.data.folders import describe_folder
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.store import PackSettings, pack
from pointseg.data.tabular import check_mltable, export_csv, export_parquet, find_tables

pytest.importorskip("pyarrow")

KITTI = LabelMap.load("semantickitti")


@pytest.fixture(params=["parquet", "csv"])
def folder(request: pytest.FixtureRequest, shared_tree: KittiTree, tmp_path: Path) -> Path:
    export = export_parquet if request.param == "parquet" else export_csv
    source = SemanticKITTIScans(shared_tree.root, None)
    return export(source, tmp_path / "tables", KITTI, rows_per_file=max(map(len, shared_tree.points.values())))


def test_tables_are_counted(folder: Path, shared_tree: KittiTree) -> None:
    tables = find_tables(folder)
    assert len(tables.parts) > 1
    assert tables.columns[:4] == ("x", "y", "z", "remission")
    assert tables.points == sum(map(len, shared_tree.points.values()))
    of_parquet = tables.parts[0].suffix == ".parquet"
    assert tables.scans == (len(shared_tree.points) if of_parquet else None)
    assert tables.tags["points"] == str(tables.points)


def test_the_mltable_is_the_one_that_prepare_writes(folder: Path) -> None:
    check_mltable(folder)
    assert find_tables(folder).mltable == (folder / "MLTable").read_text()


def cut(folder: Path) -> None:
    last = find_tables(folder).parts[-1]
    last.write_bytes(last.read_bytes()[:-5])


def emptied(folder: Path) -> None:
    find_tables(folder).parts[-1].write_bytes(b"")


def both(folder: Path) -> None:
    (folder / "other.csv").write_text("x,y,z\n")
    (folder / "other.parquet").write_bytes(b"")


def gone(folder: Path) -> None:
    for part in folder.glob("part-*"):
        part.unlink()


@pytest.mark.parametrize("damage", [cut, emptied, both, gone])
def test_tables_that_cannot_be_used(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    with pytest.raises(DataError):
        find_tables(folder)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (("x,y,z\n1,2,3\n", "x,y\n1,2\n"), "other columns"),
        (("x,y,a\n1,2,3\n",), "no column z"),
        (("x,y,z",), "cut off"),
    ],
)
def test_csv_of_others(tmp_path: Path, texts: tuple[str, ...], says: str) -> None:
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.csv").write_text(text)
    with pytest.raises(DataError, match=says):
        find_tables(tmp_path)


def test_csv_without_labels_gets_no_whole_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x,y,z\n1,2,3\n4,5,6\n")
    tables = find_tables(tmp_path)
    assert (tables.points, tables.columns) == (2, ("x", "y", "z"))
    types = yaml.safe_load(tables.mltable)["transformations"][1]["convert_column_types"]
    assert types == [{"columns": ["x", "y", "z"], "column_type": "float"}]


READ = "transformations: [{read_parquet: {}}]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- 1\n", "has no paths"),
        ("paths: []\n" + READ, "has no paths"),
        ("paths: [{pattern: '*.parquet'}]\n", "does not say how"),
        ("paths: [{pattern: '*.none'}]\n" + READ, "there is no such file"),
        ("paths: [{file: ../a.parquet}]\n" + READ, "leads out of the folder"),
        ("paths: [{file: /etc/hostname}]\n" + READ, "leads out of the folder"),
        ("paths: [{files: a.parquet}]\n" + READ, "is not a path"),
        ("{", "cannot be read"),
    ],
)
def test_files_that_are_no_mltable(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "MLTable").write_text(text)
    with pytest.raises(DataError, match=says):
        check_mltable(tmp_path)


# ---- folders of scans --------------------------------------------------------------------------------------------


def test_a_raw_folder_and_its_store_hold_the_same(shared_tree: KittiTree, tmp_path: Path) -> None:
    raw = describe_folder(shared_tree.root, KITTI)
    assert raw["layout"] == "semantickitti"
    assert (raw["scans"], raw["points"]) == (
        str(len(shared_tree.points)),
        str(sum(map(len, shared_tree.points.values()))),
    )
    pack(SemanticKITTIScans(shared_tree.root, None), tmp_path / "store", KITTI, PackSettings())
    packed = describe_folder(tmp_path / "store", KITTI)
    assert packed["layout"] == "packed store"
    for key in ("scans", "points", "label_map", "label_map_hash"):
        assert packed[key] == raw[key]


def test_a_folder_of_neither_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither SemanticKITTI's layout nor a packed store"):
        describe_folder(tmp_path, KITTI)


def test_a_scan_that_is_cut_off_is_no_part_of_an_asset(tree: KittiTree) -> None:
    name = next(iter(tree.points))
    tree.bin(name).write_bytes(tree.bin(name).read_bytes()[:-3])
    with pytest.raises(DataError, match=r"\.bin"):
        describe_folder(tree.root, KITTI)
