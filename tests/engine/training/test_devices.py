"""The processor and precision that were asked for, or a refusal that says what to set."""

from __future__ import annotations

import pytest
import torch

from pointseg.core.errors import ConfigError, DeviceError
from pointseg.core.processor import NEEDS_GPU
from pointseg.engine.training import devices
from pointseg.engine.training.devices import choose_compute


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
    assert (compute.accelerator, compute.ranks.world, compute.precision) == ("cpu", 1, "32-true")
    assert compute.device == torch.device("cpu")
    assert "CPU" in compute.reason


@pytest.mark.usefixtures("two_gpus")
def test_auto_takes_one_gpu_in_bfloat16() -> None:
    compute = choose_compute()
    assert (compute.accelerator, compute.ranks.world, compute.precision) == ("gpu", 1, "bf16-mixed")
    assert choose_compute("cpu").accelerator == "cpu"
    assert choose_compute("gpu", "32-true").precision == "32-true"


@pytest.mark.usefixtures("two_gpus")
def test_each_process_takes_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    compute = choose_compute("gpu")
    assert (compute.ranks.local_world, compute.ranks.nodes, compute.device) == (2, 2, torch.device("cuda", 1))
    assert "process 4 of 4" in compute.reason


@pytest.mark.usefixtures("two_gpus")
def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(DeviceError, match=r"compute\.processes=2"):
        choose_compute("gpu")


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
    ],
)
def test_words_that_mean_nothing_are_refused(settings: dict[str, str | int], key: str) -> None:
    with pytest.raises((ConfigError, DeviceError), match=key):
        choose_compute(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(("busy", "threads", "warned"), [(60.0, 2, True), (5.0, 2, False), (100.0, 1, False)])
def test_threads_that_would_wait_are_said(
    busy: float, threads: int, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(devices.psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(devices.psutil, "cpu_percent", lambda interval: busy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    choose_compute("cpu")
    assert ("OMP_NUM_THREADS=1" in caplog.text) == warned


@pytest.mark.parametrize(("has", "chosen"), [(True, "bf16-mixed"), (False, "32-true")])
def test_native_is_bfloat16_where_the_processor_has_it(has: bool, chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_has_native_bfloat16", lambda _: has)
    assert choose_compute("cpu", "native").precision == chosen


@pytest.mark.usefixtures("no_gpu")
def test_a_job_that_was_sent_to_a_gpu_does_not_go_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NEEDS_GPU, "1")
    with pytest.raises(DeviceError, match="torch finds none"):
        choose_compute()
    assert choose_compute("cpu").accelerator == "cpu"  # it was told to
