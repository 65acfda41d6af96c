"""Unknown keys, options and values are refused before any work, with the nearest name; what is shipped fits together."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from pointseg.cli.building import build_data, build_features, build_model
from pointseg.cli.checks import check_targets, compose_checked, config_folder, groups
from pointseg.cli.overrides import quote_all
from pointseg.errors import ConfigError
from pointseg.training import TrainerSettings

VERBS = ("train", "evaluate", "predict", "prepare", "export", "report", "serve", "pipeline")
OPTIONS = [(group, option) for group, options in groups().items() for option in options]


def refused(*words: str, verb: str = "train", multirun: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_checked(verb, quote_all(words, multirun=multirun), multirun=multirun)
    return str(caught.value)


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("optimizer.learning_rate=1", "optimizer.learning_rate"),
        ("optimizer.l=1", "optimizer.lr"),
        ("+optimizer.l=1", "optimizer.lr"),
        ("++trainer.max_epoch=3", "trainer.max_epochs"),
        ("max_epochs=3", "trainer.max_epochs"),
        ("lr=3", "optimizer.lr"),
        ("sed=3", "seed"),
        ("+data.point=3", "data.points"),
        ("data.augmentation.yav=3", "data.augmentation.yaw"),
        ("features.scale.hight=3", "features.scale.height"),
        ("data=semantickiti", "semantickitti"),
        ("model=pointnett", "pointnet"),
        ("+experiment=kiti", "kitti"),
        ("compute=locl", "local"),
        ("data.root=x", "data=semantickitti"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(word: str, named: str) -> None:
    message = refused(word)
    assert word.lstrip("+").partition("=")[0] in message
    assert named in message


def test_misspelt_key_with_a_value_in_a_sweep_is_refused() -> None:
    assert "optimizer.lr" in refused("optimizer.lrr=1,2", multirun=True)
    assert "pointnet" in refused("model=pointnet,pointnetx", multirun=True)


def test_several_values_need_the_sweep_flag() -> None:
    message = refused("optimizer.lr=1,2")
    assert "optimizer.lr=1,2" in message
    assert "-m" in message


def test_keys_that_exist_need_no_plus_and_may_have_one() -> None:
    config, overrides = compose_checked("train", ["+trainer.max_epochs=3", "++seed=4"], multirun=False)
    assert (config.trainer.max_epochs, config.seed) == (3, 4)
    assert overrides == ["trainer.max_epochs=3", "seed=4"]


def test_tags_take_names_of_the_users_own() -> None:
    config, _ = compose_checked("train", ["tracking.tags.who=me", "+tracking.tags.why=2"], multirun=False)
    assert config.tracking.tags == {"who": "me", "why": 2}


def test_key_of_an_option_that_is_chosen_is_known() -> None:
    config, _ = compose_checked("train", ["+experiment=kitti", "data.root=/x", "data.split.val=[10]"], multirun=False)
    assert (config.data.root, config.data.split.val) == ("/x", [10])


def test_no_plain_key_shares_a_name_with_a_group() -> None:
    names = {"data", "model", "loss", "optimizer", "trainer", "tracking", "compute", "experiment"}
    assert set(groups()) == names
    for verb in VERBS:
        content = yaml.safe_load((config_folder() / f"{verb}.yaml").read_text(encoding="utf-8"))
        assert not names & set(content)
        assert {"compute": "local"} in content["defaults"]
        assert "experiment" not in str(content["defaults"])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_shipped_option_composes_and_builds(group: str, option: str, tmp_path: Path) -> None:
    prefix = "+" if group == "experiment" else ""
    config, _ = compose_checked("train", [f"{prefix}{group}={option}", "trainer.accelerator=cpu"], multirun=False)
    check_targets(config)
    features = build_features(config)
    data = build_data(config, features)
    model = build_model(config, features, data.label_map.num_classes)
    assert (model.in_features, model.num_classes) == (len(features), 19)
    trainer = dict(OmegaConf.to_container(config.trainer))  # type: ignore[arg-type]
    trainer.pop("accumulate_grad_batches")
    TrainerSettings(**trainer)  # type: ignore[arg-type]


def test_arguments_that_a_class_does_not_take_are_refused() -> None:
    config, _ = compose_checked("train", [], multirun=False)
    OmegaConf.set_struct(config, False)
    config.data.pointz = 3
    with pytest.raises(ConfigError, match=r"unknown key data\.pointz.*data\.points"):
        check_targets(config)


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("trainer.max_epochs=0", "trainer.max_epochs"),
        ("trainer.ema_decay=1.5", "trainer.ema_decay"),
        ("trainer.monitor=val/loss", "trainer.monitor"),
        ("trainer.precision=16", "trainer.precision"),
        ("trainer.accelerator=tpu", "trainer.accelerator"),
    ],
)
def test_trainer_values_that_cannot_be_used_are_refused(word: str, named: str) -> None:
    config, _ = compose_checked("train", [word], multirun=False)
    trainer = dict(OmegaConf.to_container(config.trainer))  # type: ignore[arg-type]
    trainer.pop("accumulate_grad_batches")
    with pytest.raises(ConfigError, match=named):
        TrainerSettings(**trainer)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("data.points=0", "data.points"),
        ("data.batch_size=0", "data.batch_size"),
        ("data.num_workers=-1", "data.num_workers"),
        ("data.beams=7", "beams"),
        ("data.augmentation.yav=1", "data.augmentation.yav"),
        ("data.labels=semantickiti", "semantickitti"),
        ("features.use=[x,y,zz]", "zz"),
        ("model.local_widths=[]", "model"),
        ("features.use=xyz", "features.use"),
        ("features.use=null", "features"),
        ("data.points=abc", "data.points"),
        ("data.batch_size=null", "data"),
        ("data.scans.train=0", "scans"),
    ],
)
def test_values_that_cannot_be_built_are_refused(word: str, named: str) -> None:
    from pointseg.errors import PointsegError

    def build() -> None:
        config, _ = compose_checked("train", [word], multirun=False)
        features = build_features(config)
        data = build_data(config, features)
        build_model(config, features, data.label_map.num_classes)
        data.source("train")

    with pytest.raises(PointsegError, match=named):
        build()
