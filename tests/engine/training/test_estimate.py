"""The estimate before epoch 0 changes nothing of the run, and refuses a disk that is too small."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from conftest import small_model

from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.text import duration
from pointseg.data import SyntheticDataModule
from pointseg.data.features import FeatureSpec
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.engine.training.devices import choose_compute
from pointseg.engine.training.estimate import Estimate, estimate_run
from pointseg.engine.training.trainer_settings import TrainerSettings


class Disk(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture(scope="module")
def parts() -> tuple[SegmentationModule, SyntheticDataModule]:
    data = SyntheticDataModule(scans={"train": 2, "val": 1}, beams=16, azimuth_steps=64, points=32, batch_size=2)
    return SegmentationModule(small_model(len(FeatureSpec())), data.label_map, data.features), data


def test_measuring_changes_neither_weights_nor_randomness(
    parts: tuple[SegmentationModule, SyntheticDataModule], tmp_path: Path
) -> None:
    module, data = parts
    before = {name: value.clone() for name, value in module.state_dict().items()}
    random = torch.get_rng_state()
    found = estimate_run(module, data, choose_compute("cpu"), TrainerSettings(max_epochs=3), folder=tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert (found.epochs, found.steps_per_epoch) == (3, 1)
    assert found.step_seconds > 0
    assert found.validation_seconds > 0
    assert found.memory > 10_000_000


def test_a_full_disk_is_refused(
    parts: tuple[SegmentationModule, SyntheticDataModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10, 10, 1000))
    with pytest.raises(OutputError, match=r"the disk has.*hydra\.run\.dir"):
        estimate_run(*parts, choose_compute("cpu"), TrainerSettings(max_epochs=1), folder=tmp_path)


def test_the_estimate_as_a_sentence() -> None:
    text = str(Estimate(10, 100, 0.5, 20.0, 2 * 2**30, 16 * 2**30, 24_000_000))
    assert text == ("about 8 min 40 s for 10 epochs of 100 steps (0.50 s a step), 2.0 of 16 GiB memory, 24 MB on disk")


def test_the_estimate_of_a_resumed_run_is_of_what_is_left() -> None:
    estimate = Estimate(3, 100, 0.5, 5.0, 2**30, 2**30, 0, trained_steps=299)
    assert str(estimate).startswith("about 6 s for the 1 step left of 3 epochs of 100 steps")


def test_fewer_epochs_than_are_trained_are_refused(
    parts: tuple[SegmentationModule, SyntheticDataModule], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"trained 3 epochs already: trainer\.max_epochs=2"):
        estimate_run(*parts, choose_compute("cpu"), TrainerSettings(max_epochs=2), folder=tmp_path, trained=(2, 1))


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (75, "1 min 15 s"), (3661, "1 h 01 min"), (59.6, "1 min 00 s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
