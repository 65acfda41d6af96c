"""The learning curve of a run as a small table beside its checkpoints: what a report draws, also without tracking."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from pointseg.errors import CheckpointError
from pointseg.files import whole_file

__all__ = ["KeepHistory", "read_history"]

Row = dict[str, float]


class KeepHistory(Checkpoint):
    """Writes history.csv after every epoch: epoch (from 1), step, then every figure that the epoch logged, such as
    train/loss and, where it was validated, val/miou.

    A `Checkpoint`, since Lightning calls those after the module has logged its last figures. It stands before the
    callback that writes last.ckpt: an epoch that is trained once more replaces its row. The loss of an epoch that was
    stopped and resumed is that of its steps since then.

    Args:
        path: the file.
        resume: keep the rows that are there, up to the epoch that is trained next.

    Raises:
        CheckpointError: if the rows to keep cannot be read.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._path = path
        self._rows = read_history(path) if resume else []
        self._validated = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        # Lightning keeps the figures of the last validation: a row has them only where they are its own
        own = {k: float(v) for k, v in trainer.callback_metrics.items() if self._validated or not k.startswith("val/")}
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
    """The rows of a history.csv, by epoch; figures that an epoch did not log are left out. [] where there is no file.

    Raises:
        CheckpointError: if it is not such a table.

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
            remedy="Move the file away: nothing but the curve is lost.",
        ) from error
    return sorted(rows, key=lambda row: row["epoch"])
