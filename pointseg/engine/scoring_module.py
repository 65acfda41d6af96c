"""ScoringModule: a segmentation model that Lightning validates and tests on whole scans, exactly as it is deployed.

Legend: B clouds, N points, K classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.batches import Cloud
from pointseg.data.features import FeatureSpec
from pointseg.engine.inference import cloud_logits
from pointseg.engine.metrics import Scores
from pointseg.engine.official_iou import OfficialIoU
from pointseg.models import Extras, SegmentationModel

__all__ = ["ScoringModule"]


class ScoringModule(pl.LightningModule):
    """Predicts whole scans and scores them by the official rule.

    Args:
        inference: arguments of `inference.cloud_logits`.

    Attributes:
        scores: of the last validation or test; None before.

    Raises:
        ConfigError: if the model does not fit the classes or the features.
    """

    def __init__(
        self, model: SegmentationModel, label_map: LabelMap, features: FeatureSpec, inference: dict[str, Any]
    ) -> None:
        super().__init__()
        _check_model(model, label_map, features)
        self.model, self.label_map, self.feature_spec, self.inference = model, label_map, features, inference
        self.iou = OfficialIoU(label_map.num_classes)
        self.scores: Scores | None = None

    def forward(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> Tensor:
        """Logits (B, N, K)."""
        return self.model.predicted(features, coords, mask, extras)

    def on_validation_epoch_start(self) -> None:
        self.iou.reset()
        if dist.is_available() and dist.is_initialized():
            for buffer in self.model.buffers():  # score what a checkpoint keeps: the first process's statistics
                dist.broadcast(buffer, 0)

    def validation_step(self, scan: Cloud, batch_idx: int) -> Tensor:
        """Predict a whole scan; returns the training ids (N,). A scan without points counts nothing."""
        prediction_N = self._predicted(scan)
        self.iou.update(prediction_N, scan.labels)
        return prediction_N

    def on_validation_epoch_end(self) -> None:
        self._log_scores("val")

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        self._log_scores("test")

    def predict_step(self, scan: Cloud, batch_idx: int) -> Tensor:
        """Raw label ids (N,) int64 of a whole scan, on the CPU, the same as a `Predictor` gives."""
        raw_ids = self.label_map.to_raw(self._predicted(scan).cpu().numpy())
        return torch.from_numpy(raw_ids.astype(np.int64))

    def _predicted(self, scan: Cloud) -> Tensor:
        if len(scan.points) == 0:
            return scan.labels
        settings = {"extras": scan.extras, **self.inference}
        return cloud_logits(self.model, self.feature_spec, scan.points, **settings).argmax(dim=1) + 1

    def _log_scores(self, split: str) -> None:
        self.scores = self.iou.compute()
        self.log_dict(self.scores.summary(split))
        names = self.label_map.class_names
        self.log_dict({f"{split}/iou/{n}": float(v) for n, v in zip(names, self.scores.iou, strict=True)})


def _check_model(model: SegmentationModel, label_map: LabelMap, features: FeatureSpec) -> None:
    if model.num_classes != label_map.num_classes:
        raise ConfigError(
            f"the model has {model.num_classes} classes and label map {label_map.name!r} {label_map.num_classes}",
            where="model.num_classes",
        )
    if model.in_features != len(features):
        raise ConfigError(
            f"the model takes {model.in_features} features and there are {len(features)} ({', '.join(features.use)})",
            where="model.in_features",
        )
    model.check(features.use)
