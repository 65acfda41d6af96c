"""`python -m pointseg.prepare`: a data set that training takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from verbs import kitti_folder, run, succeed

SMALL_SENSOR = ["synthetic.beams=16", "synthetic.azimuth_steps=64"]


def test_both_sides_of_the_official_split_have_scans(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = kitti_folder(tmp_path_factory)
    assert sorted(path.name for path in (folder / "sequences").iterdir()) == ["00", "01", "08"]
    for scan in folder.rglob("*.bin"):
        points = np.fromfile(scan, np.float32).reshape(-1, 4)
        labels = np.fromfile(scan.parents[1] / "labels" / f"{scan.stem}.label", np.uint32)
        assert len(points) == len(labels) > 100
    assert all(
        (path / name).is_file() for path in (folder / "sequences").iterdir() for name in ("poses.txt", "calib.txt")
    )


def test_same_seed_same_files(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    done = succeed(run("prepare", "output=again", "synthetic.scans=3", *SMALL_SENSOR, cwd=tmp_path))
    assert "python -m pointseg.train +experiment=kitti data.root=" in done.out
    first, second = kitti_folder(tmp_path_factory), tmp_path / "again"
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "output"),
        (["output=o", "synthetic.scans=0"], "synthetic.scans"),
        (["output=o", "synthetic.beams=7"], "synthetic.beams"),
        (["output=o", "synthetic.scan=7"], "synthetic.scans"),
        (["output=o", "compute=aml_cpu"], "compute=aml_cpu"),
    ],
)
def test_what_cannot_be_written_is_refused(words: list[str], named: str, tmp_path: Path) -> None:
    assert named in run("prepare", *words, cwd=tmp_path).message
    assert not list(tmp_path.rglob("*.bin"))


def test_other_scans_in_the_folder_are_not_touched(tmp_path: Path) -> None:
    stranger = tmp_path / "kitti" / "sequences" / "00" / "velodyne" / "000099.bin"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"mine")
    assert "kitti" in run("prepare", "output=kitti", "synthetic.scans=2", *SMALL_SENSOR, cwd=tmp_path).message
    assert stranger.read_bytes() == b"mine"
