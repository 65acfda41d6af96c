"""How long and on what to train: the `trainer` section of the configuration. Light: `--help` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import FURTHER, key
from pointseg.core.errors import ConfigError

__all__ = ["ACCELERATORS", "MONITORS", "TrainerSettings"]

ACCELERATORS = ("auto", "cpu", "gpu")
MONITORS = ("val/miou", "val/miou_present", "val/accuracy")


@dataclass
class TrainerSettings:
    """How long and on what to train, and what is kept.

    Example:
        >>> TrainerSettings(max_epochs=20, options={"profiler": "simple"})
    """

    max_epochs: int | None = key(
        5, "epochs to train; an epoch takes clouds_per_scan clouds of every training scan; null: until max_steps"
    )
    accelerator: str = key("auto", "device to train on", choices=ACCELERATORS)
    precision: str = key(
        "auto", "of the arithmetic: auto, native (bf16-mixed also on a processor that has it), 32-true or bf16-mixed"
    )
    accumulate_grad_batches: int = key(
        1, "parts in which the batch of a step goes through the model, to save memory; batch_size stays what it is"
    )
    gradient_clip_val: float | None = key(5.0, "largest norm of the whole gradient; null: no clipping")
    check_val_every_n_epoch: int | None = key(1, "epochs between two validations")
    monitor: str | None = key(
        "val/miou", "score that chooses best.ckpt; null: best.ckpt is the last epoch", choices=MONITORS
    )
    ema_decay: float | None = key(0.98, "decay of the exponential moving average of the weights; null: no average")
    checkpoint_minutes: float | None = key(
        5.0, "minutes after which last.ckpt is written within an epoch, too; null: at the end of epochs only"
    )
    limit_train_batches: int | float | None = key(
        None, "batches of an epoch at most, or a share of them, for quick tries"
    )
    limit_val_batches: int | float | None = key(None, "scans of a validation at most, or a share of them")
    options: dict[str, Any] = key({}, "any other option of pytorch_lightning.Trainer: trainer.profiler=simple", FURTHER)

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Refuse values that cannot be used.

        Raises:
            ConfigError: naming the key.
        """
        for name in ("accumulate_grad_batches", "max_epochs", "check_val_every_n_epoch"):
            value = getattr(self, name)
            instead = {"max_epochs": "max_steps", "check_val_every_n_epoch": "val_check_interval"}.get(name)
            if value is None and not self.options.get(str(instead)):
                remedy = f"Give one, or trainer.{instead}." if instead else ""
                raise ConfigError("a number is needed", where=f"trainer.{name}", remedy=remedy)
            if value is not None and value < 1:
                raise ConfigError(f"{value} is less than 1", where=f"trainer.{name}")
        for name in ("limit_train_batches", "limit_val_batches"):
            value = getattr(self, name)
            if value is not None and not (value >= 1 if isinstance(value, int) else 0 < value <= 1):
                what = "is less than 1" if isinstance(value, int) else "is not a share between 0 and 1"
                raise ConfigError(f"{value} {what}", where=f"trainer.{name}")
        if self.checkpoint_minutes is not None and not self.checkpoint_minutes > 0:
            raise ConfigError(f"{self.checkpoint_minutes} is not positive", where="trainer.checkpoint_minutes")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ConfigError(f"{self.ema_decay} is not between 0 and 1", where="trainer.ema_decay")
        if self.gradient_clip_val is not None and self.gradient_clip_val < 0:
            raise ConfigError(f"{self.gradient_clip_val} is negative", where="trainer.gradient_clip_val")
