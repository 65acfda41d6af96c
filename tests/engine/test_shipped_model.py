"""The model inside this package: what it is, what it labels, and that its name means it everywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from verbs import run, succeed

from pointseg import Predictor
from pointseg.core.addresses import SHIPPED, shipped_model
from pointseg.core.errors import CheckpointError
from pointseg.data.scan import Scan
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.synthetic import SyntheticWorld
from pointseg.engine import bundle
from pointseg.engine.metrics import Scores, confusion_matrix, score

MEGABYTES = 3


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.load("street")


def scores_of(predictor: Predictor, scans: Sequence[Scan]) -> Scores:
    """All points of the scans in one confusion matrix."""
    classes = predictor.label_map.num_classes
    counts = torch.zeros((classes + 1, classes + 1), dtype=torch.int64)
    for scan in scans:
        ids = (predictor.label_map.to_train(raw) for raw in (scan.required_labels, predictor(scan.points)))
        counts += confusion_matrix(*map(torch.from_numpy, ids), classes)
    return score(counts)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_and_says_what_it_is(name: str) -> None:
    folder = shipped_model(name)
    assert sum(file.stat().st_size for file in folder.iterdir()) < MEGABYTES << 20
    card = (folder / "README.md").read_text(encoding="utf-8")
    description = (folder / "model.yaml").read_text(encoding="utf-8")
    stated = next(line for line in description.splitlines() if line.startswith("weights_sha256"))
    assert stated.split()[-1] in card  # the card is about these weights
    for word in ("MIT", "synthetic", "fails"):
        assert word in card


def test_nobodys_data_are_in_it() -> None:
    data = bundle.load("street").provenance["data"]
    assert data["class"] == "SyntheticDataModule"


def test_it_labels_a_street_that_it_was_not_trained_on(predictor: Predictor) -> None:
    world = SyntheticWorld(seed=77)
    assert scores_of(predictor, [world.scan(street, 0) for street in range(3)]).accuracy > 0.75


def test_a_folder_of_its_name_is_named_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street").mkdir()
    assert bundle.find_checkpoint("street") == shipped_model("street")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        bundle.find_checkpoint("./street")


def test_predict_takes_it_where_none_is_named(predictor: Predictor, tmp_path: Path) -> None:
    points = SyntheticWorld(seed=77, azimuth_steps=500).scan(0, 0).points
    points.tofile(tmp_path / "scan.bin")
    done = succeed(run("predict", "input=scan.bin", "output=out", cwd=tmp_path))
    assert "with street" in done.out
    assert np.array_equal(np.fromfile(tmp_path / "out/scan.label", "<u4"), predictor(points))


def test_it_is_scored_like_any_checkpoint(tmp_path: Path) -> None:
    world = ["data=synthetic", "data.scans={train: 1, val: 1, test: 1}", "data.azimuth_steps=2000"]
    succeed(run("evaluate", "checkpoint=street", *world, "output=scores", cwd=tmp_path))
    assert json.loads((tmp_path / "scores/metrics.json").read_text())["accuracy"] > 0.6


def test_a_training_begins_with_it(tmp_path: Path) -> None:
    world = ["data.scans={train: 2, val: 1, test: 1}", "data.azimuth_steps=200", "data.points=2000"]
    words = ["+experiment=street", "init=street", *world, "trainer.max_epochs=1", "trainer.precision=32-true"]
    done = succeed(run("train", *words, "optimizer.lr=1e-9", "tracking=off", "hydra.run.dir=run", cwd=tmp_path))
    assert "begin with those of street" in done.out
    begun, shipped = (bundle.load(path).model.state_dict() for path in (tmp_path / "run", "street"))
    name = max(begun, key=lambda name: begun[name].numel())
    assert np.allclose(begun[name], shipped[name], atol=1e-4)


def test_another_network_cannot_begin_with_it(tmp_path: Path) -> None:
    world = ["data.scans={train: 2, val: 1, test: 1}", "data.azimuth_steps=200"]
    done = run("train", "init=street", *world, "tracking=off", "hydra.run.dir=run", cwd=tmp_path)
    assert "a model of another form: FRNet there, PointNetSeg here: init=street" in done.message


@pytest.mark.real
@pytest.mark.slow
def test_it_knows_real_streets(predictor: Predictor, real_root: Path) -> None:
    """None of them, and nothing like them, was in its training."""
    scans = SemanticKITTIScans(real_root, ["08"])
    assert scores_of(predictor, [scans[index] for index in range(len(scans))]).miou > 0.17
