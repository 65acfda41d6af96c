"""What Lightning users do, and what happens then: `SegmentationModule` and the DataModules in a `pl.Trainer` of their own."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor

from pointseg import FeatureSpec, Predictor, SegmentationModule, SyntheticDataModule
from pointseg.core.errors import ConfigError
from pointseg.engine.losses import CrossEntropy, LovaszSoftmax
from pointseg.engine.optimization import Schedule
from pointseg.models import PointNetSeg

FEATURES = FeatureSpec(use=("x", "y", "z", "remission"))
SCANS = {"train": 3, "val": 2, "test": 2}
SOURCES: dict[str, Any] = {}  # streets are made once


def data_of(**settings: Any) -> SyntheticDataModule:
    small: dict[str, Any] = {"points": 64, "clouds_per_scan": 4, "batch_size": 4, **settings}
    data = SyntheticDataModule(SCANS, beams=16, azimuth_steps=64, features=FEATURES, **small)
    for split in SCANS:
        SOURCES.setdefault(split, data.source(split))
    data._sources.update(SOURCES)
    return data


def module_of(**settings: Any) -> SegmentationModule:
    torch.manual_seed(0)
    widths: dict[str, Any] = {"local_widths": (8,), "global_widths": (8, 16), "head_widths": (8,)}
    model = PointNetSeg(4, 19, input_transform=False, feature_transform=False, **widths)
    return SegmentationModule(model, data_of().label_map, FEATURES, points_per_pass=256, **settings)


def trainer_of(tmp_path: Path, **settings: Any) -> pl.Trainer:
    plain = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return pl.Trainer(default_root_dir=tmp_path, **{**plain, **settings})


class Gradients(Callback):
    """Keeps the norm, and the largest element, of each step's gradient as the optimizer gets it."""

    def __init__(self) -> None:
        self.norms: list[float] = []
        self.largest: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, module: pl.LightningModule, _: Any) -> None:
        gradient = torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None])
        self.norms.append(float(gradient.norm()))
        self.largest.append(float(gradient.abs().max()))


def test_fit_validate_test_and_predict(tmp_path: Path) -> None:
    module, data = module_of(warmup_steps=1), data_of()
    trainer = trainer_of(tmp_path, max_epochs=2)
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 6
    (validated,) = trainer.validate(module, datamodule=data, verbose=False)
    (tested,) = trainer.test(module, datamodule=data, verbose=False)
    assert validated["val/accuracy"] == trainer_of(tmp_path).validate(module, data, verbose=False)[0]["val/accuracy"]
    assert "test/miou" in tested
    predicted = trainer.predict(module, datamodule=data)
    predictor = Predictor(module.trained())
    expected = [predictor(data.source("test")[number].points) for number in range(SCANS["test"])]
    assert predicted is not None
    assert all(np.array_equal(ids.numpy(), raw) for ids, raw in zip(predicted, expected, strict=True))


def test_predicting_needs_no_labels(tmp_path: Path) -> None:
    data = data_of()
    scan = replace(data.source("test")[0], labels=None)
    data._sources["test"] = [scan]  # type: ignore[assignment]
    (ids,) = trainer_of(tmp_path).predict(module_of(), datamodule=data) or []
    assert isinstance(ids, Tensor)
    assert ids.shape == (len(scan.points),)


@pytest.mark.parametrize("limit", [0.01, 0.2])
def test_the_trainer_clips_the_gradient(tmp_path: Path, limit: float) -> None:
    gradients = Gradients()
    trainer = trainer_of(tmp_path, max_epochs=1, gradient_clip_val=limit, callbacks=[gradients])
    trainer.fit(module_of(), datamodule=data_of())
    assert max(gradients.norms) == pytest.approx(limit, rel=1e-3)
    assert trainer.gradient_clip_val == limit  # for its next module


def test_the_trainer_clips_by_value(tmp_path: Path) -> None:
    gradients = Gradients()
    settings: dict[str, Any] = {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}
    trainer_of(tmp_path, max_epochs=1, callbacks=[gradients], **settings).fit(module_of(), datamodule=data_of())
    assert max(gradients.largest) == pytest.approx(0.001)
    assert max(gradients.norms) > 0.001


def test_a_module_clips_where_the_trainer_does_not(tmp_path: Path) -> None:
    gradients = Gradients()
    trainer_of(tmp_path, max_epochs=1, callbacks=[gradients]).fit(module_of(gradient_clip=0.05), datamodule=data_of())
    assert max(gradients.norms) == pytest.approx(0.05, rel=1e-3)


def test_accumulating_batches_is_refused_with_what_to_set(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1, accumulate_grad_batches=4)
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches=4.*SegmentationModule\(accumulate=N\)"):
        trainer.fit(module_of(), datamodule=data_of())
    trainer.validate(module_of(), datamodule=data_of(), verbose=False)  # which accumulates nothing


def test_fast_dev_run(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, fast_dev_run=True)
    trainer.fit(module_of(), datamodule=data_of())
    assert trainer.global_step == 1
    assert list(tmp_path.rglob("*.ckpt")) == []


def test_overfitting_sees_the_same_batches(tmp_path: Path) -> None:
    class Batches(Callback):
        keys: list[list[int]] = []

        def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, _: int) -> None:
            self.keys.append(batch.keys.tolist())

    batches = Batches()
    trainer_of(tmp_path, max_epochs=3, overfit_batches=1, callbacks=[batches]).fit(module_of(), datamodule=data_of())
    assert len(batches.keys) == 3
    assert batches.keys[0] == batches.keys[1] == batches.keys[2]


def test_mixed_precision(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1, precision="bf16-mixed", gradient_clip_val=0.5)
    trainer.fit(module_of(), datamodule=data_of())
    assert np.isfinite(float(trainer.callback_metrics["train/loss"]))


def test_lightnings_own_callbacks_and_loggers(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path / "kept", monitor="val/miou", mode="max", save_last=True)
    stop = EarlyStopping("val/miou", mode="max", patience=0)
    logger = CSVLogger(tmp_path, name="csv")
    trainer = trainer_of(tmp_path, max_epochs=30, callbacks=[best, stop], logger=logger, log_every_n_steps=1)
    trainer.fit(module_of(lr=1e-9), datamodule=data_of())
    assert trainer.current_epoch < 30
    header = (tmp_path / "csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/loss", "train/loss_step", "train/cross_entropy", "val/miou", "val/iou/car", "train/lr"} <= set(
        header
    )
    assert Predictor.load(tmp_path / "kept/last.ckpt").settings["points_per_pass"] == 256


def test_a_stopped_training_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    """With the weights of one that was not stopped."""
    weights = {}
    for name, epochs in (("whole", 2), ("half", 1)):
        module, trainer = module_of(total_steps=6, warmup_steps=1), trainer_of(tmp_path, max_epochs=epochs)
        trainer.fit(module, datamodule=data_of())
        trainer.save_checkpoint(tmp_path / f"{name}.ckpt")
        weights[name] = module.state_dict()
    module = module_of(total_steps=6, warmup_steps=1)
    goes_on = trainer_of(tmp_path, max_epochs=2)
    goes_on.fit(module, datamodule=data_of(), ckpt_path=str(tmp_path / "half.ckpt"), weights_only=True)
    assert all(torch.equal(value, weights["whole"][name]) for name, value in module.state_dict().items())


def test_any_optimizer_and_schedule(tmp_path: Path) -> None:
    make = functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9)
    halves = Schedule(functools.partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5), interval="epoch")
    module = module_of(optimizer=make, scheduler=halves)
    trainer_of(tmp_path, max_epochs=2).fit(module, datamodule=data_of())
    optimizer = module.optimizers(use_pl_optimizer=False)
    assert isinstance(optimizer, torch.optim.SGD)
    assert {group["lr"] for group in optimizer.param_groups} == {0.125}


def test_a_plateau_lowers_the_learning_rate(tmp_path: Path) -> None:
    make = functools.partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau,
        mode="max",
        patience=0,
        factor=0.1,
        eps=0.0,
        threshold=1.0,  # more than the score can rise: every epoch after the first is a plateau
        threshold_mode="abs",
    )
    module = module_of(
        optimizer=functools.partial(torch.optim.SGD, lr=1e-9), scheduler=Schedule(make, "epoch", "val/miou")
    )
    trainer = trainer_of(tmp_path, max_epochs=3)
    trainer.fit(module, datamodule=data_of())
    assert float(trainer.optimizers[0].param_groups[0]["lr"]) < 1e-9


def test_a_loss_of_chosen_terms(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, max_epochs=1)
    trainer.fit(module_of(loss={"points": CrossEntropy(0.5), "overlap": LovaszSoftmax(2.0)}), datamodule=data_of())
    figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
    assert figures["train/loss"] == pytest.approx(
        0.5 * figures["train/points"] + 2 * figures["train/overlap"], rel=1e-5
    )


def test_a_whole_and_its_settings_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="both optimizer and lr are given"):
        module_of(optimizer=functools.partial(torch.optim.SGD, lr=0.5), lr=0.1)


def test_a_training_without_end_needs_its_steps(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SegmentationModule\(total_steps=N\)"):
        trainer_of(tmp_path, max_epochs=-1).fit(module_of(warmup_steps=0), datamodule=data_of())


def test_sharing_the_scans_twice_is_refused(tmp_path: Path) -> None:
    data = data_of()
    data.trainer = trainer_of(tmp_path)
    data.setup("fit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pl.Trainer, "world_size", property(lambda _: 2))
        with pytest.raises(ConfigError, match=r"Set Trainer\(use_distributed_sampler=False\)"):
            data.setup("fit")
