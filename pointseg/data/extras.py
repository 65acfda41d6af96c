"""Runs what a model prepares of each cloud, and stacks the results of a batch.

Legend: B clouds, n points of one cloud, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pointseg.core.errors import ConfigError
from pointseg.core.extras import Extras, Prepare
from pointseg.data.features import FeatureSpec

__all__ = ["ScanExtras", "extras_of_batch", "extras_of_cloud", "stacked"]


def extras_of_cloud(prepare: Prepare, coords_n3: Tensor, features_nF: Tensor) -> dict[str, Tensor]:
    """What a model prepares of one cloud, as tensors; it may return NumPy arrays and numbers."""
    return {name: torch.as_tensor(value) for name, value in prepare(coords_n3, features_nF).items()}


def extras_of_batch(
    prepare: Prepare, coords_BN3: Tensor, features_BNF: Tensor, mask_BN: Tensor | None
) -> dict[str, Tensor]:
    """What a model prepares of clouds whose real points come first, (B, ...), on the device of the clouds."""
    device, (clouds, points) = coords_BN3.device, coords_BN3.shape[:2]
    coords_BN3, features_BNF = coords_BN3.cpu(), features_BNF.float().cpu()
    # a cloud without points keeps one padded point: models cannot prepare nothing
    sizes = [points] * clouds if mask_BN is None else mask_BN.sum(dim=1).clamp(min=1).tolist()
    per_cloud = [
        extras_of_cloud(prepare, coords_BN3[cloud, :size], features_BNF[cloud, :size])
        for cloud, size in enumerate(sizes)
    ]
    return {name: tensor.to(device) for name, tensor in stacked(per_cloud).items()}


def stacked(clouds: Sequence[Extras]) -> dict[str, Tensor]:
    """Extras of each cloud -> (B, ...), first dimensions padded with zeros to the longest.

    Raises:
        ConfigError: if the names differ, or the shapes beyond their first dimension.

    Example:
        >>> stacked([{"pillar": torch.ones(2)}, {"pillar": torch.ones(3)}])["pillar"]
        tensor([[1., 1., 0.],
                [1., 1., 1.]])
    """
    batch: dict[str, Tensor] = {}
    for name in {name: None for cloud in clouds for name in cloud}:
        try:
            tensors = [cloud[name] for cloud in clouds]
            same = len({tensor.shape for tensor in tensors}) == 1
            batch[name] = torch.stack(tensors) if same else pad_sequence(tensors, batch_first=True)
        except (KeyError, RuntimeError) as error:
            shapes = [tuple(cloud[name].shape) if name in cloud else None for cloud in clouds]
            raise ConfigError(
                f"the model prepares {name!r} of shapes {', '.join(map(str, shapes))} for the clouds of one batch",
                where="model._target_",
                remedy="Give the same names for each cloud, and shapes that differ in their first dimension only.",
            ) from error
    return batch


@dataclass(frozen=True)
class ScanExtras:
    """Points of a whole scan -> what a model prepares of it; picklable for other processes."""

    features: FeatureSpec
    prepare: Prepare

    def __call__(self, points: Tensor) -> dict[str, Tensor]:
        """Extras of points (N, 4 and further columns), without the dimension of clouds."""
        return extras_of_cloud(self.prepare, points[:, :3], self.features(self.features.measure(points)))
