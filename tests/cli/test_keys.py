"""Every override is checked against what exists, before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from pointseg.cli import override_checks
from pointseg.cli.help import groups_of
from pointseg.cli.hydra_options import config_folder, groups
from pointseg.cli.verbs import train_config
from pointseg.core.errors import ConfigError
from pointseg.workflows.training.train import check_train

EXPERIMENTS = groups()["experiment"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimzer.lr=1", "Did you mean optimizer.lr?"),
        ("+optimizer.lrr=1", "Did you mean optimizer.lr?"),
        ("++data.batchsize=1", "Did you mean data.batch_size?"),
        ("+experiment=kity", "Did you mean 'kitti'?"),
        ("compute=moon", "there is no compute 'moon'"),
        ("model=pointnett", "Did you mean 'pointnet'"),
        ("data.root=somewhere", "data=semantickitti"),
        ("optimizer.lr=1,2", "Add -m"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_way_out(override: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        override_checks.compose_checked("train", [override], multirun=False)
    assert said in str(refused.value)


def test_a_sweep_checks_every_option() -> None:
    with pytest.raises(ConfigError, match="pointnit"):
        override_checks.compose_checked("train", ["model=pointnet,pointnit"], multirun=True)


def test_tags_are_open_to_own_names() -> None:
    config, overrides = override_checks.compose_checked("train", ["tracking.tags.site=north"], multirun=False)
    assert config.tracking.tags.site == "north"
    assert overrides == ["+tracking.tags.site=north"]


def test_an_experiment_needs_no_plus() -> None:
    config, overrides = override_checks.compose_checked("train", ["experiment=kitti"], multirun=False)
    assert config.data._target_.endswith("SemanticKITTIDataModule")
    assert overrides == ["+experiment=kitti"]


def test_a_plus_before_an_existing_key_does_no_harm() -> None:
    config, _ = override_checks.compose_checked("train", ["+optimizer.lr=0.5"], multirun=False)
    assert config.optimizer.lr == 0.5


def test_a_key_that_the_class_does_not_take_is_refused() -> None:
    config, _ = override_checks.compose_checked("train", [], multirun=False)
    OmegaConf.update(config, "data.batchsize", 3, force_add=True)
    with pytest.raises(ConfigError, match=r"data\.batch_size"):
        override_checks.check_targets(config)


def test_no_plain_key_shares_its_name_with_a_group() -> None:
    for verb in (
        "train",
        "evaluate",
        "predict",
        "prepare",
        "export",
        "report",
        "register_model",
        "pipeline",
        "provision",
        "register_data",
        "teardown",
    ):
        config, _ = override_checks.compose_checked(verb, [], multirun=False)
        own = set(config) - {group.name for group in groups_of(verb)}
        assert own
        assert not own & (set(groups()) - {"data"}), (verb, config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment: str) -> None:
    _build([f"+experiment={experiment}"])


def _build(overrides: list[str]) -> None:
    config, _ = override_checks.compose_checked("train", overrides, multirun=False)
    override_checks.check_targets(config)
    check_train(train_config(config))


def test_configs_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert (config_folder() / "train.yaml").is_file()
