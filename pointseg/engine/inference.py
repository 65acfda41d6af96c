"""Predict one scan with a model, in subsets of the size that it was trained on, as many at once as memory allows.

Legend: N points, M measured columns, S subsets, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.limits import require_between
from pointseg.core.memory import free_memory
from pointseg.core.randomness import Purpose, permutation, random_key
from pointseg.data.extras import extras_of_batch
from pointseg.data.features import FeatureSpec
from pointseg.engine import bundle
from pointseg.models import SegmentationModel

__all__ = ["batch_logits", "cloud_classes", "cloud_logits", "inference_settings", "points_at_once"]

AUTO = "auto"  # the model decides
MOST_VOTES = 1000
POINTS_AT_ONCE = 32768  # a quarter of a 64-beam scan: bounds memory, and more is no faster on a CPU
GPU_POINTS_AT_ONCE = 1 << 18  # a GPU needs more work at once
MEMORY_SHARE = 8  # at most this fraction of the free memory, since other clouds and processes need some
CHANNELS = 2048  # a generous bound on the values that layers keep of a point, in addition to features and logits


def points_at_once(trained: bundle.TrainedModel, device: torch.device) -> int:
    """How many points go through the model together, given the free memory.

    It changes no label: the subsets that are pooled are the model's own, and this only says how many share a call.
    """
    largest = POINTS_AT_ONCE if device.type == "cpu" else GPU_POINTS_AT_ONCE
    bytes_of_point = 4 * (3 * len(trained.features) + trained.label_map.num_classes + CHANNELS)
    return max(1, min(largest, free_memory(device) // MEMORY_SHARE // bytes_of_point))


def inference_settings(model: SegmentationModel, points_per_pass: int | str | None, votes: int | str) -> dict[str, Any]:
    """The arguments of `cloud_logits`, with the model's own defaults in place of "auto".

    Raises:
        ConfigError: naming the key that cannot be used.

    Example:
        >>> inference_settings(PointNetSeg(), "auto", 1)
        {'points_per_pass': 1024, 'votes': 1}
    """
    settings: dict[str, Any] = {"points_per_pass": points_per_pass, "votes": votes}
    for name, value in settings.items():
        if value == AUTO:
            settings[name] = getattr(model, name)
        elif isinstance(value, str) or (value is None and name == "votes"):
            raise ConfigError(f"{value!r} is not a number", where=f"inference.{name}", remedy=f"Give one, or {AUTO}.")
        elif value is not None and value < 1:
            raise ConfigError(f"{value} is less than 1", where=f"inference.{name}")
    require_between(settings["votes"], 1, MOST_VOTES, "inference.votes", "More change nothing.")
    return settings


def cloud_logits(
    model: SegmentationModel,
    features: FeatureSpec,
    points: Tensor,
    at_once: int = POINTS_AT_ONCE,
    *,
    points_per_pass: int | None = None,
    votes: int = 1,
    extras: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Logits (N, K) of one scan (N, 4), or (N, 4 + E) with the columns of `features.extra`, on the scan's device.

    What a PointNet pools depends on how many points it sees. So a model that was trained on clouds of n points predicts
    a scan in random, disjoint subsets of at most n points that together cover every point once. The subsets depend only
    on the number of points.

    Args:
        at_once: how many points go through the model together, at least one subset; it changes no logit.
        points_per_pass: the size n of the subsets; None predicts the whole scan at once.
        votes: how often to cover the scan, each time with other subsets; the probabilities are averaged. A scan that fits
            into one pass is predicted once.
        extras: what the model prepared of the whole scan; None prepares it here.
    """
    count = len(points)
    measured_NM = features.measure(points)  # with neighbourhoods of the whole scan, as in training
    if points_per_pass is None or count <= points_per_pass:
        batched = None if extras is None else {name: tensor[None] for name, tensor in extras.items()}
        return batch_logits(model, features, measured_NM[None], extras=batched)[0]
    votes_VNK = []
    for vote in range(votes):
        logits_NK = points.new_empty(count, model.num_classes)
        for subset_SN in _subsets(count, points_per_pass, vote, points.device, at_once):
            logits_NK[subset_SN] = batch_logits(model, features, measured_NM[subset_SN])
        votes_VNK.append(logits_NK)
    if votes == 1:
        return votes_VNK[0]
    return torch.stack([torch.softmax(logits, dim=1) for logits in votes_VNK]).mean(dim=0).log()


def batch_logits(
    model: SegmentationModel,
    features: FeatureSpec,
    measured_BNM: Tensor,
    mask_BN: Tensor | None = None,
    extras: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Logits (B, N, K) float32 of measured clouds (B, N, M) whose real points come first."""
    features_BNF, coords_BN3 = features(measured_BNM, mask_BN), measured_BNM[..., :3]
    if extras is None and model.prepares:
        extras = extras_of_batch(model.prepare, coords_BN3, features_BNF, mask_BN)
    return model.predicted(features_BNF, coords_BN3, mask_BN, extras).float()


def cloud_classes(
    model: SegmentationModel,
    features: FeatureSpec,
    points: Tensor,
    at_once: int = POINTS_AT_ONCE,
    *,
    points_per_pass: int | None = None,
    votes: int = 1,
) -> Tensor:
    """Training ids (N,) uint8 of one scan, those of the largest `cloud_logits`.

    With one vote the logits are not kept, so millions of points need little more memory than their measured columns.
    """
    count = len(points)
    if votes > 1 or points_per_pass is None or count <= points_per_pass:
        logits_NK = cloud_logits(model, features, points, at_once, points_per_pass=points_per_pass, votes=votes)
        return (logits_NK.argmax(dim=1) + 1).to(torch.uint8)
    measured_NM = features.measure(points)
    classes_N = torch.empty(count, dtype=torch.uint8, device=points.device)
    for subset_SN in _subsets(count, points_per_pass, 0, points.device, at_once):
        logits_SNK = batch_logits(model, features, measured_NM[subset_SN])
        classes_N[subset_SN] = (logits_SNK.argmax(dim=2) + 1).to(torch.uint8)
    return classes_N


def _subsets(count: int, largest: int, vote: int, device: torch.device, at_once: int) -> Iterator[Tensor]:
    """Disjoint random subsets of 0..count-1 of at most `largest`, whose sizes differ by at most one, stacked (S, n)."""
    passes = math.ceil(count / largest)
    size, longer = divmod(count, passes)
    order = torch.from_numpy(permutation(count, random_key(count, vote, Purpose.INFERENCE))).to(device)
    border = longer * (size + 1)
    for rows_SN in (order[:border].view(longer, size + 1), order[border:].view(passes - longer, size)):
        if len(rows_SN):
            yield from rows_SN.split(max(1, at_once // rows_SN.shape[1]))
