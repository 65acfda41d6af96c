"""`predict submission=` and `evaluate submission=`: an archive that the server takes, or words that say why not."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points
from verbs import kitti_folder, run, succeed, trained_run

from pointseg.quality import submission


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory)


@pytest.fixture
def test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All test sequences, of two scans each, which is made out to be their published number."""
    for sequence in submission.TEST_SCANS:
        folder = tmp_path / "kitti" / "sequences" / sequence / "velodyne"
        folder.mkdir(parents=True)
        for number in range(2):
            scan_points(200 + number, seed=int(sequence) + number).tofile(folder / f"{number:06d}.bin")
    for sequence in submission.TEST_SCANS:
        monkeypatch.setitem(submission.TEST_SCANS, sequence, 2)
    return tmp_path / "kitti"


def test_the_test_set_is_packed_and_passes(run_folder: Path, test_set: Path, tmp_path: Path) -> None:
    shutil.copytree(test_set / "sequences/11", test_set / "sequences/08")  # not of the test set: left out
    words = [f"checkpoint={run_folder}", f"input={test_set}", "submission=mine.zip"]
    done = succeed(run("predict", *words, cwd=tmp_path))
    assert "Labelled 22 files" in done.out
    with zipfile.ZipFile(tmp_path / "mine.zip") as packed:
        files = [name for name in packed.namelist() if not name.endswith("/")]
        assert len(files) == 22
        for name in files:
            written = tmp_path / "mine_labels" / name
            assert packed.read(name) == written.read_bytes()
            assert not set(np.fromfile(written, "<u4").tolist()) & set(range(10))  # raw ids, never training ids or 0
    checked = succeed(
        run("evaluate", "submission=mine.zip", "data=semantickitti", f"data.root={test_set}", cwd=tmp_path)
    )
    assert "22 scans" in checked.out
    again = succeed(run("predict", *words, cwd=tmp_path))
    assert "22 files finished before" in again.out


def test_a_bad_archive_ends_with_code_2_and_every_problem(test_set: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as packed:
        packed.writestr("sequences/11/predictions/000000.label", b"1234")
    done = run("evaluate", "submission=bad.zip", "data=semantickitti", f"data.root={test_set}", cwd=tmp_path)
    assert done.code == 2
    assert "no entry for 23 folders" in done.out + done.err
    assert "sequence 21: 2 scans without labels" in done.out + done.err


def test_a_test_set_with_gaps_is_refused_before_work(
    run_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kitti = kitti_folder(tmp_path_factory)
    done = run("predict", f"checkpoint={run_folder}", f"input={kitti}", "submission=mine.zip", cwd=tmp_path)
    assert done.code == 1
    assert "sequence 11: the data set has 0 of 921 scans" in done.err
    assert not list(tmp_path.glob("mine*"))


def test_a_check_needs_the_scans(tmp_path: Path) -> None:
    assert "data.root" in run("evaluate", "submission=mine.zip", cwd=tmp_path).message
