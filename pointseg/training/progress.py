"""The progress bar of a training run: one bar over all of its steps, with loss, mIoU and time left."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ProgressBar
from tqdm import tqdm

from pointseg.words import duration

__all__ = ["TrainingProgress"]

log = logging.getLogger(__name__)


class TrainingProgress(ProgressBar):
    """A bar on a terminal, a line an epoch elsewhere; also measures the throughput that is logged."""

    def __init__(self) -> None:
        super().__init__()
        self._bar: tqdm[Any] | None = None
        self._points = 0
        self._loss = float("nan")
        self._epoch_began = self._training_seconds = 0.0
        self._loss_sum, self._steps = 0.0, 0

    def disable(self) -> None:  # Lightning disables the bar on every rank but the first
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    _enabled = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        self._began, self._first_step = time.perf_counter(), trainer.global_step
        if self._enabled and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=trainer.global_step, unit="step", dynamic_ncols=True, smoothing=0.1)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._points, self._epoch_began = 0, time.perf_counter()
        self._loss_sum, self._steps = 0.0, 0
        if self._bar is not None:
            self._bar.set_description(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}")

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
        self._training_seconds = time.perf_counter() - self._epoch_began

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = self._training_seconds or time.perf_counter() - self._epoch_began
        self._training_seconds = 0.0
        if seconds > 0 and self._points:  # none where a run is resumed into a validation
            pl_module.log(
                "train/points_per_s", torch.tensor(self._points * trainer.world_size / seconds), rank_zero_only=True
            )
        if self._bar is None and self._enabled and self._steps:
            done = trainer.global_step - self._first_step
            left = int(trainer.num_training_batches) * int(trainer.max_epochs or 1) - trainer.global_step
            remaining = (time.perf_counter() - self._began) / max(done, 1) * left
            log.info(
                "epoch %d/%s  %s  %s left",
                trainer.current_epoch + 1,
                trainer.max_epochs,
                self._figures(trainer),
                duration(remaining),
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # Lightning calls that only after success

    def _figures(self, trainer: pl.Trainer) -> str:
        """Mean loss of the epoch so far, and the newest validation score."""
        miou = trainer.callback_metrics.get("val/miou")
        scored = f"  val mIoU {100 * float(miou):.1f} %" if miou is not None else ""
        return f"loss {self._loss_sum / max(self._steps, 1):.3f}{scored}"
