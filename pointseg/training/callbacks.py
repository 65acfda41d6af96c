"""What happens around training: stopping on Ctrl-C without losing work, and checkpoints that are whole or not there."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, WeightAveraging

from pointseg.bundle import read_checkpoint
from pointseg.errors import PointsegError
from pointseg.files import whole_file

__all__ = ["Interrupted", "StopOnSignal", "WholeCheckpoints"]


class Interrupted(PointsegError):
    """Training was stopped by a signal; a checkpoint to go on from was written."""

    exit_code = 130


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, flushes it and renames it; reads without executing code.

    Args:
        on_first_save: called once, before the first checkpoint takes its place.
    """

    def __init__(self, on_first_save: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._on_first_save = on_first_save

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if self._on_first_save is not None:
            self._on_first_save()
            self._on_first_save = None
        with whole_file(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read_checkpoint(path)


class StopOnSignal(Callback):
    """On Ctrl-C or SIGTERM: finish the batch in work, write last.ckpt, and stop; a second signal stops at once.

    It stands after weight averaging in the list of callbacks, so that the checkpoint holds the newest average.
    """

    def __init__(self, last: Path, run_folder: Path) -> None:
        self._last, self._run_folder = last, run_folder
        self._requested: str | None = None
        self._previous: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._request)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise KeyboardInterrupt
        self._requested = signal.Signals(number).name
        print("\nStopping after this batch; once more to stop at once.", flush=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._requested:
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._requested:
            for callback in getattr(
                trainer, "callbacks", []
            ):  # give the trained weights back that averaging took out for scoring
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._stop(trainer)

    def _stop(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self._last)
        raise Interrupted(
            f"stopped by {self._requested} in epoch {trainer.current_epoch + 1}, nothing is lost",
            remedy=f"Go on with: python -m pointseg.train {shlex.quote(f'resume={self._run_folder}')}",
        )
