"""`python -m pointseg.select`: a list of clouds, why they were chosen, and copies of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points
from verbs import run, succeed

from pointseg.data.synthetic.writer import write_sequences


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven scans of as many streets, with poses."""
    folder = tmp_path_factory.mktemp("drives")
    write_sequences(folder, 22, seed=3, beams=16, azimuth_steps=128)
    return folder


def listed(path: Path) -> list[str]:
    return path.read_text().split()


def test_a_list_with_reasons_and_the_next_one(drives: Path, tmp_path: Path) -> None:
    done = succeed(run("select", f"input={drives}", "output=next.txt", "count=4", "spacing=0", cwd=tmp_path))
    assert "Chose 4 clouds of 22, by learn" in done.out
    first = listed(tmp_path / "next.txt")
    assert len({Path(file).parent.parent for file in first}) == 4  # of four streets, though each has two scans
    why = json.loads((tmp_path / "next.json").read_text())
    assert [one["file"] for one in why["chosen"]] == first
    assert (why["method"], why["checkpoint"], why["looked_at"]) == ("learn", "street", 22)
    assert why["chosen"][0]["distance"] is None
    assert all(0 <= one["uncertainty"] <= 1 and 0 <= one["rarity"] <= 1 for one in why["chosen"])
    words = ["output=more.txt", "known=next.txt", "count=30", "spacing=0"]
    succeed(run("select", f"input={drives}", *words, cwd=tmp_path))
    assert len(listed(tmp_path / "more.txt")) == 18
    assert not set(listed(tmp_path / "more.txt")) & set(first)


def test_copies_keep_the_layout(drives: Path, tmp_path: Path) -> None:
    words = ["output=next.txt", "copy=picked", "count=3", "method=uniform", "spacing=0"]
    succeed(run("select", f"input={drives}", *words, cwd=tmp_path))
    for file in map(Path, listed(tmp_path / "next.txt")):
        copied = tmp_path / "picked/sequences" / file.parts[-3] / "velodyne" / file.name
        assert copied.read_bytes() == file.read_bytes()


def test_clouds_of_a_drive_are_metres_apart(drives: Path, tmp_path: Path) -> None:
    words = ["output=next.txt", "count=50", "method=uniform"]
    succeed(run("select", f"input={drives}", *words, "spacing=0", cwd=tmp_path))
    assert len(listed(tmp_path / "next.txt")) == 22
    succeed(run("select", f"input={drives}", *words, "spacing=1000", cwd=tmp_path))
    assert len(listed(tmp_path / "next.txt")) == 11  # the first of each


def test_a_cloud_that_cannot_be_read_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    for number in range(3):
        scan_points(500, seed=number).tofile(tmp_path / f"scans/{number}.bin")
    (tmp_path / "scans/broken.bin").write_bytes(b"123")
    done = succeed(run("select", "input=scans", "output=next.txt", cwd=tmp_path))
    assert len(listed(tmp_path / "next.txt")) == 3
    assert "left out: scans/broken.bin" in done.out + done.err
    assert "scans/broken.bin" in json.loads((tmp_path / "next.json").read_text())["failed"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["output=next.txt"], "input"),
        (["input=scans"], "output"),
        (["input=scans", "output=next.json"], "text file"),
        (["input=scans", "output=next.txt", "count=0"], "count"),
        (["input=scans", "output=next.txt", "spacing=-1"], "spacing"),
        (["input=scans", "output=next.txt", "method=best"], "method"),
        (["input=scans", "output=next.txt", "known=none.txt"], "known=none.txt"),
        (["input=nowhere", "output=next.txt"], "nowhere"),
        (["input=scans", "output=next.txt", "checkpoint=nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_written(tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "scans").mkdir()
    scan_points(50).tofile(tmp_path / "scans/0.bin")
    assert says in run("select", *words, cwd=tmp_path).message
    assert {path.name for path in tmp_path.iterdir()} - {"outputs"} == {"scans"}  # beside the log


@pytest.mark.skipif("SEMANTICKITTI_ROOT" not in os.environ, reason="SEMANTICKITTI_ROOT is not set")
@pytest.mark.slow
def test_ten_real_scans_are_of_more_places_than_drawn_ones(tmp_path: Path) -> None:
    """Four scans of each of ten drives: what is chosen shows more drives than a draw of ten does on average."""
    root = Path(os.environ["SEMANTICKITTI_ROOT"])
    words = [f"input={root}", "output=next.txt", "count=10", "spacing=0"]
    succeed(run("select", *words, cwd=tmp_path))
    places = len({Path(file).parts[-3] for file in listed(tmp_path / "next.txt")})
    random = np.random.default_rng(0)
    drives = [path.parts[-3] for path in root.glob("sequences/*/velodyne/*.bin")]
    drawn = [len(set(random.choice(drives, 10, replace=False))) for _ in range(500)]
    assert places > np.percentile(drawn, 90)
