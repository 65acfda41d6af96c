"""The processor and precision that were asked for, or a refusal that says what to set."""

from __future__ import annotations

import pytest
import torch

from pointseg.errors import ConfigError, DeviceError
from pointseg.training import devices
from pointseg.training.devices import choose_compute


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)


@pytest.mark.usefixtures("no_gpu")
def test_auto_takes_the_cpu_in_full_precision() -> None:
    compute = choose_compute()
    assert (compute.accelerator, compute.devices, compute.precision) == ("cpu", 1, "32-true")
    assert compute.device == torch.device("cpu")
    assert "CPU" in compute.reason


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_one_gpu_in_bfloat16() -> None:
    compute = choose_compute()
    assert (compute.accelerator, compute.devices, compute.precision) == ("gpu", 1, "bf16-mixed")
    assert choose_compute("cpu").accelerator == "cpu"
    assert choose_compute("gpu", 2, "32-true").devices == 2


@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"trainer\.devices=3"):
        choose_compute("gpu", 3)


@pytest.mark.usefixtures("two_gpus")
def test_gpu_without_bfloat16_computes_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert choose_compute("gpu").precision == "32-true"


@pytest.mark.usefixtures("no_gpu")
def test_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(DeviceError, match=r"trainer\.accelerator=gpu.*trainer\.accelerator=cpu"):
        choose_compute("gpu")


@pytest.mark.usefixtures("no_gpu")
def test_slow_bfloat16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_native_bfloat16", lambda _: False)
    with pytest.raises(DeviceError, match="bf16-mixed"):
        choose_compute("cpu", precision="bf16-mixed")


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"accelerator": "tpu"}, "trainer.accelerator"),
        ({"precision": "16"}, "trainer.precision"),
        ({"devices": 0}, "trainer.devices"),
        ({"devices": "many"}, "trainer.devices"),
    ],
)
def test_words_that_mean_nothing_are_refused(settings: dict[str, str | int], key: str) -> None:
    with pytest.raises((ConfigError, DeviceError), match=key):
        choose_compute(**settings)  # type: ignore[arg-type]
