"""Saved configurations plus what the command line says now."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from pointseg.cli import configuration_file
from pointseg.cli.hydra_options import HydraOptions
from pointseg.cli.override_checks import compose_checked
from pointseg.cli.verbs import train_config
from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.workflows.run_config import run_config_of
from pointseg.workflows.training.train import check_train


def merged(tmp_path: Path, before: dict[str, object], *overrides: str, key: str = "resume") -> DictConfig:
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(before)))
    content, words = configuration_file.content_of_run("train", tmp_path / "config.yaml", overrides, key)
    options = HydraOptions(config_name=configuration_file.store("train", content))
    return compose_checked("train", words, multirun=False, options=options)[0]


def test_saved_values_stand_over_defaults_and_overrides_over_both(tmp_path: Path) -> None:
    config = merged(tmp_path, {"seed": 5, "optimizer": {"lr": 0.5, "weight_decay": 0.25}}, "optimizer.lr=0.125")
    assert (config.seed, config.optimizer.lr, config.optimizer.weight_decay) == (5, 0.125, 0.25)
    assert config.scheduler.warmup_steps == compose_checked("train", [], multirun=False)[0].scheduler.warmup_steps


def test_keys_of_earlier_versions_keep_their_meaning(tmp_path: Path) -> None:
    loss = {"class_weighting": "inverse", "label_smoothing": 0.1, "lovasz": 0.5, "penalty": 0.25}
    optimizer = {"lr": 0.5, "weight_decay": 0.25, "warmup_steps": 7, "final_lr_ratio": 0.5, "gradient_clip": 2.5}
    config = train_config(merged(tmp_path, {"loss": loss, "optimizer": optimizer}))
    assert config.loss["cross_entropy"] == {"class_weighting": "inverse", "label_smoothing": 0.1}
    assert (config.loss["lovasz"], config.loss["penalty"]) == (0.5, 0.25)
    assert config.optimizer == {"lr": 0.5, "weight_decay": 0.25}
    assert (config.scheduler["warmup_steps"], config.scheduler["final_lr_ratio"]) == (7, 0.5)
    assert config.trainer.gradient_clip_val == 2.5
    check_train(config)


def test_a_section_of_another_class_is_replaced_as_a_whole(tmp_path: Path) -> None:
    config = merged(tmp_path, {"data": {"_target_": "pointseg.data.SemanticKITTIDataModule", "root": "/x"}})
    assert config.data == {"_target_": "pointseg.data.SemanticKITTIDataModule", "root": "/x"}


def test_masked_values_are_taken_from_now(tmp_path: Path) -> None:
    config = merged(tmp_path, {"tracking": {"uri": "http://***@host"}}, "tracking.uri='http://me:x@host'")
    assert config.tracking.uri == "http://me:x@host"


def test_a_chosen_option_replaces_its_group(tmp_path: Path) -> None:
    config = merged(tmp_path, {"loss": {"lovasz": 0.5}}, "loss=cross_entropy_lovasz")
    assert config.loss.lovasz == 1.0


def test_tags_of_both_are_kept(tmp_path: Path) -> None:
    config = merged(tmp_path, {"tracking": {"tags": {"a": "1"}}}, "tracking.tags.b=2")
    assert config.tracking.tags == {"a": "1", "b": 2}


def test_an_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="experiment"):
        merged(tmp_path, {}, "+experiment=quick")


def test_damaged_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for text in ("a: [", "- 1\n"):
        path.write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.yaml"):
            configuration_file.load_config(path)


def test_the_configuration_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text("data: {_target_: pointseg.data.SemanticKITTIDataModule}\n")
    assert run_config_of(str(tmp_path)) is None  # no run folder without run.json
    (tmp_path / "run.json").write_text("{}")
    for path in (tmp_path, tmp_path / "bundle", tmp_path / "checkpoints" / "best.ckpt"):
        assert run_config_of(str(path)) == tmp_path / "config.yaml"
    assert run_config_of("models:/x@y") is None
    assert run_config_of(None) is None
