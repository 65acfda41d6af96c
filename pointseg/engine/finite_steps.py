"""Steps of a training whose loss or gradient is not finite: left out, counted, and after some in a row the end."""

from __future__ import annotations

import logging

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from pointseg.core.errors import Diverged

__all__ = ["FiniteSteps"]

log = logging.getLogger(__name__)

MOST_IN_A_ROW = 10
NAMED = 3  # of those left out, how many are reported one by one


class FiniteSteps:
    """Keeps a step that is not finite out of weights and BatchNorm statistics. All processes of a training decide alike,
    for they see the same sums.

    Args:
        most_in_a_row: steps left out one after the other, until the training is stopped.

    Attributes:
        left_out: steps, so far.
        in_a_row: steps left out since the last good one.
    """

    def __init__(self, most_in_a_row: int = MOST_IN_A_ROW) -> None:
        self.most_in_a_row, self.left_out, self.in_a_row = most_in_a_row, 0, 0
        self._statistics: list[Tensor] = []

    def remember(self, module: pl.LightningModule) -> None:
        """Keep the statistics as they are before a step's forward pass."""
        self._statistics = [buffer.clone() for buffer in _statistics_of(module)]

    def __call__(self, module: pl.LightningModule, terms: Tensor) -> bool:
        """Whether a step is taken; if not, its gradient is removed and the statistics are put back.

        Args:
            terms: of the loss, summed over all processes.

        Raises:
            Diverged: after `most_in_a_row` that were not.
        """
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        scaler = getattr(module.trainer.precision_plugin, "scaler", None)
        finite = terms.isfinite().all()
        if scaler is None:  # which looks at the gradient itself, and lowers its scale
            finite = finite & nn.utils.get_total_norm(gradients).isfinite()
        if bool(finite):
            self.in_a_row = 0
            return True
        self._leave_out(module, scaler is None)
        return False

    def _leave_out(self, module: pl.LightningModule, remove: bool) -> None:
        self.left_out, self.in_a_row = self.left_out + 1, self.in_a_row + 1
        if remove:
            for parameter in module.parameters():
                parameter.grad = None
        with torch.no_grad():
            for buffer, before in zip(_statistics_of(module), self._statistics, strict=True):
                buffer.copy_(before)
        epoch = module.trainer.current_epoch + 1
        if self.left_out <= NAMED:
            log.warning("A step of epoch %d is left out: its loss or gradient is not finite", epoch)
        if self.in_a_row >= self.most_in_a_row:
            self.refuse(module)

    @property
    def failing(self) -> bool:
        """Whether the steps have stopped being finite: one that was left out leaves good weights, several do not."""
        return self.in_a_row > 1

    def refuse(self, module: pl.LightningModule) -> None:
        """Raise Diverged if the steps have stopped being finite."""
        if not self.failing:
            return
        raise Diverged(
            f"the last {self.in_a_row} steps had a loss or gradient that is not finite",
            where=f"epoch {module.trainer.current_epoch + 1}",
            remedy="Lower optimizer.lr or trainer.gradient_clip_val, or set trainer.precision=32. checkpoints/ has the last "
            "good epoch, if there was one.",
        )


def _statistics_of(module: nn.Module) -> list[Tensor]:
    norms = (one for one in module.modules() if isinstance(one, nn.modules.batchnorm._NormBase))
    return [buffer for norm in norms for buffer in norm.buffers(recurse=False)]
