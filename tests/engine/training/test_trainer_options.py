"""Options of Lightning's Trainer: each is declared, honoured, or refused with what to set instead."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import AdvancedProfiler
from pytorch_lightning.strategies import DDPStrategy

from pointseg.core.errors import ConfigError, DeviceError
from pointseg.engine.training.devices import Compute, choose_compute, compute_for
from pointseg.engine.training.trainer_options import REFUSED, further_options, trainer_options
from pointseg.engine.training.trainer_settings import TrainerSettings

HERE = choose_compute("cpu")
DEFAULTS = further_options()


def told(options: dict[str, Any], compute: Compute = HERE) -> dict[str, Any]:
    return trainer_options(options, compute, Path("run"))


def test_every_option_is_declared_or_further() -> None:
    options = set(inspect.signature(pl.Trainer.__init__).parameters) - {"self"}
    assert set(DEFAULTS) | (set(TrainerSettings.__dataclass_fields__) & options) == options
    assert set(REFUSED) <= set(DEFAULTS)


@pytest.mark.parametrize("name", DEFAULTS)
def test_lightnings_defaults_are_taken(name: str) -> None:
    trainer = pl.Trainer(accelerator="cpu", devices=1, **told({name: DEFAULTS[name]}))
    assert trainer.num_devices == 1


def test_objects_are_built_of_their_sections() -> None:
    options = told(
        {
            "strategy": {"_target_": "pytorch_lightning.strategies.DDPStrategy", "process_group_backend": "gloo"},
            "profiler": {"_target_": "pytorch_lightning.profilers.AdvancedProfiler", "line_count_restriction": 5.0},
        }
    )
    assert isinstance(options["strategy"], DDPStrategy)
    assert isinstance(options["profiler"], AdvancedProfiler)


def test_a_profile_lies_in_the_run_folder() -> None:
    assert told({"profiler": "simple"})["profiler"].dirpath == "run"


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("devices", [[1], "1,"])
def test_one_gpu_may_be_named(devices: Any) -> None:
    compute = compute_for(TrainerSettings(options={"devices": devices}))
    assert compute.device == torch.device("cuda", 1)
    assert "devices" not in told({"devices": devices}, compute)


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"trainer\.devices=\[2\]"):
        compute_for(TrainerSettings(options={"devices": [2]}))


@pytest.mark.usefixtures("two_gpus")
def test_several_devices_are_several_processes() -> None:
    with pytest.raises(ConfigError, match=r"compute=local_ddp compute\.processes=N"):
        told({"devices": 2}, compute_for(TrainerSettings()))


@pytest.mark.parametrize(("word", "precision"), [("32", "32-true"), ("auto", "32-true")])
def test_lightnings_short_names_of_precisions(word: str, precision: str) -> None:
    assert choose_compute("cpu", word).precision == precision
