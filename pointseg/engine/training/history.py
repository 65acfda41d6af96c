"""The learning curve of a run as a small table beside its checkpoints, which reports draw even without tracking."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from pointseg.core.errors import CheckpointError
from pointseg.core.files import whole_file

__all__ = ["KeepHistory", "read_history"]

Row = dict[str, float]


class KeepHistory(Checkpoint):
    """Writes history.csv after every epoch: epoch (from 1), step, and every metric that the epoch logged.

    A `Checkpoint`, because Lightning calls those after the module has logged its last metrics. It must precede the callback
    that writes last.ckpt: an epoch that is trained again replaces its row. The loss of a resumed epoch is that of the steps
    after resuming.

    Args:
        resume: keep the existing rows up to the epoch that is trained next.

    Raises:
        CheckpointError: if the rows to keep cannot be read.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._rows = read_history(path) if resume else []
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        # metrics of single steps, and those that Lightning keeps of an earlier validation, are not the epoch's
        left_out = ("_step",) if self._validated else ("_step", "val/")
        metrics = trainer.callback_metrics.items()
        own = {k: float(v) for k, v in metrics if not (k.endswith(left_out) or k.startswith(left_out))}
        self._validated = False
        row = {"epoch": float(epoch), "step": float(trainer.global_step), **own}
        self._rows = [*(earlier for earlier in self._rows if earlier["epoch"] < epoch), row]
        if trainer.is_global_zero:
            _write(self._path, self._rows)

    def state_dict(self) -> dict[str, Any]:
        return {}  # the file is the state


def _write(path: Path, rows: Sequence[Row]) -> None:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: int(v) if k in ("epoch", "step") else repr(v) for k, v in row.items()})


def read_history(path: str | Path) -> list[Row]:
    """The rows of a history.csv by epoch, without metrics that an epoch did not log; [] if there is no file.

    Raises:
        CheckpointError: if the file is something else.

    Example:
        >>> read_history("outputs/2026-11-21/10-15-00/history.csv")[-1]["val/miou"]
    """
    path = Path(path)
    if not path.is_file():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [{k: float(v) for k, v in row.items() if v != ""} for row in csv.DictReader(file, strict=True)]
        if any(not math.isfinite(row["epoch"]) for row in rows):
            raise ValueError("an epoch without a number")
    except (OSError, ValueError, TypeError, KeyError, csv.Error) as error:
        raise CheckpointError(
            f"the learning curve cannot be read ({type(error).__name__}: {error})",
            where=path,
            remedy="Move the file away: only the curve is lost.",
        ) from error
    return sorted(rows, key=lambda row: row["epoch"])
