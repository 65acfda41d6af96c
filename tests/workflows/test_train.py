"""`workflows.train`: what a program of one's own gets, and how it goes on with a run or repeats it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import scan_points
from lightning_parts import Confidence

from pointseg import Predictor, workflows
from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.targets import target
from pointseg.engine import losses
from pointseg.engine.losses import class_weights
from pointseg.engine.training.run_folder import RunFolder
from pointseg.workflows import TrackingConfig, TrainConfig, Trained, TrainerSettings
from pointseg.workflows.default_sections import with_default_sections, with_defaults
from pointseg.workflows.training.earlier_run import earlier_configuration

DATA: dict[str, Any] = {
    "scans": {"train": 2, "val": 1, "test": 1},
    "beams": 16,
    "azimuth_steps": 64,
    "points": 64,
    "clouds_per_scan": 4,
    "batch_size": 4,
}
MODEL = {"local_widths": [8, 8], "global_widths": [8, 16], "head_widths": [16, 8]}


def config_of(**settings: Any) -> TrainConfig:
    """A training of a second."""
    trainer = TrainerSettings(max_epochs=2, accelerator="cpu")
    plain = {"data": DATA, "model": MODEL, "trainer": trainer, "tracking": TrackingConfig(uri="off")}
    return TrainConfig(**{**plain, **settings})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return workflows.train(config_of(), folder=tmp_path_factory.mktemp("train") / "run")


def weights(folder: RunFolder) -> dict[str, torch.Tensor]:
    content: dict[str, Any] = torch.load(folder.last, weights_only=True)
    return dict(content["state_dict"])


def same_weights(one: RunFolder, other: RunFolder) -> bool:
    first, second = weights(one), weights(other)
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_program_trains_and_predicts(done: Trained) -> None:
    assert done.scores is not None
    assert json.loads(done.folder.metrics.read_text())["miou"] == done.scores.miou
    assert Predictor.load(done.folder.path)(scan_points(100)).shape == (100,)
    assert {"config.yaml", "run.json", "history.csv", "bundle"} <= {path.name for path in done.folder.path.iterdir()}


def test_the_bundle_says_what_it_was_trained_on(done: Trained) -> None:
    trained = Predictor.load(done.folder.path).trained
    assert trained.provenance["seed"] == 0
    assert trained.provenance["data"]["class"] == "SyntheticDataModule"
    assert trained.input_statistics is not None
    assert trained.inference["remission_mean"] > 0
    assert trained.inference["points_per_pass"] == 1024


def test_config_yaml_is_whole(done: Trained) -> None:
    config = yaml.safe_load(done.folder.config.read_text())
    assert config["optimizer"]["_target_"] == "torch.optim.AdamW"
    assert config["scheduler"]["warmup_steps"] == 40
    assert config["loss"]["cross_entropy"]["class_weighting"] == "sqrt_inverse"
    assert config["data"]["augmentation"]["_target_"] == "pointseg.data.Augmentation"
    assert "resume" not in config


def test_classes_are_weighted_by_the_training_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[int], str]] = []

    def recorded(counts: Any, weighting: str) -> Any:
        asked.append((list(map(int, counts)), weighting))
        return class_weights(counts, weighting)

    monkeypatch.setattr(losses, "class_weights", recorded)
    workflows.train(config_of(), folder=tmp_path / "run")
    told = yaml.safe_load((tmp_path / "run/bundle/model.yaml").read_text())["provenance"]["data"]
    assert asked[-1] == (list(told["points_by_class"].values()), "sqrt_inverse")  # before that, a trial without data


def test_a_run_is_repeated(done: Trained, tmp_path: Path) -> None:
    again = workflows.train(TrainConfig(rerun=str(done.folder.path)), folder=tmp_path / "again")
    assert same_weights(again.folder, done.folder)
    other = workflows.train(TrainConfig(rerun=str(done.folder.path), seed=1), folder=tmp_path / "other")
    assert not same_weights(other.folder, done.folder)


def test_a_run_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    workflows.train(config_of(), folder=folder)
    more = TrainerSettings(max_epochs=3)
    gone_on = workflows.train(TrainConfig(resume=str(folder), trainer=more))
    assert gone_on.folder.path == folder
    assert torch.load(gone_on.folder.last, weights_only=True)["epoch"] == 2
    assert yaml.safe_load(gone_on.folder.config.read_text())["data"]["points"] == 64


def test_auto_begins_or_goes_on(tmp_path: Path) -> None:
    config = replace(config_of(), resume="auto")
    for epochs in (2, 3):
        config = replace(config, trainer=TrainerSettings(max_epochs=epochs, accelerator="cpu"))
        done = workflows.train(config, folder=tmp_path / "run")
        assert torch.load(done.folder.last, weights_only=True)["epoch"] == epochs - 1
    with pytest.raises(ConfigError, match="no folder is given in which a run may have begun"):
        workflows.train(config)


def test_another_run_is_left_alone(done: Trained) -> None:
    with pytest.raises(OutputError, match="the folder holds another run"):
        workflows.train(config_of(), folder=done.folder.path)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": {"lr": -1.0}}, r"-1\.0 is not positive: optimizer\.lr"),
        ({"loss": {"lovas": 1.0}}, r"Did you mean loss\.lovasz"),
        ({"data": {"pointz": 3}}, r"Did you mean data\.points"),
        ({"seed": -1}, "is not between 0 and"),
        ({"trainer": TrainerSettings(accelerator="tpu")}, r"trainer\.accelerator"),
        ({"trainer": TrainerSettings(options={"profilr": "simple"})}, r"Did you mean trainer\.profiler"),
        ({"callbacks": {"x": {"_target_": "torch.nn.ReLU"}}}, r"Callback: callbacks\.x"),
        ({"logger": {"x": {"save_dir": "y"}}}, r"Give logger\.x\._target_"),
        ({"features": workflows.FeatureSettings(use=["x", "zz"])}, "zz"),
    ],
)
def test_what_cannot_be_used_is_refused_without_data(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        workflows.check_train(config_of(**settings))


def test_an_object_in_place_of_its_section_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no plain value: loss\.sure"):
        workflows.train(config_of(loss={"sure": Confidence()}), folder=tmp_path / "run")


def test_parts_of_ones_own(tmp_path: Path) -> None:
    loss = {"cross_entropy": {"class_weighting": "none"}, "sure": target(Confidence, weight=0.1)}
    optimizer = target(torch.optim.SGD, lr=0.1, momentum=0.9)
    done = workflows.train(config_of(loss=loss, optimizer=optimizer), folder=tmp_path / "run")
    header = done.folder.history.read_text().splitlines()[0]
    assert "train/sure" in header
    assert "train/penalty" not in header


def test_keys_without_a_class_change_the_shipped_section() -> None:
    assert with_defaults({"lr": 0.5}, "optimizer")["weight_decay"] == 0.01
    assert with_defaults({"_target_": "torch.optim.SGD"}, "optimizer") == {"_target_": "torch.optim.SGD"}
    assert with_default_sections(TrainConfig()).loss["penalty"] == 0.001
    assert with_default_sections(TrainConfig(loss={"lovasz": 1.0})).loss == {"lovasz": 1.0}


def test_what_differs_from_the_defaults_changes_an_earlier_run(done: Trained) -> None:
    given = TrainConfig(data={"points": 32}, tracking=TrackingConfig(tags={"a": "b"}), seed=3)
    config = earlier_configuration(given, done.folder)
    assert (config.data["points"], config.data["beams"], config.seed) == (32, 16, 3)
    assert config.trainer.max_epochs == 2
    assert config.tracking.tags == {"a": "b"}
    assert config.tracking.uri == "off"


def test_a_fast_dev_run_comes_to_nothing(tmp_path: Path) -> None:
    trainer = TrainerSettings(accelerator="cpu", options={"fast_dev_run": True})
    assert workflows.train(config_of(trainer=trainer), folder=tmp_path / "run").scores is None
