"""Which points of a training cloud the loss looks at; the others are there to be seen around them.

Legend: B clouds, N points, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.core.limits import require_at_least, require_between
from pointseg.core.randomness import Purpose, derive, uniform

__all__ = ["TrainedPoints"]


@dataclass(frozen=True)
class TrainedPoints:
    """Chooses among the labelled points of each cloud, so that layers that work on single points need not see all.

    Args:
        count: points of a cloud; 0 takes all.
        balance: a point is drawn in proportion to 1 / n^balance, where n is how many points of its cloud have its class:
            0 draws all alike, 1 all classes alike (weighted sampling without replacement: Efraimidis and Spirakis 2006).

    Raises:
        ConfigError: for a negative count, or a balance outside 0 to 1.

    Example:
        >>> TrainedPoints(16384, balance=0.5)(labels_BN, keys_B).bool().sum(dim=1)
        tensor([16384, 16384])
    """

    count: int = 0
    balance: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(self.count, 0, "data.trained.count")
        require_between(self.balance, 0, 1, "data.trained.balance")

    @property
    def active(self) -> bool:
        """Whether anything is left out."""
        return self.count > 0

    def __call__(self, labels_BN: Tensor, keys_B: Tensor) -> Tensor:
        """Labels (B, N) of the chosen points, 0 elsewhere.

        Args:
            labels_BN: training ids, 0 = ignored or padded.
            keys_B: of the clouds; the draw depends on them alone.
        """
        streams_B = derive(keys_B, torch.full_like(keys_B, int(Purpose.TRAINED_POINTS)))
        counters_N = torch.arange(labels_BN.shape[1], device=labels_BN.device)
        waits_BN = -torch.log1p(-uniform(derive(streams_B[:, None], counters_N[None])).double())  # exponential
        kept_BN = torch.zeros_like(labels_BN)
        for labels_N, waits_N, kept_N in zip(labels_BN, waits_BN, kept_BN, strict=True):
            labelled = labels_N.nonzero()[:, 0]
            classes = labels_N[labelled]
            waits = waits_N[labelled] * torch.bincount(classes).double().pow(self.balance)[classes]
            chosen = labelled[torch.topk(waits, min(self.count, len(labelled)), largest=False, sorted=False).indices]
            kept_N[chosen] = labels_N[chosen]
        return kept_BN
