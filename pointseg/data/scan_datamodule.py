"""The LightningDataModule that all data sets share: a source of scans for each split -> batches of features on the device."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from pointseg.core.errors import ConfigError
from pointseg.core.extras import Prepare
from pointseg.core.labels import LabelMap
from pointseg.core.limits import require_between, require_choice
from pointseg.core.progress import Update
from pointseg.core.ranks import ranks_of_environment
from pointseg.data.augmentation.lasermix import LaserMix
from pointseg.data.augmentation.pasting import InstanceBank, InstancePaste, make_bank
from pointseg.data.augmentation.polarmix import PolarMix
from pointseg.data.augmentation.transforms import Augmentation
from pointseg.data.batches import Batch, RecordBatch
from pointseg.data.datasets import CloudBatches, TrainingClouds, WholeScans, repeat_factors
from pointseg.data.extras import ScanExtras
from pointseg.data.features import FeatureSpec
from pointseg.data.joined import instances_in, summary_of, table_of
from pointseg.data.model_input import ModelInput, PreparedClouds
from pointseg.data.sampling import Sampling
from pointseg.data.scan import COLUMNS, missing_columns
from pointseg.data.sources import DataSummary, ScanSource
from pointseg.data.tables import RESIDENCIES, RecordTable, Residency, ResidentTable, choose_residency
from pointseg.data.trained_points import TrainedPoints

__all__ = ["ResumableLoader", "ScanDataModule"]

SPLITS = ("train", "val", "test")


class ScanDataModule(pl.LightningDataModule, ABC):
    """What all data sets share; a subclass says where the scans of a split come from.

    Args:
        labels: a label map, the name of a shipped one, or the path of a YAML.
        points: points of a training cloud: a number, or (least, most), drawn for each batch.
        clouds_per_scan: training clouds made from each scan in an epoch.
        batch_size: clouds of a batch, on each rank.
        sampling: which points of a scan make a cloud.
        repeat_rare: repeat-factor sampling of scans: classes that fewer than this share of the scans show are rare, and
            scans that show them are drawn more often (see `repeat_factors`); 0 draws all alike.
        polarmix, lasermix: mix training clouds of two scans; None for none.
        paste: copies objects of rare classes into training clouds; None for none.
        augmentation: of training clouds; None for none.
        trained: which of a cloud's points the loss looks at; None for all.
        features: what the model sees; the same object must be given to the `SegmentationModule`.
        num_workers: loading processes; the batches do not depend on it.
        residency: where the training scans are kept: "disk", "memory" (encoded once), "device" (on the GPU, without loading
            processes), or "auto", the place nearest to the model that has room. The samples are the same in all of them.
        seed: of everything that is drawn.

    Raises:
        ConfigError: for a setting outside its limits, or a label map that lacks what `polarmix` or `paste` need.
    """

    def __init__(
        self,
        *,
        labels: LabelMap | str | Path = "semantickitti",
        points: int | Sequence[int] = 8192,
        clouds_per_scan: int = 1,
        batch_size: int = 8,
        sampling: Sampling | None = None,
        repeat_rare: float = 0.0,
        polarmix: PolarMix | None = None,
        lasermix: LaserMix | None = None,
        paste: InstancePaste | None = None,
        augmentation: Augmentation | None = None,
        trained: TrainedPoints | None = None,
        features: FeatureSpec | None = None,
        num_workers: int = 0,
        residency: str = "auto",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.label_map = labels if isinstance(labels, LabelMap) else LabelMap.load(labels)
        self.points, self.clouds_per_scan, self.batch_size = points, clouds_per_scan, batch_size
        self.augmentation, self.features = augmentation, features or FeatureSpec()
        self.sampling, self.repeat_rare = sampling or Sampling(), repeat_rare
        self.polarmix, self.paste = polarmix or PolarMix(), paste or InstancePaste()
        self.lasermix, self.trained = lasermix or LaserMix(), trained or TrainedPoints()
        self._check_mixing()
        self.num_workers, self.residency, self.seed = num_workers, residency, seed
        self._sources: dict[str, ScanSource] = {}
        self._summaries: dict[str, DataSummary] = {}
        self._table: tuple[Residency, RecordTable] | None = None
        self._instance_bank: InstanceBank | None = None
        self._device: torch.device | None = None
        self._prepare: Prepare | None = None
        self._prepare_scans = False
        require_between(repeat_rare, 0, 1, "data.repeat_rare")
        require_choice(residency, RESIDENCIES, "data.residency", "residency")
        CloudBatches(1, batch_size=batch_size, points=points, clouds_per_scan=clouds_per_scan)  # refuses bad values

    @abstractmethod
    def open_source(self, split: str, progress: Update | None = None) -> ScanSource:
        """The scans of "train", "val" or "test"."""

    def source(self, split: str, progress: Update | None = None) -> ScanSource:
        """As `open_source`, but opened once."""
        require_choice(split, SPLITS, "split", "split")
        if split not in self._sources:
            source = self.open_source(split, progress)
            available = getattr(source, "extra", ())
            if missing := [name for name in self.features.extra if name not in available]:
                where = getattr(self, "root", None) or type(self).__name__
                raise missing_columns(missing, [*COLUMNS, *available], where)
            self._sources[split] = source
        return self._sources[split]

    def training_source(self, progress: Update | None = None) -> ScanSource:
        """What is trained on: the scans of "train", and what a subclass adds to them."""
        return self.source("train", progress)

    def scan_weights(self) -> NDArray[np.float64] | None:
        """How often each scan of `training_source` is drawn, relative to the others; None: all alike."""
        return repeat_factors(self.summary("train").scan_counts, self.repeat_rare) if self.repeat_rare > 0 else None

    def summary(self, split: str, progress: Update | None = None) -> DataSummary:
        """Read every scan of a split once: refuses bad files, counts classes (see `inspect`). A packed store has the
        counts already."""
        if split not in self._summaries:
            source = self.training_source(progress) if split == "train" else self.source(split)
            self._summaries[split] = summary_of(source, self.label_map, progress)
        return self._summaries[split]

    def place(self, device: torch.device) -> None:
        """Set the device that the model will train on, before a trainer is attached."""
        self._device = device

    def prepare_with(self, prepare: Prepare | None, *, scans: bool = False) -> None:
        """Let the loading processes prepare clouds for a model; a `SegmentationModule` in a trainer calls this itself.

        Args:
            prepare: such as `model.preparation()`; None if the model prepares nothing.
            scans: also prepare the whole scans that are scored; right if each goes through the model at once.
        """
        self._prepare, self._prepare_scans = prepare, scans
        if self._table is not None and prepare is not None and self._table[0].device.type != "cpu":
            self._table = None

    def table(self, progress: Update | None = None) -> tuple[Residency, RecordTable]:
        """The training scans as records, and where they are kept."""
        if self._table is None:
            source, lengths = self.training_source(), self.summary("train").lengths
            table = table_of(source, self.label_map, self.features, lengths)
            record = table.format.dtype.itemsize * math.prod(table.format.columns)
            need = source.expected_points * (record + 2 * len(self.features.surroundings))
            residency = choose_residency(self.residency, need, self._training_device())
            if residency.place != "disk":
                table = ResidentTable(table, residency.device, progress)
            self._table = residency, table
        return self._table

    def bank(self, progress: Update | None = None) -> InstanceBank:
        """Objects of the rare classes of the training scans, for `paste`."""
        if self._instance_bank is None:
            columns = self.features.measured
            instances = instances_in(self.training_source(), self.label_map, progress)
            counts = self.summary("train").class_counts
            rare = np.flatnonzero(counts[1:] < self.paste.rare * counts[1:].sum()) + 1
            height = columns.index("height") if "height" in columns else None
            self._instance_bank = make_bank(self.table()[1], instances, rare.tolist(), height, self.features.extra)
            if not self._instance_bank.objects:
                raise ConfigError(
                    "there is no object of a rare class to paste",
                    where=f"data.paste.rare={self.paste.rare}",
                    remedy="Labels need instance ids in their upper 16 bits; raise it, or set data.paste.probability=0.",
                )
        return self._instance_bank

    def _check_mixing(self) -> None:
        for key, active, missing, ids in (
            ("polarmix.paste", self.polarmix.paste > 0, "things", self.label_map.things),
            ("paste.probability", self.paste.active, "ground", self.label_map.ground),
        ):
            if active and not ids:
                raise ConfigError(
                    f"label map {self.label_map.name!r} does not name its {missing}",
                    where=f"data.{key}",
                    remedy=f"Add `{missing}:` with raw ids to its YAML, or set data.{key}=0.",
                )

    def _training_device(self) -> torch.device:
        if self._prepare is not None:
            return torch.device("cpu")  # clouds are prepared in the loading processes, which have no GPU
        if self._device is not None:
            return self._device
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")

    # ---- Lightning's hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Open what a stage needs, so that anything missing is reported before it starts.

        Raises:
            ConfigError: if the trainer would share the scans among its processes a second time.
        """
        connector: Any = getattr(self.trainer, "_accelerator_connector", None)
        if self.trainer is not None and self.trainer.world_size > 1 and connector.use_distributed_sampler:
            raise ConfigError(
                "the DataModule shares the scans among the processes itself",
                where="Trainer(use_distributed_sampler=True)",
                remedy="Set Trainer(use_distributed_sampler=False).",
            )
        stages = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}
        for split in stages.get(stage, ()):
            self.source(split)

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world_size = _rank()
        residency, table = self.table()
        weights = self.scan_weights()
        batches = CloudBatches(
            len(table.lengths),
            batch_size=self.batch_size,
            points=self.points,
            clouds_per_scan=self.clouds_per_scan,
            seed=self.seed,
            weights=weights,
            rank=rank,
            world_size=world_size,
            same_epoch=bool(getattr(self.trainer, "overfit_batches", 0)),
        )
        if self.paste.active:
            self.bank()
        partners = self.polarmix.active or self.lasermix.active
        clouds: Dataset[Any] = TrainingClouds(table, self.sampling, self.seed, partners=partners, weights=weights)
        if self._prepare is not None:
            clouds = PreparedClouds(clouds, self._model_input())  # type: ignore[arg-type]
        settings = self._worker_settings()
        if residency.device.type != "cpu":
            settings = {"num_workers": 0}  # the records are on the device already
        return ResumableLoader(
            clouds, batch_sampler=batches, collate_fn=_unchanged, position=self._position, **settings
        )

    def val_dataloader(self) -> DataLoader[Any]:
        return self._whole_scans("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._whole_scans("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """The scans of the test split, which need no labels."""
        return self._whole_scans("test", labelled=False)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Augment training clouds and compute their features. Whole scans pass unchanged: the Predictor handles them."""
        trainer = self.trainer
        if trainer is None or not trainer.training or not isinstance(batch, RecordBatch):
            return batch
        return self.to_model_input(batch)

    def to_model_input(self, batch: RecordBatch | Batch) -> Batch:
        """Augmented features of a loaded batch, on the device that holds it; a `Batch` is returned as it is."""
        return batch if isinstance(batch, Batch) else self._model_input()(batch)

    def _model_input(self) -> ModelInput:
        return ModelInput(
            self.table()[1].format,
            self.label_map,
            self.features,
            self.augmentation,
            self.polarmix,
            self.lasermix,
            self.paste,
            self.bank() if self.paste.active else None,
            self._prepare,
            self.trained,
        )

    def _whole_scans(self, split: str, *, labelled: bool = True) -> DataLoader[Any]:
        extras = ScanExtras(self.features, self._prepare) if self._prepare and self._prepare_scans else None
        shared = (self.label_map, *_rank(), self.features.extra, extras)
        scans = WholeScans(self.source(split), *shared, labelled=labelled)
        return DataLoader(scans, batch_size=None, **self._worker_settings())

    def _position(self) -> tuple[int, int]:
        """(epoch, batch) that comes next: one optimizer step is one batch."""
        if self.trainer is None:
            return 0, 0
        return divmod(self.trainer.global_step, max(1, int(self.trainer.num_training_batches)))

    def _worker_settings(self) -> dict[str, Any]:
        return {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}


class ResumableLoader(DataLoader[Any]):
    """A training loader whose place in the epoch is kept in Lightning's checkpoints, so that a resumed run gets exactly
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


def _unchanged(batch: Any) -> Any:
    """The batch itself, for `TrainingClouds` makes whole batches; a function that can be pickled for loading processes."""
    return batch


def _rank() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    ranks = ranks_of_environment()  # before the process group is initialised
    return ranks.rank, ranks.world
