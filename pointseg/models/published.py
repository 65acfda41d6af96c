"""Weights that others have published, under the names of this package's models.

The files are read as tensors only; nothing in them is executed. Their licences are those of their authors and of the data
that they were trained on, which for SemanticKITTI and nuScenes excludes commercial use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.limits import require_choice
from pointseg.models.base import SegmentationModel
from pointseg.models.frnet import published as frnet
from pointseg.models.frnet.network import FRNet
from pointseg.models.tensor_files import read_state_dict
from pointseg.models.waffleiron import published as waffleiron
from pointseg.models.waffleiron.network import WaffleIron

__all__ = ["FORMATS", "load_published"]

# by the repository that a file comes from: the model's class, and what gives the weights the names of the model
FORMATS: dict[str, tuple[type[SegmentationModel], Callable[[Any, Mapping[str, Tensor]], dict[str, Tensor]]]] = {
    "frnet": (FRNet, frnet.from_published),
    "waffleiron": (WaffleIron, waffleiron.from_published),
}
SHOWN = 8  # differences in a message


def load_published(model: SegmentationModel, path: str | Path, form: str) -> None:
    """Put the weights of a public repository's file into a model of the same architecture.

    Raises:
        ConfigError: for an unknown format, or one of another model.
        CheckpointError: if the file cannot be read, or does not fit; it lists the differences.

    Example:
        >>> load_published(FRNet(5, 19), "frnet-semantickitti_seg.pth", "frnet")
    """
    require_choice(form, tuple(FORMATS), "format", "format")
    own = model.state_dict()
    kind, from_published = FORMATS[form]
    if not isinstance(model, kind):
        raise ConfigError(
            f"the weights are those of a {kind.__name__}, and the model is a {model.title}", where="format"
        )
    given = from_published(model, read_state_dict(path))
    differences = [f"{name} is missing" for name in own if name not in given]
    differences += [f"{name} is unexpected" for name in given if name not in own]
    differences += [
        f"{name} has shape {tuple(tensor.shape)} instead of {tuple(own[name].shape)}"
        for name, tensor in given.items()
        if name in own and tensor.shape != own[name].shape
    ]
    if differences:
        further = f", and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise CheckpointError(
            f"the weights do not fit {model.title}: {'; '.join(differences[:SHOWN])}{further}",
            where=path,
            remedy="Choose the model, its size and features as they were trained.",
        )
    model.load_state_dict(given)
