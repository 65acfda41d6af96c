"""The weights of a trained model for one of the same form, whose classes may be others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pointseg.models.architectures import describe_model, rebuild_model
from pointseg.models.base import SegmentationModel

__all__ = ["carry_over"]


def carry_over(trained: SegmentationModel, model: SegmentationModel, classes: Sequence[int | None]) -> None:
    """Put the weights of `trained` into `model`, which differs from it in its classes only.

    Args:
        classes: for each class of `model`, which of `trained` it is, from 0; None: a new one, whose weights in the layers
            that give logits stay as they are.

    Example:
        >>> carry_over(PointNetSeg(6, 19), PointNetSeg(6, 2), [8, None])
    """
    known = [number for number, other in enumerate(classes) if other is not None]
    others = [other for other in classes if other is not None]
    weights = trained.state_dict()
    with torch.no_grad():
        for name, (tensor, dimension) in _by_class(model).items():
            rows = weights[name].index_select(dimension, torch.tensor(others, dtype=torch.long))
            weights[name] = tensor.detach().clone().index_copy_(dimension, torch.tensor(known, dtype=torch.long), rows)
    model.load_state_dict(weights)


def _by_class(model: SegmentationModel) -> dict[str, tuple[Tensor, int]]:
    """The tensors of a model that have an entry for each class, and along which dimension: they grow by one more."""
    described = describe_model(model)
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, and nobody sees them
        larger = rebuild_model(
            {**described, "num_classes": model.num_classes + 1}, [type(model.network_called)]
        ).state_dict()
    found = {}
    for name, tensor in model.state_dict().items():
        grown = [d for d, size in enumerate(tensor.shape) if larger[name].shape[d] == size + 1 == model.num_classes + 1]
        if grown:
            found[name] = (tensor, grown[0])
    return found
