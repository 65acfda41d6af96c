"""What happens around training: best and last checkpoint, whole or not there, and stopping on Ctrl-C without losing work."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint, WeightAveraging

from pointseg.bundle import read_checkpoint
from pointseg.errors import PointsegError
from pointseg.files import whole_file

__all__ = ["Interrupted", "KeepBestAndLast", "StopOnSignal", "WholeCheckpoints"]


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


class KeepBestAndLast(Checkpoint):
    """Writes last.ckpt after every epoch, and best.ckpt where it is the best so far.

    Lightning's own ModelCheckpoint writes last.ckpt only where it writes best.ckpt.

    Args:
        best, last: the files.
        monitor: the validation score that tells the best, the larger the better; None takes every epoch. So does a run
            until its first validation, so that there is always a best.
    """

    def __init__(self, best: Path, last: Path, monitor: str | None) -> None:
        self._best, self._last, self._monitor = best, last, monitor
        self._score: float | None = None
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        better = self._score is None
        if self._validated and self._monitor is not None:
            score = float(trainer.callback_metrics[self._monitor])
            better = self._score is None or score > self._score
            self._score = score if better else self._score
        self._validated = False
        if better:
            trainer.save_checkpoint(self._best)
        trainer.save_checkpoint(self._last)

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self._monitor, "score": self._score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["monitor"] == self._monitor:
            self._score = state_dict["score"]


class StopOnSignal(Checkpoint):
    """On Ctrl-C or SIGTERM: finish the batch in work, write last.ckpt, and stop; a second signal stops at once.

    Where several processes train, one that is asked to stop tells the others after the batch, so that all stop there.

    A `Checkpoint`, since Lightning calls those after all other callbacks: so what is written holds the newest averaged
    weights. It stands behind `KeepBestAndLast`, which writes at the end of an epoch.
    """

    def __init__(self, last: Path, run_folder: Path) -> None:
        self._last, self._run_folder = last, run_folder
        self._requested: str | None = None
        self._validating = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Around `Trainer.fit`, which remembers and puts back the handlers that it finds."""
        previous = self._listen()
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _listen(self) -> dict[int, Any]:
        if threading.current_thread() is not threading.main_thread():
            return {}
        return {number: signal.signal(number, self._request) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._listen()  # once more: Lightning has put its own before ours on SIGTERM, which leaves without a checkpoint

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise Interrupted(
                f"stopped at once by {signal.Signals(number).name}",
                remedy=self._remedy() if self._last.exists() else "There is no checkpoint yet.",
            )
        self._requested = signal.Signals(number).name
        print("\nStopping after this batch; once more to stop at once.", flush=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._asked(trainer) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stop(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validating = True
        if self._asked(trainer):
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # several processes may score other numbers of scans: they stop together after the last one
        if self._requested and trainer.world_size == 1:
            # give the trained weights back that averaging took out for scoring
            for callback in getattr(trainer, "callbacks", ()):
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validating = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._asked(trainer):
            self._stop(trainer, written=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Of a stop in validation: what Lightning itself keeps if the first scan fails. It validates again from the
        first scan then, and would otherwise skip the validation or count only some of its scans."""
        if self._validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for counts in (progress["current"], progress["total"]):
                counts.update(ready=1, started=1, processed=0, completed=0)
            progress["is_last_batch"] = False

    def _asked(self, trainer: pl.Trainer) -> bool:
        """Whether this process, or another one that it trains with, was asked to stop."""
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(self._requested is not None, all=False):
            self._requested = self._requested or "another process"
        return self._requested is not None

    def _stop(self, trainer: pl.Trainer, *, written: bool = False) -> None:
        if not written:
            trainer.save_checkpoint(self._last)
        raise Interrupted(
            f"stopped by {self._requested} in epoch {trainer.current_epoch + 1}, nothing is lost",
            remedy=self._remedy(),
        )

    def _remedy(self) -> str:
        return f"Go on with: python -m pointseg.train {shlex.quote(f'resume={self._run_folder}')}"
