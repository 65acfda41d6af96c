"""Further columns of points in files of every kind, by their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import scan_points, small_model
from point_files import KINDS, OWN, write_csv, write_ply

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.data.folders import CloudFiles
from pointseg.data.formats import read_cloud
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.prediction import find_items, predict_files
from pointseg.engine.predictor import Predictor

COLUMNS = ("x", "y", "z", "remission", "time", "ring")
RING = FeatureSpec(use=("x", "y", "z", "remission", "ring"), offset={"ring": 31.5}, scale={"ring": 16.0})
SCAN = np.column_stack([scan_points(1500), np.linspace(0, 0.1, 1500), np.arange(1500) % 64]).astype(np.float32)
WANTED = np.ascontiguousarray(SCAN[:, [0, 1, 2, 3, 5]])


@pytest.fixture
def trained(kitti_map: LabelMap) -> TrainedModel:
    return TrainedModel(small_model(5), RING, kitti_map, {"points_per_pass": 700, "votes": 1, "remission_mean": 0.25})


@pytest.mark.parametrize("kind", OWN)
def test_a_file_gives_a_column_by_its_name(kind: str, tmp_path: Path) -> None:
    suffix, write = KINDS[kind]
    write(tmp_path / f"a{suffix}", scan_points(40))
    cloud = read_cloud(tmp_path / f"a{suffix}", extra=("number",))
    assert cloud.extra is not None
    assert np.array_equal(cloud.extra[:, 0], np.arange(40))
    assert cloud.extra_names == ("number",)
    assert np.array_equal(cloud.points, read_cloud(tmp_path / f"a{suffix}").points)
    with pytest.raises(DataError, match=r"no column ring among .*number.*, and the model needs it.*") as caught:
        read_cloud(tmp_path / f"a{suffix}", extra=("ring",))
    assert f"a{suffix}" in str(caught.value)


def test_a_column_of_texts_is_refused(tmp_path: Path) -> None:
    columns = {name: np.ones(3) for name in ("x", "y", "z", "intensity")}
    pyarrow.parquet.write_table(pyarrow.table({**columns, "ring": ["one", "two", "two"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column ring holds no numbers"):
        read_cloud(tmp_path / "a.parquet", extra=("ring",))


@pytest.mark.parametrize("suffix", [".bin", ".npy", ".npz"])
def test_an_array_gives_a_column_by_the_names_that_are_said(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    {".bin": lambda: SCAN.tofile(path), ".npy": lambda: np.save(path, SCAN), ".npz": lambda: np.savez(path, SCAN)}[
        suffix
    ]()
    cloud = read_cloud(path, extra=("ring", "time"), columns=COLUMNS)
    assert cloud.extra is not None
    assert np.array_equal(cloud.extra, SCAN[:, [5, 4]])
    assert np.array_equal(cloud.points, SCAN[:, :4])
    with pytest.raises(DataError, match="no column ambient among x, y, z, remission, time, ring"):
        read_cloud(path, extra=("ambient",), columns=COLUMNS)
    with pytest.raises(ConfigError, match="Begin with x, y, z, remission"):
        read_cloud(path, columns=("ring", "x", "y", "z"))
    with pytest.raises(DataError, match=r"columns=\["):
        read_cloud(path, extra=("ring",))


def test_an_array_of_just_these_columns_needs_no_names(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", WANTED)
    cloud = read_cloud(tmp_path / "a.npy", extra=("ring",))
    assert cloud.extra is not None
    assert np.array_equal(cloud.extra[:, 0], WANTED[:, 4])


def test_files_are_predicted(trained: TrainedModel, tmp_path: Path) -> None:
    scans, predictor = tmp_path / "scans", Predictor(trained)
    scans.mkdir()
    SCAN[:1000].tofile(scans / "a.bin")  # 6,000 values: whole rows of four as well
    np.save(scans / "b.npy", SCAN)
    items = find_items(scans, tmp_path / "out")
    found = predict_files(predictor, items, tmp_path / "out", columns=COLUMNS)
    assert not found.failed
    assert np.array_equal(np.fromfile(tmp_path / "out/a.label", "<u4"), predictor(WANTED[:1000]))
    assert np.array_equal(np.fromfile(tmp_path / "out/b.label", "<u4"), predictor(WANTED))
    assert predict_files(predictor, items, tmp_path / "out", columns=COLUMNS).skipped == 2


def test_files_that_lack_it_are_reported(trained: TrainedModel, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    np.save(scans / "a.npy", SCAN[:, :4])
    write_ply(scans / "b.ply", SCAN)
    found = predict_files(Predictor(trained), find_items(scans, tmp_path / "out"), tmp_path / "out")
    texts = [str(finding) for finding in found.failed]
    assert "a.npy" in texts[0] and "(N, 5): x, y, z, remission, ring" in texts[0]
    assert "b.ply" in texts[1] and "no column ring" in texts[1]
    assert not found.done


def test_bin_files_whose_columns_nobody_names_are_refused_at_once(trained: TrainedModel, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    scans.mkdir()
    WANTED.tofile(scans / "a.bin")
    with pytest.raises(DataError, match=r"columns=\[x,y,z,remission,ring\]") as caught:
        predict_files(Predictor(trained), find_items(scans, tmp_path / "out"), tmp_path / "out")
    assert caught.value.where == scans / "a.bin"
    assert not (tmp_path / "out").exists()


def test_a_folder_of_clouds_is_a_source_with_it(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", scan_points(40))
    source = CloudFiles(tmp_path, extra=("number",))
    assert np.array_equal(source[0].with_columns(source.extra)[:, 4], np.arange(40))
