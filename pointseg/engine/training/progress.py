"""The progress bar of a training run: one bar over all of its steps, with loss, mIoU and time left."""

from __future__ import annotations

import logging
import math
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from pointseg.core.text import duration

__all__ = ["TrainingProgress"]

log = logging.getLogger(__name__)


class TrainingProgress(Callback):
    """A bar on a terminal, or a line an epoch elsewhere; also logs the throughput, which `shown=False` leaves alone."""

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown
        self._bar: tqdm[Any] | None = None
        self._points = 0
        self._epoch_began = self._validation_began = self._validation_seconds = 0.0
        self._loss_sum, self._steps = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._shown = self._shown and trainer.is_global_zero
        self._began, self._first_step = time.perf_counter(), trainer.global_step
        if self._shown and sys.stderr.isatty():
            total, done = self._total(trainer), trainer.global_step
            self._bar = tqdm(total=total, initial=done, unit="step", dynamic_ncols=True, smoothing=0.1)

    @staticmethod
    def _total(trainer: pl.Trainer) -> int | None:
        steps = trainer.estimated_stepping_batches
        return int(steps) if math.isfinite(steps) else None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._points, self._epoch_began, self._validation_seconds = 0, time.perf_counter(), 0.0
        self._loss_sum, self._steps = 0.0, 0
        if self._bar is not None:
            self._bar.set_description(f"epoch {_place(trainer)}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._points += batch.labels.numel()
        self._loss_sum += float(outputs["loss"])
        self._steps += 1
        if self._bar is not None:
            self._bar.set_postfix_str(self._figures(trainer), refresh=False)
            self._bar.update(1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_began = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation_seconds += time.perf_counter() - self._validation_began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self._epoch_began - self._validation_seconds
        if seconds > 0 and self._points:  # there are none if the run resumed in a validation
            throughput = torch.tensor(self._points * trainer.world_size / seconds)
            pl_module.log("train/points_per_s", throughput, rank_zero_only=True)
        if self._bar is None and self._shown and self._steps:
            log.info("epoch %s  %s  %s", _place(trainer), self._figures(trainer), self._left(trainer))

    def _left(self, trainer: pl.Trainer) -> str:
        total = self._total(trainer)
        if total is None:
            return ""
        done = trainer.global_step - self._first_step
        remaining = (time.perf_counter() - self._began) / max(done, 1) * (total - trainer.global_step)
        return f"{duration(remaining)} left"

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # which Lightning calls only after success

    def _figures(self, trainer: pl.Trainer) -> str:
        """The mean loss of the epoch so far, and the latest validation score."""
        miou = trainer.callback_metrics.get("val/miou")
        scored = f"  val mIoU {100 * float(miou):.1f} %" if miou is not None else ""
        return f"loss {self._loss_sum / max(self._steps, 1):.3f}{scored}"


def _place(trainer: pl.Trainer) -> str:
    """The current epoch, and how many there are."""
    epochs = trainer.max_epochs or -1
    return f"{trainer.current_epoch + 1}" + (f"/{epochs}" if epochs > 0 else "")
