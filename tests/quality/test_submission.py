"""Submissions: what is written passes, and each way of being wrong is found."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pointseg.core.errors import DataError, OutputError
from pointseg.core.labels import LabelMap
from pointseg.quality.submission import TEST_SCANS, check_submission, write_submission

SEQUENCES = ("31", "32")  # without a published number of scans
RAW_IDS = np.array(
    [10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81], np.uint32
)  # the rule's


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A data set of five scans in ROOT, and their predictions in PREDICTED."""
    draw = np.random.default_rng(0)
    for sequence, scans in zip(SEQUENCES, (3, 2), strict=True):
        bins = tmp_path / "root" / "sequences" / sequence / "velodyne"
        labels = tmp_path / "predicted" / "sequences" / sequence / "predictions"
        bins.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(scans):
            points = 50 + number
            draw.normal(size=(points, 4)).astype(np.float32).tofile(bins / f"{number:06d}.bin")
            draw.choice(RAW_IDS, points).astype(np.uint32).tofile(labels / f"{number:06d}.label")
    return tmp_path


def write(world: Path) -> Path:
    return write_submission(
        world / "predicted", world / "s.zip", world / "root", LabelMap.load("semantickitti"), sequences=SEQUENCES
    )


def problems(world: Path, archive: Path) -> str:
    found = check_submission(archive, world / "root", LabelMap.load("semantickitti"), sequences=SEQUENCES)
    return "\n".join(found.problems)


def test_archive_holds_what_the_rule_wants(world: Path) -> None:
    with zipfile.ZipFile(write(world)) as packed:
        names = packed.namelist()
        folders = {"sequences/"} | {f"sequences/{s}/{p}" for s in SEQUENCES for p in ("", "predictions/")}
        assert {name for name in names if name.endswith("/")} == folders
        files = [name for name in names if not name.endswith("/")]
        assert len(files) == 5
        for name in files:
            assert packed.read(name) == (world / "predicted" / name).read_bytes()
    found = check_submission(world / "s.zip", world / "root", LabelMap.load("semantickitti"), sequences=SEQUENCES)
    assert (found.scans, found.points, found.problems) == (5, 50 + 51 + 52 + 50 + 51, [])


def rewritten(world: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The good archive with a change to its entries."""
    with zipfile.ZipFile(write(world)) as packed:
        entries = {name: packed.read(name) for name in packed.namelist()}
    change(entries)
    with zipfile.ZipFile(world / "changed.zip", "w") as packed:
        for name, content in entries.items():
            packed.writestr(name, content)
    return world / "changed.zip"


FILE = "sequences/31/predictions/000001.label"


def _no_folder(entries: dict[str, bytes]) -> None:
    del entries["sequences/32/predictions/"]


def _missing(entries: dict[str, bytes]) -> None:
    del entries[FILE]


def _short(entries: dict[str, bytes]) -> None:
    entries[FILE] = entries[FILE][:-4]


def _dtype(entries: dict[str, bytes]) -> None:
    entries[FILE] = np.frombuffer(entries[FILE], np.uint32).astype(np.uint16).tobytes()


def _training_ids(entries: dict[str, bytes]) -> None:
    entries[FILE] = np.full(51, 3, np.uint32).tobytes()


def _zero(entries: dict[str, bytes]) -> None:
    ids = np.frombuffer(entries[FILE], np.uint32).copy()
    ids[7] = 0
    entries[FILE] = ids.tobytes()


def _extra(entries: dict[str, bytes]) -> None:
    entries["sequences/31/predictions/000009.label"] = b""


def _notes(entries: dict[str, bytes]) -> None:
    entries["README.txt"] = b"hello"


def _wrapped(entries: dict[str, bytes]) -> None:
    moved = {f"mine/{name}": content for name, content in entries.items()}
    entries.clear()
    entries.update(moved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_no_folder, "no entry for 1 folder: sequences/32/predictions/"),
        (_missing, "1 scan without labels, the first sequences/31/predictions/000001.label"),
        (_short, "200 bytes for 51 points"),
        (_dtype, "102 bytes for 51 points"),
        (_training_ids, "51 points with an id that is not a scored class, the first 3 at point 0"),
        (_zero, "1 point with an id that is not a scored class, the first 0 at point 7"),
        (_extra, "without a scan: sequences/31/predictions/000009.label"),
        (_notes, "without a scan: README.txt"),
        (_wrapped, "no entry for 5 folders"),
    ],
)
def test_each_fault_is_named(world: Path, change: Callable[[dict[str, bytes]], None], said: str) -> None:
    assert said in problems(world, rewritten(world, change))


def test_instance_ids_are_no_fault(world: Path) -> None:
    def with_instances(entries: dict[str, bytes]) -> None:
        entries[FILE] = (np.frombuffer(entries[FILE], np.uint32) | np.uint32(7 << 16)).tobytes()

    assert problems(world, rewritten(world, with_instances)) == ""


def test_incomplete_predictions_leave_no_archive(world: Path) -> None:
    (world / "predicted" / FILE).unlink()
    with pytest.raises(DataError, match="sequence 31: 1 scan without labels"):
        write(world)
    assert sorted(p.name for p in world.iterdir()) == ["predicted", "root"]


def test_data_set_without_all_test_scans_is_said(world: Path) -> None:
    shutil.move(world / "root" / "sequences" / "31", world / "root" / "sequences" / "11")
    shutil.move(world / "predicted" / "sequences" / "31", world / "predicted" / "sequences" / "11")
    with pytest.raises(DataError, match="sequence 11: the data set has 3 of 921 scans") as error:
        write_submission(world / "predicted", world / "s.zip", world / "root", LabelMap.load("semantickitti"))
    assert "sequence 12: the data set has 0 of 1,061 scans" in str(error.value)
    assert sum(TEST_SCANS.values()) == 20351


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04broken"])
def test_what_is_no_archive_is_refused(world: Path, content: bytes) -> None:
    (world / "bad.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"not a readable \.zip"):
        problems(world, world / "bad.zip")


def test_damaged_content_is_refused(world: Path) -> None:
    archive = write(world)
    with zipfile.ZipFile(archive) as packed:
        entry = packed.getinfo(FILE)
    content = bytearray(archive.read_bytes())
    content[entry.header_offset + 30 + len(FILE) + entry.compress_size // 2] ^= 0xFF  # within the compressed labels
    archive.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"not a readable \.zip"):
        problems(world, archive)


def test_other_endings_are_refused(world: Path) -> None:
    with pytest.raises(OutputError, match=r"submission=FILE\.zip"):
        write_submission(world / "predicted", world / "s.tar", world / "root", LabelMap.load("semantickitti"))
