"""Segmentation models: plain `nn.Module`s that know nothing of data sets, Lightning or Hydra."""

from __future__ import annotations

from pointseg.core.extras import Extras, Prepare
from pointseg.models.architectures import (
    MODELS,
    ModelClasses,
    describe_model,
    from_section,
    name_of,
    rebuild_model,
)
from pointseg.models.base import GraphWriter, SegmentationModel
from pointseg.models.frnet.network import FRNet
from pointseg.models.outputs import ImageLogits, TrainingOutputs
from pointseg.models.pointnet.network import PointNetSeg
from pointseg.models.waffleiron.network import WaffleIron

__all__ = [
    "MODELS",
    "Extras",
    "FRNet",
    "GraphWriter",
    "ImageLogits",
    "ModelClasses",
    "PointNetSeg",
    "Prepare",
    "SegmentationModel",
    "TrainingOutputs",
    "WaffleIron",
    "rebuild_model",
    "describe_model",
    "from_section",
    "name_of",
]
