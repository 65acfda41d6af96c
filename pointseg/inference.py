"""One scan through a model, in subsets of the size it was trained on, as many at once as memory allows.

Legend: N points, M measured columns, S subsets, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pointseg import bundle
from pointseg.errors import ConfigError
from pointseg.features import FeatureSpec
from pointseg.memory import free_memory
from pointseg.models import SegmentationModel
from pointseg.randomness import Purpose, key, permutation

__all__ = ["check_inference", "cloud_classes", "cloud_logits", "points_at_once"]

POINTS_AT_ONCE = 32768  # a quarter of a 64-beam scan: bounds memory, and is as fast as more on a processor
GPU_POINTS_AT_ONCE = 1 << 18  # a GPU wants work
MEMORY_SHARE = 8  # no more than this part of what is free, since there are other clouds and processes
CHANNELS = 2048  # a generous bound of the values that a layer keeps of a point beside features and logits


def points_at_once(trained: bundle.TrainedModel, device: torch.device) -> int:
    """How many points go through the model together, by the memory that is free. It changes no label: the subsets of a
    scan that are pooled are the model's own, and this is only how many of them share a call."""
    largest = POINTS_AT_ONCE if device.type == "cpu" else GPU_POINTS_AT_ONCE
    bytes_of_point = 4 * (3 * len(trained.features) + trained.label_map.num_classes + CHANNELS)
    return max(1, min(largest, free_memory(device) // MEMORY_SHARE // bytes_of_point))


def check_inference(points_per_pass: int | None, votes: int) -> None:
    """Refuse inference settings that cannot be used.

    Raises:
        ConfigError: naming the key.
    """
    if points_per_pass is not None and points_per_pass < 1:
        raise ConfigError(f"{points_per_pass} is less than 1", where="inference.points_per_pass")
    if votes < 1:
        raise ConfigError(f"{votes} is less than 1", where="inference.votes")


def cloud_logits(
    model: SegmentationModel,
    features: FeatureSpec,
    points_N4: Tensor,
    at_once: int = POINTS_AT_ONCE,
    *,
    points_per_pass: int | None = None,
    votes: int = 1,
) -> Tensor:
    """Logits (N, K) of one scan (N, 4), on the device where both lie.

    What a PointNet pools depends on how many points it sees. So a model that was trained on clouds of n points predicts
    a scan in random, disjoint subsets of at most n points that together cover every point once. The subsets depend on
    nothing but the number of points.

    Args:
        at_once: how many points go through the model together, at least one subset; it changes no logit.
        points_per_pass: the size n of the subsets; None takes the whole scan at once.
        votes: how often to cover the scan, each time with other subsets; the probabilities are averaged. Only subsets
            differ between votes, so a scan that fits one pass is predicted once.
    """
    count = len(points_N4)
    measured_NM = features.measure(points_N4)  # surroundings: of the whole scan, as in training
    if points_per_pass is None or count <= points_per_pass:
        return model(features(measured_NM[None]), points_N4[None, :, :3])[0].float()
    votes_VNK = []
    for vote in range(votes):
        logits_NK = points_N4.new_empty(count, model.num_classes)
        for subset_SN in _subsets(count, points_per_pass, vote, points_N4.device, at_once):
            logits_NK[subset_SN] = _subset_logits(model, features, measured_NM, subset_SN)
        votes_VNK.append(logits_NK)
    if votes == 1:
        return votes_VNK[0]
    return torch.stack([torch.softmax(logits, dim=1) for logits in votes_VNK]).mean(dim=0).log()


def cloud_classes(
    model: SegmentationModel,
    features: FeatureSpec,
    points_N4: Tensor,
    at_once: int = POINTS_AT_ONCE,
    *,
    points_per_pass: int | None = None,
    votes: int = 1,
) -> Tensor:
    """Training ids (N,) uint8 of one scan (N, 4): those of the largest `cloud_logits`, which are not kept where one vote
    is cast, so that millions of points need no more memory than their features' measures."""
    count = len(points_N4)
    if votes > 1 or points_per_pass is None or count <= points_per_pass:
        logits_NK = cloud_logits(model, features, points_N4, at_once, points_per_pass=points_per_pass, votes=votes)
        return (logits_NK.argmax(dim=1) + 1).to(torch.uint8)
    measured_NM = features.measure(points_N4)
    classes_N = torch.empty(count, dtype=torch.uint8, device=points_N4.device)
    for subset_SN in _subsets(count, points_per_pass, 0, points_N4.device, at_once):
        logits_SNK = _subset_logits(model, features, measured_NM, subset_SN)
        classes_N[subset_SN] = (logits_SNK.argmax(dim=2) + 1).to(torch.uint8)
    return classes_N


def _subset_logits(model: SegmentationModel, features: FeatureSpec, measured_NM: Tensor, subset_SN: Tensor) -> Tensor:
    clouds_SNM = measured_NM[subset_SN]
    return model(features(clouds_SNM), clouds_SNM[..., :3]).float()


def _subsets(count: int, largest: int, vote: int, device: torch.device, at_once: int) -> Iterator[Tensor]:
    """Disjoint random subsets of 0..count-1 of at most `largest`, of equal size or one less, stacked (S, n)."""
    passes = math.ceil(count / largest)
    size, longer = divmod(count, passes)
    order = torch.from_numpy(permutation(count, key(count, vote, Purpose.INFERENCE))).to(device)
    border = longer * (size + 1)
    for rows_SN in (order[:border].view(longer, size + 1), order[border:].view(passes - longer, size)):
        if len(rows_SN):
            yield from rows_SN.split(max(1, at_once // rows_SN.shape[1]))
