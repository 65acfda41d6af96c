"""Losses against torch's own and against slow, plain definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.errors import ConfigError
from pointseg.losses import class_weights, cross_entropy_sum, lovasz_softmax, lovasz_sum

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
    with pytest.raises(ConfigError, match="Did you mean 'inverse'"):
        class_weights(COUNTS, "invers")


def test_class_weights_of_no_points_are_refused() -> None:
    with pytest.raises(ConfigError, match="no point"):
        class_weights(np.zeros(3, np.int64))
