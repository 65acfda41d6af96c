"""Loss terms on rows of logits, as sums with their normalisers, and class weights.

A term is returned unnormalised where ranks or accumulated batches must add up: dividing the whole batch's sum by the
whole batch's normaliser is what makes the split of a batch irrelevant. Labels are training ids, 0 = ignored, so class k
is logit k - 1. Legend: M points, N points of one cloud, K classes.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pointseg.errors import ConfigError

__all__ = ["CLASS_WEIGHTINGS", "class_weights", "cross_entropy_sum", "lovasz_softmax", "lovasz_sum"]

CLASS_WEIGHTINGS = ("none", "inverse", "sqrt_inverse", "effective_number")


def class_weights(
    counts: NDArray[np.int64] | Sequence[int], weighting: str = "sqrt_inverse", *, beta: float = 0.999999
) -> NDArray[np.float32]:
    """Weights (K,) of the classes from their point counts (K,) in the training split, with mean 1 over classes present.

    - none: 1;
    - inverse: 1 / frequency;
    - sqrt_inverse: 1 / sqrt(frequency);
    - effective_number: (1 - beta) / (1 - beta^count) (Cui et al., "Class-Balanced Loss", CVPR 2019).

    A class without a point gets weight 0: it occurs in no loss term.

    Raises:
        ConfigError: for another weighting, or when no class has a point.

    Example:
        >>> class_weights([900, 100], "inverse")
        array([0.2, 1.8], dtype=float32)
    """
    counts = np.asarray(counts, np.float64)
    present = counts > 0
    if weighting not in CLASS_WEIGHTINGS:
        near = difflib.get_close_matches(str(weighting), CLASS_WEIGHTINGS, 1)
        raise ConfigError(
            f"there is no class weighting {weighting!r}",
            where="loss.class_weighting",
            remedy=(f"Did you mean {near[0]!r}? " if near else "") + f"Use {', '.join(CLASS_WEIGHTINGS)}.",
        )
    if not present.any():
        raise ConfigError("no point of the training split has a class", where="data", remedy="Check data.labels.")
    known = counts[present]
    raw = {
        "none": lambda: np.ones_like(known),
        "inverse": lambda: known.sum() / known,
        "sqrt_inverse": lambda: np.sqrt(known.sum() / known),
        "effective_number": lambda: (1 - beta) / -np.expm1(known * np.log(beta)),
    }[weighting]()
    weights = np.zeros(len(counts), np.float32)
    weights[present] = raw / raw.mean()
    return weights


def cross_entropy_sum(
    logits_MK: Tensor, labels_M: Tensor, weights_K: Tensor | None = None, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy summed over the labelled points, and the sum of their weights.

    sum / weight sum equals torch's weighted mean. Computed in float32 or better whatever the logits are.
    """
    logits_MK = logits_MK.to(torch.promote_types(logits_MK.dtype, torch.float32))
    targets_M = labels_M - 1
    loss = F.cross_entropy(
        logits_MK, targets_M, weights_K, ignore_index=-1, reduction="sum", label_smoothing=label_smoothing
    )
    labelled_M = targets_M >= 0
    if weights_K is None:
        return loss, labelled_M.sum().to(loss.dtype)
    return loss, torch.where(labelled_M, weights_K[targets_M.clamp(min=0)], 0.0).sum().to(loss.dtype)


def lovasz_softmax(probabilities_NK: Tensor, labels_N: Tensor) -> Tensor:
    """Lovasz-softmax of one cloud (Berman, Triki, Blaschko, CVPR 2018, algorithm 1): mean over the classes present.

    Args:
        probabilities_NK: after the softmax.
        labels_N: training ids; ignored points must be left out before. An empty cloud gives 0.
    """
    classes = torch.unique(labels_N)
    if len(classes) == 0:
        return probabilities_NK.sum() * 0.0
    truth_NC = (labels_N[:, None] == classes[None, :]).to(probabilities_NK.dtype)
    errors_NC = (truth_NC - probabilities_NK[:, classes - 1]).abs()
    errors_NC, order_NC = torch.sort(errors_NC, dim=0, descending=True)
    truth_NC = truth_NC.gather(0, order_NC)
    total_C = truth_NC.sum(dim=0)
    intersection_NC = total_C - truth_NC.cumsum(dim=0)
    union_NC = total_C + (1.0 - truth_NC).cumsum(dim=0)
    jaccard_NC = 1.0 - intersection_NC / union_NC
    gradient_NC = torch.cat([jaccard_NC[:1], jaccard_NC[1:] - jaccard_NC[:-1]])
    return (errors_NC * gradient_NC).sum(dim=0).mean()


def lovasz_sum(logits_BNK: Tensor, labels_BN: Tensor) -> Tensor:
    """Sum over clouds of `lovasz_softmax` on each cloud's labelled points; a cloud without any adds 0."""
    logits_BNK = logits_BNK.to(torch.promote_types(logits_BNK.dtype, torch.float32))
    terms = []
    for logits_NK, labels_N in zip(logits_BNK, labels_BN, strict=True):
        labelled_N = labels_N > 0
        terms.append(lovasz_softmax(torch.softmax(logits_NK[labelled_N], dim=1), labels_N[labelled_N]))
    return torch.stack(terms).sum()
