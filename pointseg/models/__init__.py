"""Segmentation models: plain `nn.Module`s that know nothing of data sets, Lightning or Hydra.

`build` makes a model from the plain values that `describe` gives; a checkpoint or bundle keeps those, so that loading
one never runs code that a file names: only the classes registered here are built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointseg.errors import CheckpointError
from pointseg.models.base import SegmentationModel
from pointseg.models.pointnet import PointNetSeg

__all__ = ["MODELS", "PointNetSeg", "SegmentationModel", "build", "describe"]

MODELS: dict[str, type[SegmentationModel]] = {"PointNetSeg": PointNetSeg}


def describe(model: SegmentationModel) -> dict[str, Any]:
    """Plain values from which `build` makes an equal architecture."""
    return {"name": type(model).__name__, **model.hyperparameters}


def build(architecture: Mapping[str, Any]) -> SegmentationModel:
    """The model that `describe` described, with fresh weights.

    Raises:
        CheckpointError: if no such model is registered, or it does not take these values.

    Example:
        >>> build({"name": "PointNetSeg", "in_features": 6, "num_classes": 19})
    """
    values = dict(architecture)
    name = values.pop("name", None)
    if name not in MODELS:
        raise CheckpointError(
            f"there is no model {name!r}", where="architecture", remedy=f"Known: {', '.join(sorted(MODELS))}."
        )
    try:
        return MODELS[name](**values)
    except TypeError as error:
        raise CheckpointError(
            f"model {name} does not take these values ({error})",
            where="architecture",
            remedy="The file was written by another version of pointseg; use that version.",
        ) from error
