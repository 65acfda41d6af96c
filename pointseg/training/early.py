"""Ending a training early that falls behind others."""

from __future__ import annotations

from collections.abc import Callable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

__all__ = ["EndEarly"]


class EndEarly(Callback):
    """After every validation asks whether the training falls behind; if so it ends with this epoch, as if it were the last.

    Args:
        falls_behind: takes the number of the validation, from 1, and its score; asked by the first process only.
        monitor: the score.

    Attributes:
        ended_after: the number of the validation after which it ended; None where it went on.
    """

    def __init__(self, falls_behind: Callable[[int, float], bool], monitor: str) -> None:
        self._falls_behind, self._monitor = falls_behind, monitor
        self._validated = False
        self.ended_after: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._validated:
            return
        self._validated = False
        epochs, every = trainer.current_epoch + 1, trainer.check_val_every_n_epoch or 1
        if epochs + every > (trainer.max_epochs or epochs):  # the last one: it has come to its end
            return
        number = epochs // every
        behind = trainer.is_global_zero and self._falls_behind(number, float(trainer.callback_metrics[self._monitor]))
        if trainer.world_size > 1:
            behind = trainer.strategy.reduce_boolean_decision(behind, all=False)
        if behind:
            self.ended_after = number
            trainer.should_stop = True
