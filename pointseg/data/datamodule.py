"""LightningDataModules: a source of scans for each split -> batches, augmented and turned into features on the device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Subset

from pointseg.data.augmentation import Augmentation
from pointseg.data.clouds import Batch, CloudBatches, PointBatch, TrainingClouds, WholeScans, collate
from pointseg.data.semantickitti import OFFICIAL_SPLIT, SemanticKITTIScans
from pointseg.data.sources import DataSummary, Progress, ResidentScans, ScanSource, inspect
from pointseg.data.synthetic import SyntheticScans
from pointseg.errors import ConfigError
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap

__all__ = ["ScanDataModule", "SemanticKITTIDataModule", "SyntheticDataModule"]

SPLITS = ("train", "val", "test")


class ScanDataModule(pl.LightningDataModule, ABC):
    """What all data sets share; a subclass says where the scans of a split come from.

    Args:
        labels: a label map, the name of a shipped one, or the path of a YAML.
        points: points a training cloud: a number, or (least, most), drawn for each batch.
        clouds_per_scan: training clouds made from each scan in an epoch.
        batch_size: clouds a batch, on each rank.
        augmentation: of training clouds; None for none.
        features: what the model sees; the same object must be given to the `SegmentationModule`.
        num_workers: loading processes; the batches do not depend on it.
        cache_gib: memory for measured training scans, in each loading process; what does not fit is read again.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        *,
        labels: LabelMap | str | Path = "semantickitti",
        points: int | Sequence[int] = 8192,
        clouds_per_scan: int = 1,
        batch_size: int = 8,
        augmentation: Augmentation | None = None,
        features: FeatureSpec | None = None,
        num_workers: int = 0,
        cache_gib: float = 2.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.label_map = labels if isinstance(labels, LabelMap) else LabelMap.load(labels)
        self.points, self.clouds_per_scan, self.batch_size = points, clouds_per_scan, batch_size
        self.augmentation, self.features = augmentation, features or FeatureSpec()
        self.num_workers, self.cache_gib, self.seed = num_workers, cache_gib, seed
        self._sources: dict[str, ScanSource] = {}
        CloudBatches(1, batch_size=batch_size, points=points, clouds_per_scan=clouds_per_scan)  # refuses bad values

    @abstractmethod
    def open_source(self, split: str, progress: Progress | None = None) -> ScanSource:
        """The scans of "train", "val" or "test"."""

    def source(self, split: str, progress: Progress | None = None) -> ScanSource:
        """As `open_source`, but opened once."""
        if split not in SPLITS:
            raise ConfigError(f"there is no split {split!r}", where="split", remedy=f"Use {', '.join(SPLITS)}.")
        if split not in self._sources:
            self._sources[split] = self.open_source(split, progress)
        return self._sources[split]

    def summary(self, split: str, progress: Progress | None = None) -> DataSummary:
        """Read every scan of a split once: refuses bad files, counts classes (see `inspect`)."""
        return inspect(self.source(split), self.label_map, progress=progress)

    # ---- Lightning's hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Open what a stage needs, so that what is missing is said before it starts."""
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.source(split)

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world_size = _rank()
        batches = CloudBatches(
            len(self.source("train")),
            batch_size=self.batch_size,
            points=self.points,
            clouds_per_scan=self.clouds_per_scan,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
        )
        clouds = TrainingClouds(
            self.source("train"), self.label_map, self.features, self.seed, int(self.cache_gib * 2**30)
        )
        return ResumableLoader(
            clouds, batch_sampler=batches, collate_fn=collate, position=self._position, **self._worker_settings()
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._whole_scans("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._whole_scans("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Training clouds, now on the device: augment, then features. Whole scans pass: the Predictor makes theirs."""
        trainer = self.trainer
        if trainer is None or not trainer.training or not isinstance(batch, PointBatch):
            return batch
        return self.to_model_input(batch)

    def to_model_input(self, batch: PointBatch) -> Batch:
        """Augmented features of a loaded batch, on the device where it lies."""
        points, mask = batch.points, batch.mask
        if self.augmentation is not None:
            points, mask = self.augmentation(points, mask, batch.keys, self.features.metric_columns)
        labels = batch.labels if mask is None else batch.labels.masked_fill(~mask, 0)
        return Batch(self.features(points, mask), points[..., :3], labels, mask)

    def _whole_scans(self, split: str) -> DataLoader[Any]:
        scans = WholeScans(self.source(split), self.label_map)
        rank, world_size = _rank()
        mine = Subset(scans, range(rank, len(scans), world_size))  # nothing twice: metrics stay exact over ranks
        return DataLoader(mine, batch_size=None, **self._worker_settings())

    def _position(self) -> tuple[int, int]:
        """(epoch, batch) that comes next: one optimizer step is one batch."""
        if self.trainer is None:
            return 0, 0
        return divmod(self.trainer.global_step, max(1, int(self.trainer.num_training_batches)))

    def _worker_settings(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}


class ResumableLoader(DataLoader[Any]):
    """A training loader whose place in the epoch is kept in Lightning's checkpoints, so that a resumed run sees exactly
    the batches that it had left."""

    def __init__(self, *args: Any, position: Callable[[], tuple[int, int]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._position = position

    def state_dict(self) -> dict[str, int]:
        """The next batch to train on."""
        epoch, batch = self._position()
        return {"epoch": epoch, "batch": batch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        batches = self.batch_sampler
        assert isinstance(batches, CloudBatches)
        batches.set_epoch(int(state["epoch"]))
        batches.start = int(state["batch"])


def _rank() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class SemanticKITTIDataModule(ScanDataModule):
    """SemanticKITTI, or any data set in its layout.

    Args:
        root: the folder that holds `sequences/`.
        split: split -> sequences, where it is not the official one.
        remission_scale: what remission is divided by (255 for sensors that store 0..255).
        settings: see `ScanDataModule`.

    Example:
        >>> data = SemanticKITTIDataModule("semantickitti", points=16384, batch_size=4)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).points.shape
        torch.Size([4, 16384, 4])
    """

    def __init__(
        self,
        root: str | Path | None,
        *,
        split: Mapping[str, Sequence[str | int]] | None = None,
        remission_scale: float = 1.0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root, self.remission_scale = root, remission_scale
        self.split = {**OFFICIAL_SPLIT, **{name: tuple(s) for name, s in (split or {}).items() if s is not None}}

    def open_source(self, split: str, progress: Progress | None = None) -> ScanSource:
        return SemanticKITTIScans(self.root, self.split[split], remission_scale=self.remission_scale)


class SyntheticDataModule(ScanDataModule):
    """The embedded default: streets made by `SyntheticWorld`, each split with streets of its own, kept in memory.

    Args:
        scans: scans of each split.
        world_seed: of the streets; the splits take world_seed, world_seed + 1 and world_seed + 2.
        beams: 16, 32, 64 or 128.
        azimuth_steps: rays of a beam in one turn.
        scans_per_street: scans of one street, 0.3 s apart; more streets teach more than more scans of a street.
        settings: see `ScanDataModule`.

    Example:
        >>> data = SyntheticDataModule(scans={"train": 8, "val": 2, "test": 2}, azimuth_steps=500)
    """

    def __init__(
        self,
        scans: Mapping[str, int] | None = None,
        *,
        world_seed: int = 0,
        beams: int = 64,
        azimuth_steps: int = 2000,
        scans_per_street: int = 1,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.scans = {"train": 200, "val": 12, "test": 24, **(scans or {})}
        self.world_seed, self.beams, self.azimuth_steps = world_seed, beams, azimuth_steps
        self.scans_per_street = scans_per_street

    def open_source(self, split: str, progress: Progress | None = None) -> ScanSource:
        made = SyntheticScans(
            scans=self.scans[split],
            seed=self.world_seed + SPLITS.index(split),
            beams=self.beams,
            azimuth_steps=self.azimuth_steps,
            scans_per_street=self.scans_per_street,
        )
        return ResidentScans(made, progress)
