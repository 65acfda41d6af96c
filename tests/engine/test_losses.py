"""Losses against torch's own and against slow, plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.core.errors import ConfigError
from pointseg.data.batches import Batch
from pointseg.engine.losses import (
    CrossEntropy,
    LossTerm,
    LovaszSoftmax,
    ModelPenalty,
    WeightedLoss,
    build_loss,
    class_weights,
    cross_entropy_sum,
    lovasz_softmax,
    lovasz_sum,
)
from pointseg.models import TrainingOutputs

CLASSES = 5


def rows(count: int, seed: int = 0, ignored: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (M, K), labels (M,) of which a share is 0, and weights (K,), in float64."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, CLASSES, generator=generator, dtype=torch.float64)
    labels = torch.randint(1, CLASSES + 1, (count,), generator=generator)
    labels[torch.rand(count, generator=generator) < ignored] = 0
    return logits, labels, 0.2 + torch.rand(CLASSES, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_torchs_weighted_mean(weighted: bool, smoothing: float) -> None:
    logits, labels, weights = rows(200)
    given = weights if weighted else None
    total, normaliser = cross_entropy_sum(logits, labels, given, label_smoothing=smoothing)
    kept = labels > 0
    expected = F.cross_entropy(logits[kept], labels[kept] - 1, given, label_smoothing=smoothing)
    assert float(total / normaliser) == pytest.approx(float(expected), rel=1e-12)


def test_cross_entropy_is_the_plain_sum_of_logarithms() -> None:
    logits, labels, weights = rows(50)
    expected = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label > 0:
            probability = math.exp(row[label - 1]) / sum(math.exp(value) for value in row)
            expected -= float(weights[label - 1]) * math.log(probability)
    assert float(cross_entropy_sum(logits, labels, weights)[0]) == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_of_ignored_points_is_zero() -> None:
    logits, _, weights = rows(10)
    total, normaliser = cross_entropy_sum(logits, torch.zeros(10, dtype=torch.int64), weights)
    assert (float(total), float(normaliser)) == (0.0, 0.0)


def test_cross_entropy_of_half_precision_is_computed_in_float32() -> None:
    logits, labels, _ = rows(20)
    assert cross_entropy_sum(logits.bfloat16(), labels)[0].dtype == torch.float32


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_gradient_of_a_batch_is_the_sum_over_its_parts(smoothing: float) -> None:
    logits, labels, weights = rows(101)
    whole = logits.clone().requires_grad_()
    total, normaliser = cross_entropy_sum(whole, labels, weights, label_smoothing=smoothing)
    (total / normaliser).backward()
    parts = logits.clone().requires_grad_()
    for part, part_labels in zip(parts.split([3, 60, 38]), labels.split([3, 60, 38]), strict=True):
        part_total, _ = cross_entropy_sum(part, part_labels, weights, label_smoothing=smoothing)
        (part_total / normaliser).backward()
    assert torch.allclose(whole.grad, parts.grad, rtol=0, atol=1e-14)  # type: ignore[arg-type]


def slow_lovasz(probabilities: list[list[float]], labels: list[int]) -> float:
    """The Lovasz extension by its definition: errors in descending order, weighted by the growth of the Jaccard loss.

    The Jaccard loss of a set M of mispredicted points is |M| / |truth united with M|.
    """
    terms = []
    for wanted in sorted(set(labels)):
        truth = {i for i, label in enumerate(labels) if label == wanted}
        errors = [1 - p[wanted - 1] if i in truth else p[wanted - 1] for i, p in enumerate(probabilities)]
        mispredicted: set[int] = set()
        before = total = 0.0
        for i in sorted(range(len(labels)), key=lambda i: -errors[i]):
            mispredicted.add(i)
            after = len(mispredicted) / len(truth | mispredicted)
            total += errors[i] * (after - before)
            before = after
        terms.append(total)
    return sum(terms) / len(terms)


@pytest.mark.parametrize("seed", range(5))
def test_lovasz_softmax_is_the_lovasz_extension(seed: int) -> None:
    logits, labels, _ = rows(60, seed, ignored=0)
    labels[labels == 3] = 1  # a class that is absent
    probabilities = torch.softmax(logits, dim=1)
    expected = slow_lovasz(probabilities.tolist(), labels.tolist())
    assert float(lovasz_softmax(probabilities, labels)) == pytest.approx(expected, rel=1e-12)


def test_lovasz_of_hard_predictions_is_one_minus_iou() -> None:
    prediction, truth = torch.tensor([1, 1, 2, 2, 2, 1]), torch.tensor([1, 2, 2, 2, 1, 1])
    loss = lovasz_softmax(F.one_hot(prediction - 1, 2).double(), truth)
    assert float(loss) == pytest.approx(1 - (2 / 4 + 2 / 4) / 2, rel=1e-12)


def test_lovasz_of_an_empty_cloud_is_zero() -> None:
    assert float(lovasz_softmax(torch.zeros(0, CLASSES), torch.zeros(0, dtype=torch.int64))) == 0.0


def test_lovasz_gradient_of_an_unlabelled_cloud_is_zero() -> None:
    logits = torch.randn(1, 8, CLASSES, requires_grad=True)
    lovasz_sum(logits, torch.zeros(1, 8, dtype=torch.int64)).backward()
    assert logits.grad is not None
    assert float(logits.grad.abs().max()) == 0.0


def test_lovasz_sum_adds_the_clouds_labelled_points() -> None:
    logits, labels, _ = rows(120)
    expected = 0.0
    for cloud, truth in zip(logits.view(3, 40, CLASSES), labels.view(3, 40), strict=True):
        expected += slow_lovasz(torch.softmax(cloud[truth > 0], dim=1).tolist(), truth[truth > 0].tolist())
    total = lovasz_sum(logits.view(3, 40, CLASSES), labels.view(3, 40))
    assert float(total) == pytest.approx(expected, rel=1e-12)


COUNTS = [900, 0, 90, 10]


def normalised(raw: list[float]) -> list[float]:
    """Mean 1 over the classes present; 0 for the one that is not."""
    mean = sum(raw) / 3
    return [raw[0] / mean, 0.0, raw[1] / mean, raw[2] / mean]


@pytest.mark.parametrize(
    ("weighting", "raw"),
    [
        ("none", [1, 1, 1]),
        ("inverse", [1 / 0.9, 1 / 0.09, 1 / 0.01]),
        ("sqrt_inverse", [0.9**-0.5, 0.09**-0.5, 0.01**-0.5]),
        ("effective_number", [0.01 / (1 - 0.99**n) for n in (900, 90, 10)]),
    ],
)
def test_class_weights_follow_their_formula(weighting: str, raw: list[float]) -> None:
    assert class_weights(COUNTS, weighting, beta=0.99) == pytest.approx(normalised(raw), rel=1e-6)


def test_effective_number_of_huge_counts_is_exact() -> None:
    # beta^n by its series: 1 - (1 - 1e-6)^n for n = 1 and 2 is 1e-6 and 2e-6 - 1e-12
    weights = class_weights([1, 2], "effective_number")
    assert weights[0] / weights[1] == pytest.approx(2 - 1e-6, rel=1e-6)


def test_unknown_class_weighting_gets_a_proposal() -> None:
    with pytest.raises(ConfigError, match="Did you mean inverse"):
        class_weights(COUNTS, "invers")


def test_class_weights_of_no_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="no point"):
        class_weights(np.zeros(3, np.int64))


# ---- terms ---------------------------------------------------------------------------------------------------------


def batch_of(clouds: int, points: int, seed: int = 0) -> tuple[Tensor, Batch]:
    """Logits (B, N, K) and a batch with labels, of which a share is 0."""
    logits, labels, _ = rows(clouds * points, seed)
    labels = labels.view(clouds, points)
    return logits.view(clouds, points, CLASSES), Batch(torch.zeros(clouds, points, 1), torch.zeros(1), labels, None)


def test_a_section_builds_its_terms() -> None:
    section = {
        "cross_entropy": {"class_weighting": "inverse", "label_smoothing": 0.1},
        "lovasz": 0.5,
        "penalty": None,
        "mine": {"_target_": f"{__name__}.Entropy", "weight": 2, "power": 3},
    }
    terms = build_loss(section, class_counts=[4, 1, 1, 1, 1])
    assert {name: (type(term), term.weight) for name, term in terms.items()} == {
        "cross_entropy": (CrossEntropy, 1.0),
        "lovasz": (LovaszSoftmax, 0.5),
        "mine": (Entropy, 2),
    }
    weights = class_weights([4, 1, 1, 1, 1], "inverse")
    assert terms["cross_entropy"].class_weights.tolist() == pytest.approx(weights.tolist())  # type: ignore[union-attr,operator]


class Entropy(LossTerm):
    """Somebody's own term: how undecided the labelled points are, a mean over them."""

    def __init__(self, weight: float = 1.0, power: int = 1) -> None:
        super().__init__(weight)
        self.power = power

    def normaliser(self, batch: Batch) -> Tensor:
        return (batch.labels > 0).sum()

    def forward(self, logits_BNK: Tensor, batch: Batch, penalty: Tensor) -> Tensor:
        logarithms = logits_BNK[batch.labels > 0].log_softmax(1)
        return -(logarithms.exp() * logarithms).sum(1).pow(self.power).sum()


@pytest.mark.parametrize("sizes", [[5], [2, 3], [1, 1, 1, 2]])
def test_parts_of_a_batch_add_up_to_its_loss(sizes: list[int]) -> None:
    """By each term's plain mean over the whole batch."""
    logits, batch = batch_of(5, 40)
    loss = WeightedLoss(
        {
            "cross_entropy": CrossEntropy(),
            "lovasz": LovaszSoftmax(0.5),
            "mine": Entropy(2.0),
            "penalty": ModelPenalty(3.0),
        }
    )
    parts = list(zip(logits.split(sizes), batch.labels.split(sizes), strict=True))
    batches = [batch._replace(labels=labels) for _, labels in parts]
    normalisers = sum(loss.normalisers(part) for part in batches)
    assert isinstance(normalisers, Tensor)
    penalty = torch.tensor(0.25, dtype=torch.float64)
    shares = [
        loss.shares(TrainingOutputs(own, penalty), part, normalisers)
        for (own, _), part in zip(parts, batches, strict=True)
    ]
    kept = batch.labels > 0
    chances = logits[kept].softmax(1)
    expected = [
        F.cross_entropy(logits[kept], batch.labels[kept] - 1),
        sum(lovasz_softmax(one[k > 0].softmax(1), k[k > 0]) for one, k in zip(logits, batch.labels, strict=True)) / 5,
        -(chances * chances.log()).sum(1).mean(),
        penalty,
    ]
    found = sum(shares)
    assert isinstance(found, Tensor)
    assert found.tolist() == pytest.approx([float(one) for one in expected], rel=1e-12)
    total = sum(weight * float(one) for weight, one in zip([1.0, 0.5, 2.0, 3.0], expected, strict=True))
    assert float(loss.total(found)) == pytest.approx(total, rel=1e-12)


def test_a_term_without_weight_is_not_computed() -> None:
    class Refuses(LossTerm):
        def forward(self, *_: object) -> Tensor:
            raise AssertionError("it was computed")

    logits, batch = batch_of(2, 10)
    loss = WeightedLoss({"cross_entropy": CrossEntropy(), "other": Refuses(0.0)})
    assert loss.shares(TrainingOutputs(logits, torch.zeros(())), batch, loss.normalisers(batch)).shape == (1,)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"lovas": 0.5}, r"unknown key loss\.lovas: loss\.lovas\. Did you mean loss\.lovasz"),
        ({"dice": 1.0}, r"Give loss\.dice\._target_"),
        ({"lovasz": "much"}, r"is not a number: loss\.lovasz"),
        ({"cross_entropy": {"smoothing": 0.1}}, r"Did you mean loss\.cross_entropy\.label_smoothing"),
        (
            {"x": {"_target_": "torch.nn.CrossEntropyLoss"}},
            r"not a pointseg\.engine\.losses\.LossTerm: loss\.x\._target_",
        ),
    ],
)
def test_a_section_that_cannot_be_built_is_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build_loss(section)


def test_a_loss_without_any_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match="no term has a weight"):
        WeightedLoss(build_loss({"cross_entropy": 0, "lovasz": 0.0}))
