"""Saved configurations plus what the command line says now."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from pointseg.cli import saved
from pointseg.cli.checks import compose_checked
from pointseg.errors import CheckpointError, ConfigError


def merged(before: dict[str, object], *overrides: str, key: str = "resume") -> DictConfig:
    composed, _ = compose_checked("train", list(overrides), multirun=False)
    return saved.with_overrides(OmegaConf.create(before), composed, overrides, key)


def test_saved_values_stand_over_defaults_and_overrides_over_both() -> None:
    config = merged({"seed": 5, "optimizer": {"lr": 0.5, "weight_decay": 0.25}}, "optimizer.lr=0.125")
    assert (config.seed, config.optimizer.lr, config.optimizer.weight_decay) == (5, 0.125, 0.25)
    assert config.optimizer.warmup_steps == compose_checked("train", [], multirun=False)[0].optimizer.warmup_steps


def test_a_section_of_another_class_is_replaced_as_a_whole() -> None:
    config = merged({"data": {"_target_": "pointseg.data.SemanticKITTIDataModule", "root": "/x"}})
    assert config.data == {"_target_": "pointseg.data.SemanticKITTIDataModule", "root": "/x"}


def test_masked_values_are_taken_from_now() -> None:
    config = merged({"tracking": {"uri": "http://***@host"}}, "tracking.uri='http://me:x@host'")
    assert config.tracking.uri == "http://me:x@host"


def test_a_chosen_option_replaces_its_group() -> None:
    config = merged({"loss": {"lovasz": 0.5}}, "loss=cross_entropy_lovasz")
    assert config.loss.lovasz == 1.0


def test_tags_of_both_are_kept() -> None:
    config = merged({"tracking": {"tags": {"a": "1"}}}, "tracking.tags.b=2")
    assert config.tracking.tags == {"a": "1", "b": 2}


def test_an_experiment_is_refused() -> None:
    with pytest.raises(ConfigError, match="experiment"):
        merged({}, "+experiment=quick")


def test_damaged_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in ("a: [", "- 1\n"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.yaml"):
            saved.load_config(path)


def test_the_configuration_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("data: {_target_: pointseg.data.SemanticKITTIDataModule}\n")
    assert saved.run_config_of(str(tmp_path)) is None  # no run folder without run.json
    (tmp_path / "run.json").write_text("{}")
    for path in (tmp_path, tmp_path / "bundle", tmp_path / "checkpoints" / "best.ckpt"):
        assert saved.run_config_of(str(path)) == tmp_path / "config.yaml"
    assert saved.run_config_of("models:/x@y") is None
    assert saved.run_config_of(None) is None
    assert saved.data_choice(saved.load_config(tmp_path / "config.yaml")) == "semantickitti"
