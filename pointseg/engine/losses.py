"""The terms of the loss, each a sum and its normaliser, and class weights.

A term gives a sum, which is divided by the normaliser of the whole batch, so the result does not depend on how ranks and
accumulation split the batch. Labels are training ids, 0 = ignored, so class k is logit k - 1.
Legend: B clouds, M points, N points of one cloud, K classes, T terms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.core.errors import ConfigError
from pointseg.core.targets import build, is_target, nearest, target
from pointseg.data.batches import Batch
from pointseg.models.base import SegmentationModel
from pointseg.models.outputs import TrainingOutputs

__all__ = [
    "CLASS_WEIGHTINGS",
    "CrossEntropy",
    "Focal",
    "LossTerm",
    "LovaszSoftmax",
    "ModelPenalty",
    "WeightedLoss",
    "build_loss",
    "class_weights",
    "cross_entropy_sum",
    "default_loss",
    "lovasz_softmax",
    "lovasz_sum",
]

CLASS_WEIGHTINGS = ("none", "inverse", "sqrt_inverse", "effective_number")
Counts = NDArray[np.int64] | Sequence[int]


class LossTerm(nn.Module):
    """A term of the loss: `weight` times its sum over the batch, divided by its normaliser of the batch.

    Its parameters, if it has any, are trained like those of the model.

    Args:
        weight: a term of weight 0 is not computed.

    Example:
        >>> class Focal(LossTerm):
        ...     def normaliser(self, batch):
        ...         return (batch.labels > 0).sum()
        ...     def forward(self, logits_BNK, batch, penalty):
        ...         labelled = batch.labels > 0
        ...         likely_M = logits_BNK[labelled].log_softmax(1).gather(1, batch.labels[labelled][:, None] - 1)
        ...         return -((1 - likely_M.exp()) ** 2 * likely_M).sum()
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight

    def normaliser(self, batch: Batch) -> Tensor:
        """What a part of a batch adds to the divisor, a scalar: by default, its number of clouds."""
        return torch.tensor(float(len(batch.labels)), device=batch.labels.device)

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        """The sum over a part of a batch, a scalar.

        Args:
            logits_BNK: class k at k - 1.
            batch: labels (B, N), 0 = ignored or padded.
            penalty: the model's own regulariser, a mean over clouds.
        """
        raise TypeError(f"{type(self).__name__} does not implement forward")

    def check(self, model: SegmentationModel) -> None:
        """Refuse a model whose outputs the term cannot use.

        Raises:
            ConfigError: saying what the model lacks.
        """

    def of_outputs(self, outputs: TrainingOutputs, batch: Batch) -> Tensor:
        """The same, of all that the model gives; a term that looks at auxiliary heads implements it instead of `forward`."""
        value: Tensor = self(outputs.logits, batch, outputs.penalty)
        return value


class CrossEntropy(LossTerm):
    """Cross-entropy, a mean over the labelled points weighted by their classes.

    Args:
        class_weighting: how weights follow from `class_counts` (see `class_weights`).
        label_smoothing: share of a label that is spread evenly over the classes.
        class_counts: (K,) points of each class in the training split; None weighs all classes equally.
        per_class: (K,) weights in place of those of `class_counts`.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        weight: float = 1.0,
        *,
        class_weighting: str = "none",
        label_smoothing: float = 0.0,
        class_counts: Counts | None = None,
        per_class: Sequence[float] | Tensor | None = None,
    ) -> None:
        super().__init__(weight)
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"{label_smoothing} is not in [0, 1)", where="loss.cross_entropy.label_smoothing")
        self.label_smoothing = label_smoothing
        if per_class is None and class_counts is not None:
            per_class = torch.from_numpy(class_weights(class_counts, class_weighting))
        if per_class is not None:
            per_class = torch.as_tensor(per_class, dtype=torch.float32).clone()
        self.register_buffer("class_weights", per_class, persistent=False)  # computed from the data, not learned

    def normaliser(self, batch: Batch) -> Tensor:
        """The sum of the labelled points' weights."""
        if self.class_weights is None:
            return (batch.labels > 0).sum()
        return torch.cat([self.class_weights.new_zeros(1), self.class_weights])[batch.labels].sum()

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        logits_MK, labels_M = logits_BNK.flatten(0, 1), batch.labels.flatten()
        return cross_entropy_sum(logits_MK, labels_M, self.class_weights, label_smoothing=self.label_smoothing)[0]


class LovaszSoftmax(LossTerm):
    """Lovasz-softmax, a surrogate of the IoU: a mean over clouds (Berman, Triki, Blaschko, CVPR 2018)."""

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        return lovasz_sum(logits_BNK, batch.labels)


class Focal(LossTerm):
    """Focal loss, a mean over the labelled points: cross-entropy times (1 - p)^gamma, which looks less at points that are
    right already (Lin, Goyal, Girshick, He, Dollár, ICCV 2017)."""

    def __init__(self, weight: float = 1.0, *, gamma: float = 2.0) -> None:
        super().__init__(weight)
        if gamma < 0:
            raise ConfigError(f"{gamma} is negative", where="loss.focal.gamma")
        self.gamma = gamma

    def normaliser(self, batch: Batch) -> Tensor:
        """The number of labelled points."""
        return (batch.labels > 0).sum()

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        labelled_BN = batch.labels > 0
        log_MK = logits_BNK[labelled_BN].float().log_softmax(dim=1)
        log_M = log_MK.gather(1, batch.labels[labelled_BN][:, None] - 1)[:, 0]
        return -((1 - log_M.exp()).clamp(min=0) ** self.gamma * log_M).sum()


class ModelPenalty(LossTerm):
    """The model's own regulariser, such as that of PointNet's T-Nets: a mean over clouds."""

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        return penalty * len(batch.labels)


class WeightedLoss(nn.Module):
    """The weighted sum of terms; those of weight 0 are left out.

    Example:
        >>> loss = WeightedLoss({"cross_entropy": CrossEntropy(), "lovasz": LovaszSoftmax(0.5)})
        >>> loss.total(loss.shares(outputs, batch, loss.normalisers(batch)))
    """

    def __init__(self, terms: Mapping[str, LossTerm]) -> None:
        super().__init__()
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term.weight})
        self.weights = {name: term.weight for name, term in terms.items() if term.weight}
        if not self.weights:
            raise ConfigError("no term has a weight", where="loss", remedy="Set loss.cross_entropy.weight=1.")

    def check(self, model: SegmentationModel) -> None:
        """Refuse a model whose outputs a term cannot use; errors as of `LossTerm.check`."""
        for term in self.terms.values():
            term.check(model)  # type: ignore[operator]

    def normalisers(self, batch: Batch) -> Tensor:
        """(T,) what a part of a batch adds to the divisors."""
        own = [term.normaliser(batch) for term in self.terms.values()]  # type: ignore[operator]  # each is a LossTerm
        return torch.stack([value if value.is_floating_point() else value.float() for value in own])

    def shares(self, outputs: TrainingOutputs, batch: Batch, normalisers_T: Tensor) -> Tensor:
        """(T,) what a part of a batch contributes to the terms, with the normalisers of the whole batch."""
        sums = [term.of_outputs(outputs, batch) for term in self.terms.values()]  # type: ignore[operator]
        return torch.stack([value / normaliser for value, normaliser in zip(sums, normalisers_T, strict=True)])

    def total(self, shares_T: Tensor) -> Tensor:
        """The weighted sum of the terms, a scalar."""
        first, *others = (weight * share for weight, share in zip(self.weights.values(), shares_T, strict=True))
        return sum(others, start=first)


def default_loss(
    num_classes: int,
    *,
    class_weights: Sequence[float] | Tensor | None = None,
    label_smoothing: float = 0.0,
    lovasz: float = 0.0,
    penalty: float = 0.001,
) -> dict[str, LossTerm]:
    """Cross-entropy, Lovasz-softmax of weight `lovasz` and the model's own regulariser of weight `penalty`."""
    if class_weights is not None and len(class_weights) != num_classes:
        raise ConfigError(f"{len(class_weights)} class weights for {num_classes} classes", where="class_weights")
    cross_entropy = CrossEntropy(label_smoothing=label_smoothing, per_class=class_weights)
    return {"cross_entropy": cross_entropy, "lovasz": LovaszSoftmax(lovasz), "penalty": ModelPenalty(penalty)}


# terms that need no _target_
TERMS: dict[str, type[LossTerm]] = {
    "cross_entropy": CrossEntropy,
    "focal": Focal,
    "lovasz": LovaszSoftmax,
    "penalty": ModelPenalty,
}


def build_loss(section: Mapping[str, Any], **arguments: Any) -> dict[str, LossTerm]:
    """The terms of a `loss` section: each a section with `_target_`, or the weight of one of `TERMS`.

    Args:
        section: name -> term; None leaves a term out.
        arguments: passed to every term that accepts them, such as class_counts.

    Raises:
        ConfigError: naming the term that cannot be built.

    Example:
        >>> build_loss({"cross_entropy": {"label_smoothing": 0.1}, "lovasz": 0.5})
    """
    terms: dict[str, LossTerm] = {}
    for name, given in section.items():
        if given is None:
            continue
        values = dict(given) if isinstance(given, Mapping) else {"weight": given}
        if not is_target(values):
            if name not in TERMS:
                remedy = nearest(name, TERMS, "loss") or f"Give loss.{name}._target_=PACKAGE.CLASS."
                raise ConfigError(f"unknown key loss.{name}", where=f"loss.{name}", remedy=remedy)
            values = target(TERMS[name], **values)
        term = build(values, f"loss.{name}", of=LossTerm, **arguments)
        if isinstance(term.weight, bool) or not isinstance(term.weight, int | float):
            raise ConfigError(
                f"the weight {term.weight!r} is not a number", where=f"loss.{name}", remedy="Give a number."
            )
        terms[name] = term
    return terms


def class_weights(counts: Counts, weighting: str = "sqrt_inverse", *, beta: float = 0.999999) -> NDArray[np.float32]:
    """Weights (K,) of the classes from their points (K,) in the training split, with mean 1 over the classes present.

    - none: 1;
    - inverse: 1 / frequency;
    - sqrt_inverse: 1 / sqrt(frequency);
    - effective_number: (1 - beta) / (1 - beta^count) (Cui et al., "Class-Balanced Loss", CVPR 2019).

    A class without points gets weight 0, since it occurs in no loss term.

    Raises:
        ConfigError: for another weighting, or when no class has a point.

    Example:
        >>> class_weights([900, 100], "inverse")
        array([0.2, 1.8], dtype=float32)
    """
    counts = np.asarray(counts, np.float64)
    present = counts > 0
    if weighting not in CLASS_WEIGHTINGS:
        remedy = f"{nearest(str(weighting), CLASS_WEIGHTINGS)} Use {', '.join(CLASS_WEIGHTINGS)}.".strip()
        where = "loss.cross_entropy.class_weighting"
        raise ConfigError(f"there is no class weighting {weighting!r}", where=where, remedy=remedy)
    if not present.any():
        raise ConfigError("no point of the training split has a class", where="data", remedy="Check data.labels.")
    known = counts[present]
    raw = {
        "none": np.ones_like(known),
        "inverse": known.sum() / known,
        "sqrt_inverse": np.sqrt(known.sum() / known),
        "effective_number": (1 - beta) / -np.expm1(known * np.log(beta)),
    }[weighting]
    weights = np.zeros(len(counts), np.float32)
    weights[present] = raw / raw.mean()
    return weights


def cross_entropy_sum(
    logits_MK: Tensor, labels_M: Tensor, weights_K: Tensor | None = None, *, label_smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy summed over the labelled points, and the sum of their weights.

    Their quotient is torch's weighted mean. Computed in float32 or better.
    """
    logits_MK = logits_MK.to(torch.promote_types(logits_MK.dtype, torch.float32))
    targets_M = labels_M - 1
    options: dict[str, Any] = {"ignore_index": -1, "reduction": "sum", "label_smoothing": label_smoothing}
    loss = F.cross_entropy(logits_MK, targets_M, weights_K, **options)
    labelled_M = targets_M >= 0
    if weights_K is None:
        return loss, labelled_M.sum().to(loss.dtype)
    return loss, torch.where(labelled_M, weights_K[targets_M.clamp(min=0)], 0.0).sum().to(loss.dtype)


def lovasz_softmax(probabilities_NK: Tensor, labels_N: Tensor) -> Tensor:
    """Lovasz-softmax of one cloud (Berman, Triki, Blaschko, CVPR 2018, algorithm 1): mean over the classes present.

    The training ids must not include ignored points. An empty cloud gives 0.
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
    """The sum over clouds of `lovasz_softmax` on each cloud's labelled points."""
    logits_BNK = logits_BNK.to(torch.promote_types(logits_BNK.dtype, torch.float32))
    terms = []
    for logits_NK, labels_N in zip(logits_BNK, labels_BN, strict=True):
        labelled_N = labels_N > 0
        terms.append(lovasz_softmax(torch.softmax(logits_NK[labelled_N], dim=1), labels_N[labelled_N]))
    return torch.stack(terms).sum()
