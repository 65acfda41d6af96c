"""`python -m pointseg.report drift=...`: page and drift.json, the verdict as the last line, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from verbs import kitti_folder, once, run, succeed, trained_run

from pointseg.core.errors import ConfigError, DataError
from pointseg.data.folders import CloudFiles, open_scans
from pointseg.engine import bundle
from pointseg.quality.input_statistics import InputStatistics


@once
def packed(factory: pytest.TempPathFactory) -> Path:
    folder = factory.mktemp("packed") / "store"
    succeed(run("prepare", f"input={kitti_folder(factory)}", f"output={folder}", cwd=folder.parent))
    return folder


@pytest.fixture
def kitti(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(kitti_folder(tmp_path_factory), tmp_path / "kitti"))


@pytest.fixture
def store(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(packed(tmp_path_factory), tmp_path / "store"))


@pytest.fixture
def run_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(trained_run(tmp_path_factory), tmp_path / "run"))


def scale_remission(folder: Path, factor: float) -> None:
    for file in folder.rglob("velodyne/*.bin"):
        points = np.fromfile(file, "<f4").reshape(-1, 4)
        points[:, 3] *= factor
        points.tofile(file)


@pytest.mark.slow
def test_the_same_scans_are_like_the_training_data(kitti: Path, store: Path, tmp_path: Path) -> None:
    done = succeed(run("report", "drift=kitti", "against=store", "output=pages/drift.html", cwd=tmp_path))
    assert done.out.splitlines()[-1] == "Like the training data"
    page = (tmp_path / "pages" / "drift.html").read_text(encoding="utf-8")
    assert "<h1>Like the training data</h1>" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    result = json.loads((tmp_path / "pages" / "drift.json").read_text())
    assert result["drifted"] is False and result["score"] < 1
    assert result["reference"] == {"sequences": 3, "scans": 3}


def test_remission_of_another_scale_is_named(kitti: Path, store: Path, tmp_path: Path) -> None:
    scale_remission(kitti, 0.2)
    done = succeed(run("report", "drift=kitti", "against=store", "output=drift.html", cwd=tmp_path))
    assert done.out.splitlines()[-1].startswith("Drifted: remission is 0.2")
    assert json.loads((tmp_path / "drift.json").read_text())["named"] == ["remission"]
    assert "<h1>Drifted</h1>" in (tmp_path / "drift.html").read_text(encoding="utf-8")
    mended = succeed(run("report", "drift=kitti", "against=store", "remission_scale=0.2", cwd=tmp_path))
    assert mended.out.splitlines()[-1] == "Like the training data"


@pytest.mark.parametrize("against", ["run", "run/bundle", "run/checkpoints/best.ckpt"])
def test_a_model_brings_what_its_training_scans_looked_like(
    against: str, run_folder: Path, kitti: Path, tmp_path: Path
) -> None:
    statistics = InputStatistics.from_dict(bundle.load(tmp_path / against).input_statistics, against)
    assert statistics.sequences == 2  # the two streets of the small world
    done = succeed(run("report", "drift=kitti", f"against={against}", cwd=tmp_path))
    assert "2 sequences: the spread between them is hardly known" in done.out
    assert "drift.json" in done.out


def test_a_bundle_of_an_earlier_version_loads_and_says_what_it_lacks(
    run_folder: Path, kitti: Path, tmp_path: Path
) -> None:
    file = run_folder / "bundle" / "model.yaml"
    description = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert len(file.read_bytes()) < 20_000
    del description["input_statistics"]
    file.write_text(yaml.safe_dump(description), encoding="utf-8")
    assert bundle.load(run_folder / "bundle").input_statistics is None
    message = run("report", "drift=kitti", "against=run/bundle", cwd=tmp_path).message
    assert "holds no statistics of its training scans" in message and "train again" in message


def test_predicted_classes_are_compared_where_both_are_predicted(
    run_folder: Path, kitti: Path, store: Path, tmp_path: Path
) -> None:
    succeed(run("report", "drift=kitti", "against=store", "checkpoint=run", "output=drift.html", cwd=tmp_path))
    result = json.loads((tmp_path / "drift.json").read_text())
    assert result["quantities"]["predicted classes"]["distance"] < 0.01


def test_any_folder_of_clouds(kitti: Path, store: Path, tmp_path: Path) -> None:
    points = np.fromfile(next(kitti.rglob("velodyne/*.bin")), "<f4").reshape(-1, 4)
    for place in ("monday/a.npy", "monday/b.npy", "tuesday/a.npy", ".hidden/a.npy", "monday/a.probs.npy"):
        (tmp_path / "drives" / place).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "drives" / place, points)
    clouds = open_scans(tmp_path / "drives")
    assert isinstance(clouds, CloudFiles)
    assert list(clouds.names) == ["monday/a.npy", "monday/b.npy", "tuesday/a.npy"]
    np.testing.assert_array_equal(clouds[0].points, points)
    assert clouds.expected_points == 3 * len(points)
    done = succeed(run("report", "drift=drives", "against=store", cwd=tmp_path))
    assert "3 scans of 2 sequences" in done.out


def test_folders_that_hold_nothing(tmp_path: Path, store: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no files of point clouds"):
        open_scans(tmp_path / "empty")
    with pytest.raises(DataError, match="does not exist"):
        open_scans(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="scaled when it is packed"):
        open_scans(store, remission_scale=255)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["drift=kitti"], "against"),
        (["drift=kitti", "against=nowhere"], "nowhere"),
        (["drift=nowhere", "against=store"], "nowhere"),
        (["drift=kitti", "against=store", "run=kitti"], "run and drift"),
        (["drift=kitti", "against=store", "output=kitti"], "output=kitti/drift.html"),
        (["drift=kitti", "against=store", "drift_scans=0"], "drift_scans"),
        (["drift=kitti", "against=store", "remission_scale=0"], "remission_scale"),
        (["drift=kitti", "against=kitti", "checkpoint=kitti"], "PACKED_STORE"),
    ],
)
def test_what_is_refused_leaves_no_page(words: list[str], named: str, kitti: Path, store: Path, tmp_path: Path) -> None:
    assert named in run("report", *words, cwd=tmp_path).message
    assert not list(tmp_path.rglob("drift.*"))


def test_scans_that_cannot_be_read_are_named_and_the_others_judged(kitti: Path, store: Path, tmp_path: Path) -> None:
    points = np.fromfile(next(kitti.rglob("velodyne/*.bin")), "<f4").reshape(-1, 4)
    for place in ("monday/a.npy", "monday/b.npy", "tuesday/a.npy"):
        (tmp_path / "drives" / place).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "drives" / place, points)
    (tmp_path / "drives" / "monday" / "a.npy").write_bytes(b"nothing")
    done = run("report", "drift=drives", "against=store", "output=drift.html", cwd=tmp_path)
    assert (done.code, "Traceback" in done.out + done.err) == (2, False)
    assert "monday/a.npy" in done.out
    assert "2 scans of 2 sequences" in done.out
    assert "1 scan could not be read" in done.err
    assert "1 scan could not be read" in (tmp_path / "drift.html").read_text(encoding="utf-8")
    for file in (tmp_path / "drives").rglob("*.npy"):
        file.write_bytes(b"nothing")
    assert "no scan with points" in run("report", "drift=drives", "against=store", cwd=tmp_path).message
