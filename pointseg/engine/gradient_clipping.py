"""Gradient clipping for a module with manual optimization, which also honours the settings of a `pl.Trainer`."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import nn

from pointseg.core.errors import ConfigError

__all__ = ["GradientClipping"]


class GradientClipping:
    """Clips the gradient of a module's parameters.

    Lightning refuses `Trainer(gradient_clip_val=...)` and `Trainer(accumulate_grad_batches=...)` with manual optimization.
    So the clipping is taken over from the trainer before it checks, and given back afterwards.

    Args:
        limit: largest norm of the whole gradient; None for no limit. The trainer's own setting takes precedence.
    """

    def __init__(self, limit: float | None) -> None:
        self._default = self._limit = limit
        self._by_value = False
        self._of_trainer: float | None = None

    def take_over(self, trainer: pl.Trainer) -> None:
        """Take the limit from a trainer that is about to check its settings.

        Raises:
            ConfigError: if it accumulates batches, each of which would be normalised separately.
        """
        if trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                "the loss is normalised over the whole batch of a step, and accumulated batches would not be",
                where=f"Trainer(accumulate_grad_batches={trainer.accumulate_grad_batches})",
                remedy="Leave it out; set SegmentationModule(accumulate=N), which trains a batch in N parts, and a larger "
                "batch_size of the data.",
            )
        self._of_trainer, trainer.gradient_clip_val = trainer.gradient_clip_val, None
        self._limit = self._default if self._of_trainer is None else float(self._of_trainer)
        self._by_value = self._of_trainer is not None and trainer.gradient_clip_algorithm == "value"

    def give_back(self, trainer: pl.Trainer) -> None:
        """Restore the trainer's limit, for the next module that it trains."""
        trainer.gradient_clip_val = self._of_trainer

    def __call__(self, module: pl.LightningModule, optimizer: LightningOptimizer) -> None:
        """Clip, before the optimizer's step."""
        if not self._limit:
            return
        scaler = getattr(module.trainer.precision_plugin, "scaler", None)
        if scaler is not None:  # 16-mixed scales the gradients
            scaler.unscale_(optimizer.optimizer)
        if self._by_value:
            nn.utils.clip_grad_value_(module.parameters(), self._limit)
        else:
            nn.utils.clip_grad_norm_(module.parameters(), self._limit)
