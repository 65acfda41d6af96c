"""Loaded clouds -> the model's input: mixed, augmented, turned into features, prepared.

This happens on the model's device, or in the loading processes if the model prepares clouds; the draws are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from pointseg.core.extras import Prepare
from pointseg.core.labels import LabelMap
from pointseg.data.augmentation import Augmentation
from pointseg.data.augmentation.lasermix import LaserMix
from pointseg.data.augmentation.pasting import InstanceBank, InstancePaste
from pointseg.data.augmentation.polarmix import PolarMix
from pointseg.data.batches import Batch, PointBatch, RecordBatch, compacted, decode_batch
from pointseg.data.datasets import Draw, TrainingClouds
from pointseg.data.extras import extras_of_batch
from pointseg.data.features import FeatureSpec
from pointseg.data.records import RecordFormat
from pointseg.data.trained_points import TrainedPoints

__all__ = ["ModelInput", "PreparedClouds"]


@dataclass(frozen=True)
class ModelInput:
    """Makes the model's input from loaded clouds, on the device that holds them.

    Attributes:
        form: of the records.
        bank: objects to paste; None for none.
        prepare: what the model prepares of a cloud; None for nothing.
    """

    form: RecordFormat
    label_map: LabelMap
    features: FeatureSpec
    augmentation: Augmentation | None
    polarmix: PolarMix
    lasermix: LaserMix
    paste: InstancePaste
    bank: InstanceBank | None
    prepare: Prepare | None
    trained: TrainedPoints

    def __call__(self, batch: RecordBatch) -> Batch:
        clouds = decode_batch(batch, self.form, self.features.extra)
        if batch.partner is not None:
            partner = decode_batch(batch.partner, self.form, self.features.extra)
            if self.polarmix.active:
                clouds = self.polarmix(clouds, partner, self.label_map.train_ids_of(self.label_map.things))
            if self.lasermix.active:
                clouds = self.lasermix(clouds, partner)
        if self.bank is not None:
            bank, ground = self.bank.to(clouds.points.device), self.label_map.train_ids_of(self.label_map.ground)
            clouds = self.paste(clouds, bank, ground)
        return self._featured(clouds)

    def _featured(self, clouds: PointBatch) -> Batch:
        points, mask = clouds.points, clouds.mask
        if self.augmentation is not None:
            points, mask = self.augmentation(points, mask, clouds.keys, self.features.metric_columns)
        if self.prepare is not None and mask is not None:  # real points come first
            points, labels, mask, *_ = compacted(points, clouds.labels, mask, clouds)
            clouds = clouds._replace(labels=labels)
        labels = clouds.labels if mask is None else clouds.labels.masked_fill(~mask, 0)
        features, coords = self.features(points, mask), points[..., :3]
        extras = None if self.prepare is None else extras_of_batch(self.prepare, coords, features, mask)
        trained = self.trained(labels, clouds.keys) if self.trained.active else labels
        return Batch(features, coords, trained, mask, clouds.keys, extras, labels if self.trained.active else None)


class PreparedClouds(Dataset[Batch]):
    """Training clouds that leave the loading process ready for the model."""

    def __init__(self, clouds: TrainingClouds, model_input: ModelInput) -> None:
        self.clouds, self.model_input = clouds, model_input

    def __getitems__(self, draws: Sequence[Draw]) -> Batch:
        return self.model_input(self.clouds.__getitems__(draws))
