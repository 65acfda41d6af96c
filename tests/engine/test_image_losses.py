"""The losses of auxiliary image heads, and the focal loss, against their formulas in loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.data.batches import Batch
from pointseg.engine.image_losses import AuxiliaryHeads, boundary_loss, pixel_labels
from pointseg.engine.losses import Focal, WeightedLoss, lovasz_softmax
from pointseg.models import ImageLogits, PointNetSeg, TrainingOutputs

B, N, K, H, W = 2, 60, 4, 5, 6


def image(seed: int = 0) -> ImageLogits:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, K, H, W, generator=generator)
    pixel = torch.randint(0, H * W, (B, N), generator=generator) + torch.arange(B)[:, None] * H * W
    pixel[1, 50:] = -1  # padded
    return ImageLogits(logits, pixel)


def batch(seed: int = 1) -> Batch:
    labels = torch.randint(0, K + 1, (B, N), generator=torch.Generator().manual_seed(seed))
    return Batch(torch.zeros(B, N, 1), torch.zeros(B, N, 3), labels, None)


def test_a_pixel_has_the_most_frequent_label_of_its_points() -> None:
    head, labels = image(), batch().labels
    expected = np.zeros(B * H * W, int)
    for pixel in range(B * H * W):
        own = [int(v) for v, p in zip(labels.flatten(), head.pixel.flatten(), strict=True) if int(p) == pixel and v > 0]
        expected[pixel] = min(own, key=lambda v: (-own.count(v), v), default=0)
    assert pixel_labels(head, labels).flatten().tolist() == expected.tolist()
    assert 0 in expected


def brute_boundary(probabilities: Tensor, labels: Tensor) -> float:
    """Precision, recall and F1 of each class's boundary, in float64."""
    terms = []
    for label in range(1, K + 1):
        outside = {
            "truth": [[1.0 - float(labels[v, u] == label) for u in range(W)] for v in range(H)],
            "predicted": [
                [1.0 - float(probabilities[label - 1, v, u]) * float(labels[v, u] > 0) for u in range(W)]
                for v in range(H)
            ],
        }
        edges = {
            name: [
                [
                    max(
                        values[a][b]
                        for a in range(max(0, v - 1), min(H, v + 2))
                        for b in range(max(0, u - 1), min(W, u + 2))
                    )
                    - values[v][u]
                    for u in range(W)
                ]
                for v in range(H)
            ]
            for name, values in outside.items()
        }
        truth, predicted = np.array(edges["truth"]), np.array(edges["predicted"])
        if truth.sum() == 0:
            continue
        precision, recall = (truth * predicted).sum() / predicted.sum(), (truth * predicted).sum() / truth.sum()
        terms.append(1 - 2 * precision * recall / (precision + recall))
    return float(np.mean(terms))


def test_boundary_loss_is_one_less_the_f1_of_boundaries() -> None:
    labels = torch.randint(0, K, (H, W), generator=torch.Generator().manual_seed(2))  # the last class is absent
    probabilities = torch.rand(K, H, W, generator=torch.Generator().manual_seed(3)).double().softmax(dim=0)
    assert float(boundary_loss(probabilities, labels)) == pytest.approx(brute_boundary(probabilities, labels), abs=1e-9)


def test_boundary_loss_of_the_truth_is_zero_and_of_an_image_without_boundary_too() -> None:
    labels = torch.ones(H, W, dtype=torch.int64)
    labels[:, 3:] = 2
    truth = torch.stack([(labels == k).float() for k in range(1, K + 1)])
    assert float(boundary_loss(truth, labels)) == pytest.approx(0, abs=1e-6)
    assert float(boundary_loss(truth, torch.ones_like(labels))) == 0
    assert float(boundary_loss(truth, torch.zeros_like(labels))) == 0


def test_heads_are_summed_and_clouds_averaged() -> None:
    heads, data = (image(4), image(4)._replace(logits=image(5).logits)), batch()
    loss = WeightedLoss({"auxiliary": AuxiliaryHeads(2.0, cross_entropy=0.5, lovasz=1.5, boundary=0.7)})
    outputs = TrainingOutputs(torch.zeros(B, N, K), torch.zeros(()), heads)
    value = float(loss.total(loss.shares(outputs, data, loss.normalisers(data))))
    expected = 0.0
    labels = pixel_labels(heads[0], data.labels)
    for head in heads:
        for cloud in range(B):
            known = labels[cloud] > 0
            rows = head.logits[cloud].permute(1, 2, 0)[known].log_softmax(dim=1).double()
            targets = labels[cloud][known]
            expected -= 0.5 * float(np.mean([rows[i, t - 1] for i, t in enumerate(targets.tolist())]))
            expected += 1.5 * float(lovasz_softmax(rows.exp(), targets))
            expected += 0.7 * brute_boundary(head.logits[cloud].softmax(dim=0), labels[cloud])
    assert value == pytest.approx(2.0 * expected / B, rel=1e-5)


def test_points_that_are_not_trained_on_still_label_their_pixel() -> None:
    data = batch()
    some = data._replace(labels=data.labels * (torch.arange(N) % 3 == 0), all_labels=data.labels)
    outputs = TrainingOutputs(torch.zeros(B, N, K), torch.zeros(()), (image(),))
    term = AuxiliaryHeads()
    assert float(term.of_outputs(outputs, some)) == float(term.of_outputs(outputs, data))


def test_a_model_without_heads_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"no auxiliary head: loss\."):
        WeightedLoss({"auxiliary": AuxiliaryHeads()}).check(PointNetSeg(4, K))


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_focal_loss_is_its_formula(gamma: float) -> None:
    data, logits = batch(), torch.randn(B, N, K, generator=torch.Generator().manual_seed(6))
    loss = WeightedLoss({"focal": Focal(gamma=gamma)})
    outputs = TrainingOutputs(logits, torch.zeros(()))
    terms = []
    for row, label in zip(logits.flatten(0, 1).double().tolist(), data.labels.flatten().tolist(), strict=True):
        if label:
            p = math.exp(row[label - 1]) / sum(math.exp(v) for v in row)
            terms.append(-((1 - p) ** gamma) * math.log(p))
    value = float(loss.total(loss.shares(outputs, data, loss.normalisers(data))))
    assert value == pytest.approx(float(np.mean(terms)), rel=1e-5)


def test_a_negative_gamma_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.focal\.gamma"):
        Focal(gamma=-1)
