"""`python -m pointseg.prepare`: a data set that training takes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from verbs import SMALL_TRAINING, kitti_folder, own_environment, run, succeed

from pointseg.core.errors import DataError
from pointseg.data.store import PackedStore
from pointseg.data.synthetic import write_sequences
from pointseg.engine.bundle import load_checkpoint

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
        ([], "input"),
        (["synthetic.scans=3"], "output"),
        (["output=o", "synthetic.scans=0"], "synthetic.scans"),
        (["output=o", "synthetic.scans=3", "synthetic.beams=7"], "synthetic.beams"),
        (["output=o", "synthetic.scans=3", "format=parkett"], "format"),
        (["output=o", "synthetic.scans=3", "on_error=ignore"], "on_error"),
        (["output=o", "input=here", "synthetic.scans=3"], "both input and synthetic"),
        (["output=o", "input=nowhere"], "nowhere"),
        (["output=o", "input=nowhere", "format=raw"], "format=raw"),
        (["output=o", "synthetic.scans=3", "validate=true"], "validate"),
        (["output=o", "synthetic.scans=3", "format=packed", "record=tiny"], "record"),
        (["output=o", "synthetic.scans=3", "format=packed", "surroundings.pillar_cells=[0]"], "pillar_cells"),
        (["output=o", "synthetic.scan=7"], "synthetic.scans"),
        (["output=o", "compute=moon"], "compute=moon"),
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


# ---- packing ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A few small streets, which a test may damage."""
    write_sequences(tmp_path / "raw", scans=5, seed=3, beams=16, azimuth_steps=100)
    return tmp_path / "raw"


@pytest.mark.slow
def test_raw_scans_become_a_store_that_trains(raw: Path, tmp_path: Path) -> None:
    done = succeed(run("prepare", "input=raw", "output=store", cwd=tmp_path))
    assert "Packed 5 scans" in done.out
    assert "data.root=" in done.out
    names = {path.name for path in (tmp_path / "store").iterdir()}
    assert {"store.json", "validation.json", "validation.html", "manifest.json", "exploration.html"} <= names
    assert not [name for name in names if name.startswith((".", "part-", "packing"))]
    split = ["data.split.train=[00,01,02]", "data.split.val=[08]"]
    words = [*SMALL_TRAINING, "+experiment=kitti", *split, "tracking=off"]
    runs = []
    for root in ("raw", "store"):
        succeed(run("train", f"data.root={root}", f"hydra.run.dir=run-{root}", *words, cwd=tmp_path))
        runs.append(load_checkpoint(tmp_path / f"run-{root}" / "checkpoints" / "last.ckpt").model.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])  # packing changes nothing


def test_bad_files_end_with_code_2_and_no_store(raw: Path, tmp_path: Path) -> None:
    bad = sorted(raw.rglob("*.bin"))[1]
    bad.write_bytes(bad.read_bytes()[:-3])
    done = run("prepare", "input=raw", "output=store", cwd=tmp_path)
    assert done.code == 2
    assert str(bad.relative_to(tmp_path)) in done.out
    assert "1 file cannot be used" in done.err
    assert not (tmp_path / "store" / "store.json").exists()
    report = json.loads((tmp_path / "store" / "validation.json").read_text())
    assert [finding["file"] for finding in report["findings"] if finding["level"] == "error"] == [
        str(bad.relative_to(tmp_path))
    ]


@pytest.mark.slow
def test_good_scans_are_packed_where_bad_ones_are_skipped(raw: Path, tmp_path: Path) -> None:
    bad = sorted(raw.rglob("*.bin"))[1]
    bad.write_bytes(bad.read_bytes()[:-3])
    done = succeed(run("prepare", "input=raw", "output=store", "on_error=skip", cwd=tmp_path))
    assert "1 bad scan left out" in done.out + done.err
    store = PackedStore(tmp_path / "store")
    assert len(store.index) == 4
    assert f"{bad.parent.parent.name}/{bad.stem}" not in store.index.names


def test_validation_alone_packs_nothing(raw: Path, tmp_path: Path) -> None:
    succeed(run("prepare", "input=raw", "output=report", "validate=true", cwd=tmp_path))
    assert {path.name for path in (tmp_path / "report").iterdir()} == {
        "validation.json",
        "validation.html",
        "manifest.json",
    }


def test_files_are_compared_with_the_manifest_beside_them(raw: Path, tmp_path: Path) -> None:
    succeed(run("prepare", "output=streets", "synthetic.scans=3", *SMALL_SENSOR, cwd=tmp_path))
    bad = sorted((tmp_path / "streets").rglob("*.bin"))[0]
    content = bytearray(bad.read_bytes())
    content[0] ^= 1  # the lowest bit of a coordinate: nothing but the manifest can show it
    bad.write_bytes(content)
    done = run("prepare", "input=streets", "output=report", "validate=true", cwd=tmp_path)
    assert done.code == 2
    assert bad.name in done.out


def test_damaged_store_is_found(raw: Path, tmp_path: Path) -> None:
    succeed(run("prepare", "input=raw", "output=store", "report=false", cwd=tmp_path))
    succeed(run("prepare", "input=store", "validate=true", cwd=tmp_path))
    shard = tmp_path / "store" / "records-00000.bin"
    content = bytearray(shard.read_bytes())
    content[99] ^= 4
    shard.write_bytes(content)
    done = run("prepare", "input=store", "validate=true", cwd=tmp_path)
    assert done.code == 2
    assert "records-00000.bin" in done.err


def test_scans_become_tables(raw: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    succeed(run("prepare", "input=raw", "output=table", "format=parquet", "sequences=[00]", cwd=tmp_path))
    assert (tmp_path / "table" / "MLTable").is_file()
    assert list((tmp_path / "table").glob("*.parquet"))


def test_synthetic_scans_are_streamed_into_a_store(tmp_path: Path) -> None:
    words = ["synthetic.scans=6", *SMALL_SENSOR, "format=packed", "report=false"]
    succeed(run("prepare", "output=store", *words, cwd=tmp_path))
    assert len(PackedStore(tmp_path / "store").index) == 6
    assert "6 scans were already there" in succeed(run("prepare", "output=store", *words, cwd=tmp_path)).out


@pytest.mark.slow
def test_killed_packing_goes_on_to_the_same_store(tmp_path: Path) -> None:
    """A real process, killed without warning at ten moments; the store is that of an undisturbed run, byte for byte."""
    words = [
        "synthetic.scans=400",
        "synthetic.beams=16",
        "synthetic.azimuth_steps=400",
        "format=packed",
        "report=false",
    ]
    command = [sys.executable, "-m", "pointseg.prepare", *words, "shard_scans=16", "processes=2"]

    def start(folder: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{folder}.log").open("ab")
        return subprocess.Popen(
            [*command, f"output={folder}"],
            cwd=tmp_path,
            env=own_environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    began = time.monotonic()
    assert start("whole").wait() == 0
    seconds = time.monotonic() - began
    random, kills = np.random.default_rng(0), 0
    for _ in range(10):
        process = start("killed")
        time.sleep(random.uniform(0.2, 1.0) * seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the group that this test started
            kills += 1
        process.wait()
        done = (tmp_path / "killed" / "store.json").exists()
        if not done:
            with pytest.raises(DataError, match=r"not finished|no packed store"):
                PackedStore(tmp_path / "killed")
    assert start("killed").wait() == 0
    assert kills >= 1
    hashes = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / name).iterdir()}
        for name in ("whole", "killed")
    ]
    assert hashes[0] == hashes[1]
