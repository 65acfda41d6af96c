"""The parts of a training, built from a configuration with complete sections (`with_default_sections`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.data.features import FeatureSpec
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine.losses import build_loss
from pointseg.engine.optimization import build_optimizer, build_schedule
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.models import SegmentationModel, from_section
from pointseg.workflows.run_data import build_data
from pointseg.workflows.settings.train import FeatureSettings, TrainConfig

__all__ = ["build_features", "build_model", "build_module", "build_training_data"]


def build_features(config: FeatureSettings) -> FeatureSpec:
    """The features; offsets and scales of unused ones are left out.

    Raises:
        ConfigError: for an unknown feature, or a value that cannot be used.
    """
    values = asdict(config)
    for key in ("offset", "scale"):
        values[key] = {name: value for name, value in values[key].items() if name in config.use}
    return FeatureSpec(**values)


def build_training_data(config: TrainConfig, features: FeatureSpec) -> ScanDataModule:
    """The DataModule.

    Raises:
        ConfigError: naming the key that is wrong.
    """
    return build_data(config.data, features, config.seed)


def build_model(config: TrainConfig, features: FeatureSpec, num_classes: int) -> SegmentationModel:
    """The model, for these features and classes.

    Raises:
        ConfigError: naming the key that is wrong, or features that the model cannot use.
    """
    return from_section(config.model, features.use, len(features), num_classes)


def build_module(
    config: TrainConfig,
    model: SegmentationModel,
    data: ScanDataModule,
    class_counts: NDArray[np.int64] | Sequence[int],
    **about: Any,
) -> SegmentationModule:
    """The SegmentationModule: model, loss, optimizer and schedule. The trainer clips the gradient.

    Args:
        class_counts: (K,) points of each class in the training split.
        about: remission_mean, provenance and input_statistics.

    Raises:
        ConfigError: naming the key that is wrong.
    """
    optimizer, decay_all, rates = build_optimizer(config.optimizer)
    return SegmentationModule(
        model,
        data.label_map,
        data.features,
        loss=build_loss(config.loss, class_counts=class_counts),
        optimizer=optimizer,
        decay_all=decay_all,
        rates=rates,
        scheduler=build_schedule(config.scheduler),
        gradient_clip=None,
        accumulate=config.trainer.accumulate_grad_batches,
        points_per_pass=config.inference.points_per_pass,
        votes=config.inference.votes,
        **about,
    )
