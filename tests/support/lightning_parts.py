"""Somebody's own parts of a training, named by `_target_` in tests: a callback, a term of the loss."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from pointseg.data.batches import Batch
from pointseg.engine.losses import LossTerm


class CountSteps(Callback):
    """Writes how many optimizer steps a training took."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.file.write_text(str(trainer.global_step))


class Confidence(LossTerm):
    """How undecided the labelled points are: the mean entropy of their classes."""

    def normaliser(self, batch: Batch) -> Tensor:
        return (batch.labels > 0).sum()

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        logarithms = logits_BNK[batch.labels > 0].log_softmax(1)
        return -(logarithms.exp() * logarithms).sum()
