"""`workflows.predict`, called as a program of one's own calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points

from pointseg import workflows
from pointseg.core.errors import ConfigError, InvalidData
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.workflows import PredictConfig


@pytest.fixture
def model(trained: TrainedModel, tmp_path: Path) -> str:
    return str(save_bundle(tmp_path / "model", trained))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three files."""
    (tmp_path / "scans").mkdir()
    for number in range(3):
        scan_points(900, seed=number).tofile(tmp_path / "scans" / f"{number:03d}.bin")
    return tmp_path / "scans"


def test_files_are_labelled(model: str, scans: Path, tmp_path: Path) -> None:
    config = PredictConfig(checkpoint=model, input=str(scans), output=str(tmp_path / "labels"), probabilities=True)
    told: list[tuple[str, int, int]] = []
    predicted = workflows.predict(config, progress=lambda what: lambda done, total: told.append((what, done, total)))
    assert predicted.done == sorted(scans.iterdir())
    assert (predicted.points, predicted.skipped, predicted.failed) == (2700, 0, [])
    assert told == [("predicting", number, 3) for number in (1, 2, 3)]
    raw_ids, probabilities = Predictor.load(model)(scan_points(900, seed=1), probabilities=True)
    assert np.array_equal(np.fromfile(tmp_path / "labels/001.label", "<u4"), raw_ids)
    assert np.load(tmp_path / "labels/001.probs.npy").shape == probabilities.shape
    assert workflows.predict(config).skipped == 3


def test_a_bad_file_is_named_after_the_others_are_labelled(model: str, scans: Path, tmp_path: Path) -> None:
    (scans / "001.bin").write_bytes(b"123")
    with pytest.raises(InvalidData, match="1 file of 3"):
        workflows.predict(PredictConfig(checkpoint=model, input=str(scans), output=str(tmp_path / "labels")))
    assert sorted(path.name for path in (tmp_path / "labels").glob("*.label")) == ["000.label", "002.label"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("checkpoint", None), ("input", None), ("output", None), ("write", "both"), ("remission_scale", 0.0)],
)
def test_what_cannot_be_is_refused_before_work(
    key: str, value: object, model: str, scans: Path, tmp_path: Path
) -> None:
    config = PredictConfig(checkpoint=model, input=str(scans), output=str(tmp_path / "labels"))
    setattr(config, key, value)
    with pytest.raises(ConfigError) as refused:
        workflows.predict(config)
    assert refused.value.where == key
    assert not (tmp_path / "labels").exists()


def test_views_change_labels(model: str, scans: Path, tmp_path: Path) -> None:
    config = PredictConfig(checkpoint=model, input=str(scans), output=str(tmp_path / "labels"))
    config.views.count, config.views.yaw_degrees = 3, 90.0
    workflows.predict(config)
    plain = Predictor.load(model)(scan_points(900, seed=0))
    assert not np.array_equal(np.fromfile(tmp_path / "labels/000.label", "<u4"), plain)
