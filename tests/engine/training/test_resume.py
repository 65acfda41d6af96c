"""A run that was stopped and resumed ends with exactly the weights of one that was not."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from pointseg.data import Augmentation, SyntheticDataModule
from pointseg.data.features import FeatureSpec
from pointseg.data.sources import ScanSource
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.engine.training.callbacks import Interrupted
from pointseg.engine.training.fit import fit
from pointseg.engine.training.run_folder import RunFolder
from pointseg.engine.training.trainer_settings import TrainerSettings
from pointseg.models import FRNet, PointNetSeg, SegmentationModel, WaffleIron

EPOCHS, STEPS, SCANS = 3, 3, 2
COMPARED = (
    "state_dict",
    "current_model_state",
    "averaging_state",
    "optimizer_states",
    "lr_schedulers",
    "callbacks",
    "global_step",
)
SOURCES: dict[str, ScanSource] = {}  # streets are made once


def make_data(workers: int = 0) -> SyntheticDataModule:
    data = SyntheticDataModule(
        scans={"train": 3, "val": SCANS, "test": 1},
        beams=16,
        azimuth_steps=80,
        points=(40, 90),
        clouds_per_scan=4,
        batch_size=4,
        augmentation=Augmentation(dropout=0.3),
        num_workers=workers,
    )
    for split in ("train", "val"):
        SOURCES.setdefault(split, data.source(split))
    data._sources.update(SOURCES)
    return data


class StopsItself(SegmentationModule):
    """Sends its own process the signal of Ctrl-C while it works on one batch."""

    stop: tuple[str, int, int] | None = None  # train or val, epoch, batch

    def _maybe_stop(self, phase: str, batch: int) -> None:
        if self.stop == (phase, self.current_epoch, batch):
            signal.raise_signal(signal.SIGINT)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        self._maybe_stop("train", batch_idx)
        return super().training_step(batch, batch_idx)

    def validation_step(self, scan: Any, batch_idx: int) -> Tensor:
        self._maybe_stop("val", batch_idx)
        return super().validation_step(scan, batch_idx)


def train(
    folder: Path,
    *,
    stop: tuple[str, int, int] | None = None,
    resume: bool = False,
    ema: float | None = None,
    workers: int = 0,
    model: SegmentationModel | None = None,
    **settings: Any,
) -> None:
    pl.seed_everything(0, verbose=False)
    data = make_data(workers)
    pointnet = PointNetSeg(
        len(FeatureSpec()),
        data.label_map.num_classes,
        local_widths=(8, 8),
        global_widths=(8, 16),
        head_widths=(16, 8),
        dropout=0.3,
    )
    points_per_pass = 256 if model is None else None
    module = StopsItself(
        model or pointnet, data.label_map, data.features, warmup_steps=2, points_per_pass=points_per_pass
    )
    module.stop = stop
    trainer = TrainerSettings(max_epochs=EPOCHS, accelerator="cpu", ema_decay=ema, **settings)
    fit(module, data, RunFolder(folder), trainer, resume=RunFolder(folder).last if resume else None)


def state(folder: Path, name: str = "last") -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return loaded


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested containers as {path: leaf}."""
    if isinstance(value, dict):
        return {k: v for key, item in value.items() for k, v in flat(item, f"{prefix}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for i, item in enumerate(value) for k, v in flat(item, f"{prefix}/{i}").items()}
    return {prefix: value}


def assert_same(one: Any, other: Any) -> None:
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    different = [
        k for k, v in one.items() if not (torch.equal(v, other[k]) if isinstance(v, Tensor) else v == other[k])
    ]
    assert not different


def assert_same_run(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        first, second = state(one, name), state(other, name)
        for part in COMPARED:
            assert_same(first.get(part), second.get(part))
    assert (one / "metrics.json").read_bytes() == (other / "metrics.json").read_bytes()


UNDISTURBED: dict[float | None, Path] = {}


@pytest.fixture(params=[None, 0.9], ids=["plain", "ema"])
def ema(request: pytest.FixtureRequest) -> float | None:
    decay: float | None = request.param
    return decay


@pytest.fixture
def undisturbed(ema: float | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if ema not in UNDISTURBED:
        UNDISTURBED[ema] = tmp_path_factory.mktemp("undisturbed")
        train(UNDISTURBED[ema], ema=ema)
    return UNDISTURBED[ema]


EVERYWHERE = [("train", 0, 0), ("train", 1, STEPS - 1), ("train", EPOCHS - 1, STEPS - 1), ("val", 1, 0),
              ("val", 1, SCANS - 1), ("val", EPOCHS - 1, 0)]  # fmt: skip


@pytest.mark.parametrize(
    "stop",
    [("train", 1, 1), ("val", 0, 0), *(pytest.param(stop, marks=pytest.mark.slow) for stop in EVERYWHERE)],
    ids=str,
)
def test_resumed_equals_undisturbed(
    stop: tuple[str, int, int], ema: float | None, undisturbed: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, stop=stop, ema=ema)
    train(tmp_path, resume=True, ema=ema)
    assert_same_run(undisturbed, tmp_path)


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        (WaffleIron, {"channels": 4, "layers": 3, "neighbours": 3, "drop_path": 0.5}),
        (
            FRNet,
            {"channels": 4, "width": 32, "point_widths": (4, 4), "blocks": (1, 1), "strides": (1, 2), "auxiliary": ()},
        ),
    ],
)
def test_other_networks_resumed_equal_ones_undisturbed(
    family: type[SegmentationModel], settings: dict[str, Any], tmp_path: Path
) -> None:
    def model() -> SegmentationModel:
        torch.manual_seed(0)
        return family(len(FeatureSpec()), 19, **settings)

    train(tmp_path / "whole", model=model(), ema=0.9)
    with pytest.raises(Interrupted):
        train(tmp_path / "parts", stop=("train", 1, 1), model=model(), ema=0.9)
    train(tmp_path / "parts", resume=True, model=model(), ema=0.9, workers=2)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_a_stop_at_every_epoch(ema: float | None, undisturbed: Path, tmp_path: Path) -> None:
    """At its last batch, which its validation follows, then in the validation, then in the middle of the next."""
    for number, stop in enumerate([("train", 0, STEPS - 1), ("val", 0, 1), ("train", 1, 0), ("train", 2, 1)]):
        with pytest.raises(Interrupted):
            train(tmp_path, stop=stop, ema=ema, resume=number > 0)
    train(tmp_path, resume=True, ema=ema)
    assert_same_run(undisturbed, tmp_path)


@pytest.mark.slow
def test_epochs_without_validation(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"check_val_every_n_epoch": 2, "ema": 0.9, "monitor": None}
    train(tmp_path / "undisturbed", **settings)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped", stop=("train", 0, STEPS - 1), **settings)
    train(tmp_path / "stopped", resume=True, **settings)
    assert_same_run(tmp_path / "undisturbed", tmp_path / "stopped")


@pytest.mark.slow
def test_loading_processes_change_nothing(undisturbed: Path, ema: float | None, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tmp_path, stop=("train", 1, 1), ema=ema, workers=2)
    train(tmp_path, resume=True, ema=ema, workers=2)
    assert_same_run(undisturbed, tmp_path)


def test_last_is_written_after_every_epoch(undisturbed: Path) -> None:
    assert state(undisturbed)["global_step"] == EPOCHS * STEPS


def test_signals_are_given_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"epoch 1.*resume="):
        train(tmp_path, stop=("train", 0, 0))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_signal_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: StopsItself, phase: str, batch: int) -> None:
        if self.stop == (phase, self.current_epoch, batch):
            for _ in range(2):
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(StopsItself, "_maybe_stop", twice)
    with pytest.raises(Interrupted, match=r"at once.*no checkpoint"):
        train(tmp_path, stop=("train", 0, 1))
    with pytest.raises(Interrupted, match=r"at once.*resume="):
        train(tmp_path, stop=("train", 1, 1))
    assert state(tmp_path)["global_step"] == STEPS
