"""Estimate the time, memory and disk space of a run, measured on its first batch before epoch 0."""

from __future__ import annotations

import copy
import math
import resource
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
import torch
from lightning_fabric.utilities import move_data_to_device

from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.files import free_space
from pointseg.core.text import counted, duration
from pointseg.data.datasets import TrainingClouds
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine.inference import cloud_logits
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.engine.training.devices import Compute
from pointseg.engine.training.trainer_settings import TrainerSettings

__all__ = ["Estimate", "estimate_run"]

COPIES_ON_DISK = 3.2  # best.ckpt and last.ckpt hold weights and two Adam moments each, the bundle only weights


@dataclass(frozen=True)
class Estimate:
    """Seconds, bytes and counts of a whole run."""

    epochs: int
    steps_per_epoch: int
    step_seconds: float
    validation_seconds: float
    memory: int
    available_memory: int
    disk: int
    trained_steps: int = 0  # before the run was resumed
    most_steps: int | None = None  # None for those of all epochs

    @property
    def steps_left(self) -> int:
        whole = self.epochs * self.steps_per_epoch if self.most_steps is None else self.most_steps
        return whole - self.trained_steps

    @property
    def seconds(self) -> float:
        """Time of the remaining steps and validations."""
        return self.steps_left * self.step_seconds + self.validation_seconds

    def __str__(self) -> str:
        whole = f"{counted(self.epochs, 'epoch')} of {counted(self.steps_per_epoch, 'step')}"
        work = f"the {counted(self.steps_left, 'step')} left of {whole}" if self.trained_steps else whole
        return (
            f"about {duration(self.seconds)} for {work} "
            f"({self.step_seconds:.2f} s a step), {self.memory / 2**30:.1f} of {self.available_memory / 2**30:.0f} GiB "
            f"memory, {self.disk / 1e6:.0f} MB on disk"
        )


def estimate_run(
    module: SegmentationModule,
    data: ScanDataModule,
    compute: Compute,
    settings: TrainerSettings,
    *,
    folder: Path,
    trained: tuple[int, int] = (0, 0),
) -> Estimate:
    """Time one step and one validation scan on a copy of the model; the run itself does not change.

    Args:
        trained: epochs, and steps of the next one, that a resumed run has completed.

    Raises:
        ConfigError: if it has completed more than is to be trained.
        OutputError: if the checkpoints do not fit on the disk.
    """
    steps, epochs, most = _plan(settings, len(data.train_dataloader()))
    trained_steps = trained[0] * steps + trained[1]
    if trained_steps > most:
        raise ConfigError(
            f"the run has trained {counted(trained[0] + (trained[1] > 0), 'epoch')} already",
            where=f"trainer.max_epochs={epochs}",
            remedy="Name as many or more, or train anew with rerun=RUN_FOLDER.",
        )
    validations = _validations(settings, steps, epochs, trained[0])
    weights = sum(p.numel() * p.element_size() for p in module.model.parameters())
    disk = int(COPIES_ON_DISK * 2 * weights) + 2_000_000
    free = free_space(folder)
    if free is not None and disk > free:
        raise OutputError(
            f"the checkpoints need {disk / 1e6:.0f} MB and the disk has {free / 1e6:.0f}",
            where=folder,
            remedy="Free some space, or name another folder with hydra.run.dir=DIR.",
        )
    random_state = torch.get_rng_state()
    step_seconds = _time_step(module, data, compute)
    scan_seconds = _time_scan(module, data, compute) if validations and len(data.source("val")) else 0.0
    torch.set_rng_state(random_state)
    if compute.accelerator == "gpu":
        memory, available = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
    else:
        unit = 1 if sys.platform == "darwin" else 1024
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        available = psutil.virtual_memory().total
    seconds = validations * len(data.source("val")) * scan_seconds
    return Estimate(epochs, steps, step_seconds, seconds, memory, available, disk, trained_steps, most)


def _plan(settings: TrainerSettings, batches: int) -> tuple[int, int, int]:
    """Steps of an epoch, epochs, and steps in all."""
    limit = settings.options.get("overfit_batches") or settings.limit_train_batches
    steps = batches if limit is None else min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    most = int(settings.options.get("max_steps") or -1)
    epochs = settings.max_epochs or math.ceil(most / max(1, steps))
    return steps, epochs, epochs * steps if most < 0 else min(most, epochs * steps)


def _validations(settings: TrainerSettings, steps: int, epochs: int, trained: int) -> int:
    """How many validations remain."""
    every, within = settings.check_val_every_n_epoch, settings.options.get("val_check_interval")
    if every is None:  # after so many steps
        return (epochs - trained) * steps // int(within or 1)
    times = 1 if within is None else int(1 / within) if isinstance(within, float) else max(1, steps // int(within))
    return (epochs // every - trained // every) * times


def _time_step(module: SegmentationModule, data: ScanDataModule, compute: Compute) -> float:
    loader = data.train_dataloader()
    draws, clouds = next(iter(loader.batch_sampler or ())), cast(TrainingClouds, loader.dataset)
    trial = copy.deepcopy(module).to(compute.device).train()
    optimizer = trial.make_optimizer()
    seconds = []
    for _ in range(4):
        _synchronize(compute)
        began = time.perf_counter()
        loaded = clouds.__getitems__(draws)
        batch = data.to_model_input(move_data_to_device(loaded, compute.device))
        with _autocast(compute):
            trial.backward_parts(batch)
        optimizer.step()
        _synchronize(compute)
        seconds.append(time.perf_counter() - began)
    return min(seconds)  # the first one warms up


def _time_scan(module: SegmentationModule, data: ScanDataModule, compute: Compute) -> float:
    model = copy.deepcopy(module.model).to(compute.device).eval()
    points = torch.from_numpy(data.source("val")[0].with_columns(data.features.extra)).to(compute.device)
    began = time.perf_counter()
    with torch.inference_mode(), _autocast(compute):
        cloud_logits(model, module.feature_spec, points, **module.inference)
    _synchronize(compute)
    return time.perf_counter() - began


def _autocast(compute: Compute) -> AbstractContextManager[object]:
    if compute.precision == "bf16-mixed":
        return torch.autocast(compute.device.type, torch.bfloat16)
    return nullcontext()


def _synchronize(compute: Compute) -> None:
    if compute.accelerator == "gpu":
        torch.cuda.synchronize()
