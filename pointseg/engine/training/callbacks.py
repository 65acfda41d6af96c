"""Lightning callbacks of a run: best and last checkpoint, stopping on Ctrl-C without losing work, ending a bad run early."""

from __future__ import annotations

import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, Checkpoint, WeightAveraging

from pointseg.core.errors import OutputError, PointsegError
from pointseg.core.files import free_space, whole_file
from pointseg.engine.bundle import read_checkpoint
from pointseg.engine.segmentation_module import SegmentationModule

__all__ = ["EndEarly", "Interrupted", "KeepBestAndLast", "KeepWithinEpochs", "StopOnSignal", "WholeCheckpoints"]


class Interrupted(PointsegError):
    """A signal stopped the training, which can resume from its last checkpoint."""

    exit_code = 130


class WholeCheckpoints(TorchCheckpointIO):
    """Writes checkpoints whole or not at all, and reads them without executing code.

    Args:
        on_first_save: called once, before the first checkpoint is written.
    """

    def __init__(self, on_first_save: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._on_first_save = on_first_save

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if self._on_first_save is not None:
            self._on_first_save()
            self._on_first_save = None
        with whole_file(Path(path)) as temporary:
            try:
                torch.save(checkpoint, temporary)
            except RuntimeError as error:  # torch's own for a disk that is full, read-only or gone
                free = free_space(temporary.parent)
                left = "" if free is None else f"; the disk has {free / 1e6:,.0f} MB left"
                raise OutputError(
                    f"the checkpoint cannot be written{left}",
                    where=path,
                    remedy="The one before is whole: make room, then go on with resume=.",
                ) from error

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return read_checkpoint(path)


class KeepBestAndLast(Checkpoint):
    """Writes last.ckpt after every epoch, and best.ckpt after the best epoch so far.

    Lightning's ModelCheckpoint writes last.ckpt only together with best.ckpt.

    Args:
        monitor: the validation score to maximise; None makes every epoch the best. Until the first validation every epoch is
            the best, so there is always a best.ckpt.
    """

    def __init__(self, best: Path, last: Path, monitor: str | None) -> None:
        self._best, self._last, self._monitor = best, last, monitor
        self._score: float | None = None
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        self._validated = True
        within = not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if within and self._monitor is not None and self._is_best(trainer):  # other weights than at the epoch's end
            trainer.save_checkpoint(self._best)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if isinstance(pl_module, SegmentationModule) and pl_module.finite.failing:
            return  # the checkpoints of the epoch before are good
        if self._is_best(trainer):
            trainer.save_checkpoint(self._best)
        trainer.save_checkpoint(self._last)

    def _is_best(self, trainer: pl.Trainer) -> bool:
        better = self._score is None
        if self._validated and self._monitor is not None:
            score = float(trainer.callback_metrics[self._monitor])
            better = self._score is None or score > self._score
            self._score = score if better else self._score
        self._validated = False
        return better

    def state_dict(self) -> dict[str, Any]:
        return {"monitor": self._monitor, "score": self._score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict["monitor"] == self._monitor:
            self._score = state_dict["score"]


class KeepWithinEpochs(Checkpoint):
    """Writes last.ckpt within an epoch, too, so that a run that is killed loses minutes and not an epoch.

    With several processes, all write at the batch where the first of them finds it due.

    Args:
        minutes: between two of them.
    """

    def __init__(self, last: Path, minutes: float) -> None:
        self._last, self._seconds = last, 60 * minutes
        self._written = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._written = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        due = time.monotonic() - self._written >= self._seconds
        if trainer.world_size > 1:
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        failing = isinstance(pl_module, SegmentationModule) and pl_module.finite.failing
        if due and not failing and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            trainer.save_checkpoint(self._last)
            self._written = time.monotonic()


class StopOnSignal(Checkpoint):
    """On Ctrl-C or SIGTERM: finish the batch, write last.ckpt and stop; a second signal stops at once.

    With several processes, one that is asked to stop tells the others after the batch, so that all stop there.

    A `Checkpoint`, because Lightning calls those after all other callbacks, when the averaged weights are up to date. It must
    follow `KeepBestAndLast`, which writes at the end of an epoch.
    """

    def __init__(self, last: Path, run_folder: Path) -> None:
        self._last, self._run_folder = last, run_folder
        self._requested: str | None = None
        self._validating = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals during `Trainer.fit`, which saves and restores the handlers that it finds."""
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
        self._listen()  # again: Lightning has installed its own handler of SIGTERM, which writes no checkpoint

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self._requested:
            raise Interrupted(
                f"stopped at once by {signal.Signals(number).name}",
                remedy=self._remedy() if self._last.exists() else "There is no checkpoint yet.",
            )
        self._requested = signal.Signals(number).name
        print("\nStopping after this batch; once more to stop at once.", flush=True)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if self._stop_requested(trainer) and not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stop(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validating = True
        if self._stop_requested(trainer):
            self._stop(trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        # processes may score different numbers of scans, so several of them stop together after the last one
        if self._requested and trainer.world_size == 1:
            # restore the trained weights, which averaging replaced for scoring
            for callback in getattr(trainer, "callbacks", ()):
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, pl_module)
            self._stop(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validating = False

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._stop_requested(trainer):
            self._stop(trainer, written=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """For a stop in validation, save the progress that Lightning saves if the first scan fails. Resuming then validates
        from the first scan, instead of skipping scans or the whole validation."""
        if self._validating:
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            for counts in (progress["current"], progress["total"]):
                counts.update(ready=1, started=1, processed=0, completed=0)
            progress["is_last_batch"] = False

    def _stop_requested(self, trainer: pl.Trainer) -> bool:
        """Whether this process, or another one of the training, was asked to stop."""
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


class EndEarly(Callback):
    """Ends a training that falls behind others with the current epoch, as if it were the last.

    Args:
        falls_behind: takes the number of a validation, from 1, and its score; called by the first process only.
        monitor: the score.

    Attributes:
        ended_after: the number of the validation after which the training ended; None if it did not end early.
    """

    def __init__(self, falls_behind: Callable[[int, float], bool], monitor: str) -> None:
        self._falls_behind, self._monitor = falls_behind, monitor
        self._validated = False
        self.ended_after: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._validated:
            return
        self._validated = False
        epochs, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch or 1
        if epochs + every > (trainer.max_epochs or epochs):  # the last validation
            return
        number = epochs // every
        behind = trainer.is_global_zero and self._falls_behind(number, float(trainer.callback_metrics[self._monitor]))
        if trainer.world_size > 1:
            behind = trainer.strategy.reduce_boolean_decision(behind, all=False)
        if behind:
            self.ended_after = number
            trainer.should_stop = True
