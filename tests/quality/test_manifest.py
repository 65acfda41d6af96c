"""manifest.json: what it holds, what it refuses, what it sees."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from raw_tree import RawTree, write_raw_tree

from pointseg.core.errors import DataError, OutputError
from pointseg.quality.manifest import Entry, Manifest


@pytest.fixture
def raw(tmp_path: Path) -> RawTree:
    return write_raw_tree(tmp_path / "raw")


def test_every_raw_file_is_in_it(raw: RawTree) -> None:
    (raw.root / "notes.txt").write_text("not a raw file")
    files = Manifest.of(raw.root).files
    assert len(files) == 2 * (6 + 4) + 2 * 3
    content = raw.scan(3).read_bytes()
    entry = Entry(len(content), hashlib.sha256(content).hexdigest())
    assert files["sequences/00/velodyne/000003.bin"] == entry
    assert {"sequences/08/labels/000015.label", "sequences/08/calib.txt"} <= set(files)


def test_names_do_not_depend_on_the_folder_that_is_named(raw: RawTree, tmp_path: Path) -> None:
    whole = Manifest.of(raw.root)
    assert Manifest.of(raw.root / "sequences") == whole
    shutil.move(raw.root / "sequences", tmp_path / "moved")
    assert Manifest.of(tmp_path / "moved") == whole


def test_it_comes_back(raw: RawTree) -> None:
    manifest = Manifest.of(raw.root, threads=2)
    path = manifest.write(raw.root / "manifest.json")
    assert Manifest.read(path) == manifest
    content = json.loads(path.read_text())
    assert content["format"] == 1
    assert set(content["files"]["sequences/00/poses.txt"]) == {"bytes", "sha256"}


def test_one_without_files_comes_back(tmp_path: Path) -> None:
    assert Manifest.read(Manifest({}).write(tmp_path / "manifest.json")) == Manifest({})


def test_its_bytes_do_not_depend_on_threads(raw: RawTree, tmp_path: Path) -> None:
    one = Manifest.of(raw.root, threads=1).write(tmp_path / "one.json")
    other = Manifest.of(raw.root, threads=3).write(tmp_path / "other.json")
    assert one.read_bytes() == other.read_bytes()


def test_sequences_are_chosen(raw: RawTree) -> None:
    files = Manifest.of(raw.root, [8]).files
    assert files and all(name.startswith("sequences/08/") for name in files)


def test_progress_is_told(raw: RawTree) -> None:
    told: list[int] = []
    Manifest.of(raw.root, progress=lambda done, count: told.append(done))
    assert told == list(range(1, 27))


def test_names_that_are_no_utf8_are_escaped(raw: RawTree, tmp_path: Path) -> None:
    with open(bytes(raw.scan(3).parent) + b"/0000\xff.bin", "wb") as file:
        file.write(bytes(16))
    manifest = Manifest.of(raw.root)
    assert "sequences/00/velodyne/0000\\xff.bin" in manifest.files
    assert Manifest.read(manifest.write(tmp_path / "manifest.json")) == manifest
    assert manifest.compare(raw.root) == []


def test_equal_files_are_no_finding(raw: RawTree) -> None:
    assert Manifest.of(raw.root).compare(raw.root) == []


def test_missing_extra_and_changed_files_are_named(raw: RawTree) -> None:
    manifest = Manifest.of(raw.root)
    raw.labels(3).unlink()
    raw.scan(9).write_bytes(bytes(16))
    content = bytearray(raw.scan(4).read_bytes())
    content[77] ^= 1
    raw.scan(4).write_bytes(content)
    (raw.sequence("08") / "times.txt").write_text("0\n")
    found = {finding.file: finding.kind for finding in manifest.compare(raw.root)}
    assert found == {
        str(raw.labels(3)): "missing file",
        str(raw.scan(9)): "extra file",
        str(raw.scan(4)): "changed file",
        str(raw.sequence("08") / "times.txt"): "changed file",
    }


def test_sizes_are_named_where_they_differ(raw: RawTree) -> None:
    manifest = Manifest.of(raw.root)
    size = raw.scan(4).stat().st_size
    raw.scan(4).write_bytes(raw.scan(4).read_bytes()[:-16])
    (found,) = manifest.compare(raw.root)
    assert f"{size - 16:,} bytes instead of {size:,}" in found.what
    assert "equal size" not in found.what


def test_only_chosen_sequences_are_compared(raw: RawTree) -> None:
    manifest = Manifest.of(raw.root)
    shutil.rmtree(raw.sequence("08"))
    assert manifest.compare(raw.root, ["00"]) == []
    found = manifest.compare(raw.root)
    assert {finding.kind for finding in found} == {"missing file"} and len(found) == 11


GOOD = {"bytes": 16, "sha256": "0" * 64}
NAME = "sequences/00/velodyne/000000.bin"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "7",
        "null",
        "[" * 100_000,
        {"files": {}},
        {"format": 1},
        {"format": 2, "files": {}},
        {"format": [1], "files": {}},
        {"format": 1, "files": []},
        {"format": 1, "files": {NAME: 7}},
        {"format": 1, "files": {NAME: {}}},
        {"format": 1, "files": {NAME: {**GOOD, "bytes": -1}}},
        {"format": 1, "files": {NAME: {**GOOD, "bytes": "16"}}},
        {"format": 1, "files": {NAME: {**GOOD, "bytes": True}}},
        {"format": 1, "files": {NAME: {**GOOD, "sha256": "0" * 63}}},
        {"format": 1, "files": {NAME: {**GOOD, "sha256": "G" * 64}}},
        {"format": 1, "files": {NAME: {**GOOD, "sha256": None}}},
        {"format": 1, "files": {"/etc/passwd": GOOD}},
        {"format": 1, "files": {"sequences/../../etc/passwd": GOOD}},
        {"format": 1, "files": {"": GOOD}},
    ],
    ids=lambda content: str(content)[:60],
)
def test_damaged_ones_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=r"manifest.*manifest\.json"):
        Manifest.read(path)


def test_missing_and_unreadable_ones_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        Manifest.read(tmp_path / "absent.json")
    with pytest.raises(DataError, match="cannot be read"):
        Manifest.read(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(DataError, match="damaged"):
        Manifest.read(tmp_path / "bytes.json")


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(OutputError, match=r"cannot be written.*manifest\.json"):
        Manifest({}).write(tmp_path / "manifest.json")


def test_folder_without_sequences_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no sequences"):
        Manifest.of(tmp_path)
