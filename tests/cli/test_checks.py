"""Unknown keys, options and values are refused before any work, with the nearest name; what is shipped fits together."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from pointseg.cli.hydra_options import config_folder, groups
from pointseg.cli.override_checks import check_targets, compose_checked
from pointseg.cli.overrides import quote_all
from pointseg.cli.verbs import train_config
from pointseg.core import redaction
from pointseg.core.errors import ConfigError
from pointseg.workflows.training.parts import build_features, build_training_data
from pointseg.workflows.training.train import check_train

VERBS = ("train", "evaluate", "predict", "prepare", "export", "report", "serve", "pipeline")
OPTIONS = [(group, option) for group, options in groups().items() for option in options]


def refused(*words: str, verb: str = "train", multirun: bool = False) -> str:
    with pytest.raises(ConfigError) as caught:
        compose_checked(verb, quote_all(verb, words, multirun=multirun), multirun=multirun)
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
    names |= {"scheduler", "callbacks", "logger"}
    assert set(groups()) == names
    for verb in VERBS:
        content = yaml.safe_load((config_folder() / f"{verb}.yaml").read_text(encoding="utf-8"))
        assert not names & set(content)
        assert {"compute": "local"} in content["defaults"]
        assert "experiment" not in str(content["defaults"])


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_shipped_option_composes_and_builds(group: str, option: str, tmp_path: Path) -> None:
    prefix = "+" if group == "experiment" else ""
    fitting = ["model=frnet_small"] if (group, option) == ("loss", "frnet") else []  # it is for image heads
    words = [f"{prefix}{group}={option}", *fitting, "trainer.accelerator=cpu"]
    config, _ = compose_checked("train", words, multirun=False)
    check_targets(config)
    if option == "wandb" and find_spec("wandb") is None:  # it would cap protobuf below what is pinned
        with pytest.raises(ConfigError, match=r"logger\.wandb"):
            check_train(train_config(config))
        return
    check_train(train_config(config))


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
        ("trainer.precision=16", "trainer.precision"),
    ],
)
def test_trainer_values_that_cannot_be_used_are_refused(word: str, named: str) -> None:
    config, _ = compose_checked("train", [word], multirun=False)
    with pytest.raises(ConfigError, match=named):
        check_train(train_config(config))


@pytest.mark.parametrize(
    ("verb", "word", "said"),
    [
        ("train", "trainer.monitor=val/loss", "Use val/miou | val/miou_present | val/accuracy."),
        ("train", "trainer.accelerator=gpus", "Did you mean gpu?"),
        ("teardown", "only=[cluster]", "Did you mean clusters?"),
        ("provision", "clusters.mine.tier=low", "Use dedicated | low_priority."),
        ("train", "trainer.max_epochs=1.5", "1.5 is not a whole number or null: trainer.max_epochs=1.5"),
        ("train", "trainer.ema_decay=much", "'much' is not a number or null"),
        ("train", "seed=null", "null is not a whole number: seed=null"),
        ("train", "features.knots=[0,a]", "'a' is not a number: features.knots=[0,a]"),
        ("evaluate", "views.flip=1", "1 is not true or false"),
        ("evaluate", "views={cout: 4}", "Did you mean views.count?"),
        ("predict", "columns=x", "'x' is not a list or null"),
        ("serve", "threads=many", "'many' is not a whole number or null"),  # whose default is null
        ("train", "seed=${trainer.monitor}", "'val/miou' is not a whole number: seed=${trainer.monitor}"),
    ],
)
def test_values_that_a_key_s_declaration_does_not_take_are_refused(verb: str, word: str, said: str) -> None:
    message = refused(word, verb=verb)
    assert said in message
    assert word in message


def test_each_value_of_a_sweep_is_checked() -> None:
    assert "trainer.accelerator=cpu,gpux" in refused("trainer.accelerator=cpu,gpux", multirun=True)
    assert "Write int(interval(a,b))." in refused("trainer.max_epochs=interval(1,5)", multirun=True)


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
    from pointseg.core.errors import PointsegError

    def build() -> None:
        config = train_config(compose_checked("train", [word], multirun=False)[0])
        check_train(config)
        build_training_data(config, build_features(config.features)).source("train")

    with pytest.raises(PointsegError, match=named):
        build()


def test_another_class_takes_the_former_s_keys_out() -> None:
    words = [
        "model._target_=my_networks.Pillars",
        "model.width=8",
        "features.use=[x,y,z,ring]",
        "features.scale.ring=2",
    ]
    config, final = compose_checked("train", words, multirun=False)
    assert dict(config.model) == {"_target_": "my_networks.Pillars", "width": 8}
    assert config.features.scale.ring == 2
    again, _ = compose_checked("train", final, multirun=False)  # as a job's processes do
    assert again == config


def test_the_class_that_is_there_already_changes_nothing() -> None:
    named, _ = compose_checked("train", ["model._target_=pointseg.models.PointNetSeg"], multirun=False)
    assert named == compose_checked("train", [], multirun=False)[0]


def test_a_secret_of_a_short_name_is_masked_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", set())
    compose_checked("invoke", quote_all("invoke", ["key=hush-hush"], multirun=False), multirun=False)
    assert redaction.redact_text("sent hush-hush to it") == "sent *** to it"
