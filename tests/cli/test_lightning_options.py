"""What Lightning users give `train`: options of the trainer, callbacks, loggers, optimizers, schedules and terms of the loss."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from lightning_parts import CountSteps
from verbs import SMALL, run, succeed, trained_run

PARTS = "lightning_parts"


def trained(tmp_path: Path, *words: str, tracking: str = "off") -> Path:
    """The folder of a small run."""
    foreign = any(word.startswith("scheduler") for word in words)
    small = [word for word in SMALL if not (foreign and "warmup" in word)]
    succeed(run("train", *small, f"tracking={tracking}", "hydra.run.dir=run", *words, cwd=tmp_path))
    return tmp_path / "run"


def saved(folder: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def figures(file: Path) -> list[dict[str, str]]:
    with open(file, encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


# ---- trainer -------------------------------------------------------------------------------------------------------


def test_options_of_the_trainer(tmp_path: Path) -> None:
    words = ["trainer.profiler=simple", "trainer.max_steps=3", "trainer.detect_anomaly=true", "trainer.benchmark=false"]
    words += [
        "trainer.deterministic=warn",
        "trainer.devices=1",
        "trainer.strategy=auto",
        "trainer.num_sanity_val_steps=1",
    ]
    folder = trained(tmp_path, *words)
    assert "optimizer_step" in (folder / "fit-profile.txt").read_text()
    assert saved(folder)["global_step"] == 3
    options = yaml.safe_load((folder / "config.yaml").read_text())["trainer"]
    assert (options["profiler"], options["max_steps"], options["max_epochs"]) == ("simple", 3, 2)


def test_validations_within_an_epoch_choose_the_best(tmp_path: Path) -> None:
    words = ["trainer.val_check_interval=1", "logger=csv", "trainer.max_epochs=1", "data.clouds_per_scan=8"]
    folder = trained(tmp_path, *words, "trainer.log_every_n_steps=1")
    rows = figures(folder / "csv/version_0/metrics.csv")
    assert len([row for row in rows if row.get("val/miou")]) == 4
    assert len([row for row in rows if row.get("train/loss_step")]) == 4
    assert "train/loss_step" not in (folder / "history.csv").read_text()
    scores = [float(row["val/miou"]) for row in rows if row.get("val/miou")]
    assert saved(folder, "best")["global_step"] == 1 + scores.index(max(scores))


def test_steps_alone_may_say_when_a_run_ends(tmp_path: Path) -> None:
    folder = trained(tmp_path, "trainer.max_epochs=null", "trainer.max_steps=5")
    assert saved(folder)["global_step"] == 5


def test_a_share_of_the_batches(tmp_path: Path) -> None:
    folder = trained(tmp_path, "data.clouds_per_scan=8", "trainer.limit_train_batches=0.5", "trainer.max_epochs=1")
    assert saved(folder)["global_step"] == 2


def test_a_fast_dev_run_keeps_nothing(tmp_path: Path) -> None:
    words = [*SMALL, "trainer.fast_dev_run=true", "hydra.run.dir=run"]
    done = succeed(run("train", *words, cwd=tmp_path))
    assert "fast_dev_run" in done.out
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".log"] == []


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.profilr=simple", "Did you mean trainer.profiler?"),
        ("trainer.max_epoch=3", "Did you mean trainer.max_epochs?"),
        ("trainer.profiler=simpl", "Did you mean simple?"),
        ("trainer.devices=4", "compute=local_ddp compute.processes=N"),
        ("trainer.num_nodes=2", "compute.nodes=N"),
        ("trainer.strategy=fsdp", "Use auto, ddp"),
        ("trainer.logger=true", "logger=csv"),
        ("trainer.barebones=true", "trainer.fast_dev_run=true"),
        ("trainer.enable_checkpointing=false", "trainer.fast_dev_run=true"),
        ("trainer.default_root_dir=elsewhere", "hydra.run.dir=DIR"),
        ("trainer.sync_batchnorm=true", "model.sync_batchnorm=true"),
        ("trainer.limit_test_batches=3", "pointseg.evaluate"),
        ("trainer.limit_train_batches=0", "0 is less than 1: trainer.limit_train_batches"),
        ("trainer.max_epochs=null", "or trainer.max_steps"),
    ],
)
def test_what_a_run_cannot_honour_is_refused_with_what_to_set(word: str, said: str, tmp_path: Path) -> None:
    message = run("train", *SMALL, "tracking=off", word, cwd=tmp_path).message
    assert said in message
    assert word.partition("=")[0] in message


# ---- callbacks -----------------------------------------------------------------------------------------------------


def test_a_callback_of_ones_own(tmp_path: Path) -> None:
    words = [f"callbacks.mine._target_={PARTS}.{CountSteps.__name__}", f"callbacks.mine.file={tmp_path / 'steps.txt'}"]
    folder = trained(tmp_path, "callbacks=[early_stopping]", *words, "callbacks.early_stopping.patience=5")
    assert (tmp_path / "steps.txt").read_text() == "4"
    kept = yaml.safe_load((folder / "config.yaml").read_text())["callbacks"]
    assert kept["early_stopping"]["patience"] == 5
    assert list(kept) == ["early_stopping", "mine"]


def test_a_run_stops_early(tmp_path: Path) -> None:
    words = ["callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=20"]
    folder = trained(tmp_path, *words, "optimizer.lr=1e-12", "trainer.ema_decay=null")
    assert saved(folder)["epoch"] < 10


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["callbacks.x._target_=pytorch_lightning.callbacks.EarlyStoping"], "Did you mean EarlyStopping"),
        (
            ["callbacks.x._target_=torch.nn.ReLU"],
            "is not a pytorch_lightning.callbacks.callback.Callback: callbacks.x._target_",
        ),
        (["callbacks=early_stopping", "callbacks.early_stopping.patence=1"], "callbacks.early_stopping.patience"),
        (["callbacks=early_stoping"], "early_stopping"),
    ],
)
def test_a_callback_that_cannot_be_built_is_refused(words: list[str], said: str, tmp_path: Path) -> None:
    assert said in run("train", *SMALL, "tracking=off", *words, cwd=tmp_path).message


# ---- refused before the data are read ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optimizer.lr=-1"], "-1 is not positive: optimizer.lr"),
        (["optimizer._target_=torch.nn.ReLU"], "is not a torch.optim.optimizer.Optimizer: optimizer._target_"),
        (["scheduler._target_=torch.nn.ReLU"], "LRScheduler: scheduler._target_"),
        (["scheduler._target_=torch.optim.lr_scheduler.StepLR"], "step_size"),
        (
            ["loss.mine._target_=torch.nn.CrossEntropyLoss"],
            "is not a pointseg.engine.losses.LossTerm: loss.mine._target_",
        ),
        (["callbacks.x._target_=torch.nn.ReLU"], "Callback: callbacks.x._target_"),
        (["loss=frnet"], "the model has no auxiliary head: loss."),
    ],
)
def test_parts_that_cannot_be_made_are_refused_first(words: list[str], said: str, tmp_path: Path) -> None:
    done = run("train", "data=synthetic_small", "tracking=off", *words, cwd=tmp_path)
    assert done.code == 1
    assert said in done.message
    assert "Data:" not in done.out


# ---- loggers -------------------------------------------------------------------------------------------------------


def test_several_loggers(tmp_path: Path) -> None:
    folder = trained(tmp_path, "logger=[mlflow,csv]", tracking="mlflow")
    assert (tmp_path / "mlruns.db").is_file()
    rows = figures(folder / "csv/version_0/metrics.csv")
    assert len([row for row in rows if row["val/miou"]]) == 2
    best = json.loads((folder / "metrics.json").read_text())["miou"]
    assert [float(row["best/miou"]) for row in rows if row["best/miou"]] == [best]  # after training, of best.ckpt
    settings = yaml.safe_load((folder / "csv/version_0/hparams.yaml").read_text())
    assert settings["optimizer"]["lr"] == 0.003


def test_a_logger_by_its_class(tmp_path: Path) -> None:
    words = ["+logger.table._target_=pytorch_lightning.loggers.CSVLogger", "+logger.table.name=table"]
    folder = trained(tmp_path, "logger=none", *words, f"+logger.table.save_dir={tmp_path / 'tables'}")
    assert (tmp_path / "tables/table/version_0/metrics.csv").is_file()
    assert not (folder / "csv").exists()


def test_tensorboard(tmp_path: Path) -> None:
    folder = trained(tmp_path, "logger=tensorboard")
    assert list(folder.glob("tensorboard/version_0/events.out.tfevents.*"))


def test_a_logger_whose_package_is_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytorch_lightning.loggers import wandb

    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", False)
    message = run("train", *SMALL, "tracking=off", "logger=wandb", cwd=tmp_path).message
    assert "logger.wandb" in message


class FakeRun:
    """Keeps what W&B would be sent."""

    id, name, _attach_id = "1", "run", None

    def __init__(self, **settings: Any) -> None:
        self.settings, self.sent, self.config = settings, [], self

    def update(self, values: dict[str, Any], **_: Any) -> None:
        self.values = values

    def define_metric(self, *_: Any, **__: Any) -> None: ...

    def log(self, values: dict[str, Any], **_: Any) -> None:
        self.sent.append(values)


def test_weights_and_biases_by_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb itself is not installed here: Lightning's own logger speaks to a module that keeps what it is sent."""
    from pytorch_lightning.loggers import wandb

    runs: list[FakeRun] = []
    fake = ModuleType("wandb")
    fake.run = None  # type: ignore[attr-defined]
    fake.init = lambda **settings: runs.append(FakeRun(**settings)) or runs[-1]  # type: ignore[attr-defined,func-returns-value]
    for name in ("wandb.sdk", "wandb.sdk.lib", "wandb.wandb_run"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["wandb.sdk.lib"].RunDisabled = type("RunDisabled", (), {})  # type: ignore[attr-defined]
    sys.modules["wandb.wandb_run"].Run = FakeRun  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr(wandb, "_WANDB_AVAILABLE", True)
    trained(tmp_path, "logger=wandb", "logger.wandb.project=streets")
    assert runs[0].settings["project"] == "streets"
    assert runs[0].settings["dir"] == str(tmp_path / "run")
    assert len([values for values in runs[0].sent if "val/miou" in values]) == 2
    assert runs[0].values["optimizer"]["lr"] == 0.003


# ---- optimizer, scheduler and loss ---------------------------------------------------------------------------------


def test_another_optimizer_and_schedule(tmp_path: Path) -> None:
    words = ["optimizer._target_=torch.optim.SGD", "optimizer.momentum=0.9", "optimizer.lr=0.5"]
    words += ["scheduler._target_=torch.optim.lr_scheduler.StepLR", "scheduler.step_size=1", "scheduler.gamma=0.1"]
    folder = trained(tmp_path, *words)
    content = saved(folder)
    (state,) = content["optimizer_states"]
    assert {group["momentum"] for group in state["param_groups"]} == {0.9}
    assert [round(group["lr"], 6) for group in state["param_groups"]] == [0.005, 0.005]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert "warmup_steps" not in config["scheduler"]
    succeed(run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path))
    assert saved(folder)["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.0005)


@pytest.mark.parametrize("word", ["optimizer=sgd", "scheduler=one_cycle", "scheduler=constant"])
def test_shipped_options(word: str, tmp_path: Path) -> None:
    assert saved(trained(tmp_path, word, "trainer.max_epochs=1"))["global_step"] == 2


def test_a_term_of_ones_own(tmp_path: Path) -> None:
    words = [f"loss.sure._target_={PARTS}.Confidence", "loss.sure.weight=0.25", "loss.lovasz=0.5"]
    row = figures(trained(tmp_path, *words) / "history.csv")[0]
    total = float(row["train/cross_entropy"]) + 0.25 * float(row["train/sure"]) + 0.5 * float(row["train/lovasz"])
    assert float(row["train/loss"]) == pytest.approx(total, rel=1e-5)


def test_words_of_earlier_versions(tmp_path: Path) -> None:
    words = ["loss.label_smoothing=0.1", "loss.class_weighting=none", "optimizer.gradient_clip=2.5"]
    config = yaml.safe_load((trained(tmp_path, *words, "optimizer.warmup_steps=1") / "config.yaml").read_text())
    assert config["loss"]["cross_entropy"]["label_smoothing"] == 0.1
    assert config["loss"]["cross_entropy"]["class_weighting"] == "none"
    assert config["trainer"]["gradient_clip_val"] == 2.5
    assert config["scheduler"]["warmup_steps"] == 1


def test_an_experiment_of_an_earlier_version(tmp_path: Path) -> None:
    mine = tmp_path / "mine/experiment"
    mine.mkdir(parents=True)
    keys = "optimizer: {warmup_steps: 1, gradient_clip: 2.5}\nloss: {lovasz: 0.5, label_smoothing: 0.1}\n"
    (mine / "old.yaml").write_text(f"# @package _global_\n{keys}")
    small = [word for word in SMALL if "warmup" not in word]
    words = ["--config-dir", "mine", *small, "tracking=off", "hydra.run.dir=run", "experiment=old"]
    succeed(run("train", *words, cwd=tmp_path))
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (config["scheduler"]["warmup_steps"], config["trainer"]["gradient_clip_val"]) == (1, 2.5)
    assert (config["loss"]["lovasz"], config["loss"]["cross_entropy"]["label_smoothing"]) == (0.5, 0.1)


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("optimizer.lr=0.5", "0.003"),
        ("optimizer._target_=torch.optim.SGD", "torch.optim.AdamW"),
        ("scheduler._target_=torch.optim.lr_scheduler.ConstantLR", "WarmupCosine"),
    ],
)
def test_what_a_checkpoint_brings_along_cannot_be_changed(
    word: str, what: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    message = run("train", f"resume={trained_run(tmp_path_factory)}", word, cwd=tmp_path).message
    assert "keeps the value of its checkpoint" in message
    assert what in message
