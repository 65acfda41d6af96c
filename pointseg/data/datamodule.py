"""LightningDataModules: a source of scans for each split -> batches, augmented and turned into features on the device."""

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
from torch.utils.data import DataLoader

from pointseg.data.augmentation import Augmentation
from pointseg.data.clouds import (
    Batch,
    CloudBatches,
    PointBatch,
    RecordBatch,
    TrainingClouds,
    WholeScans,
    decode,
    repeat_factors,
)
from pointseg.data.mixing import PolarMix
from pointseg.data.pasting import InstanceBank, InstancePaste, make_bank
from pointseg.data.residency import RESIDENCIES, Residency, choose_residency
from pointseg.data.sampling import Sampling
from pointseg.data.scan import COLUMNS
from pointseg.data.semantickitti import OFFICIAL_SPLIT, SemanticKITTIScans
from pointseg.data.sources import DataSummary, Progress, ResidentScans, ScanSource, inspect
from pointseg.data.store import PackedScans, PackedStore, is_store
from pointseg.data.store.reader import StoreTable
from pointseg.data.synthetic import SyntheticScans
from pointseg.data.tables import RecordTable, ResidentTable, ScanTable, find_instances
from pointseg.errors import ConfigError
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap
from pointseg.ranks import ranks_of_environment

__all__ = ["ScanDataModule", "SemanticKITTIDataModule", "SyntheticDataModule"]

SPLITS = ("train", "val", "test")


class ScanDataModule(pl.LightningDataModule, ABC):
    """What all data sets share; a subclass says where the scans of a split come from.

    Args:
        labels: a label map, the name of a shipped one, or the path of a YAML.
        points: points a training cloud: a number, or (least, most), drawn for each batch.
        clouds_per_scan: training clouds made from each scan in an epoch.
        batch_size: clouds a batch, on each rank.
        sampling: which points of a scan make a cloud.
        repeat_rare: repeat-factor sampling of scans: classes that fewer than this share of the scans show are rare, and
            scans with them are drawn more often (see `repeat_factors`); 0 draws all alike.
        polarmix: mixes training clouds of two scans; None for none.
        paste: copies objects of rare classes into training clouds; None for none.
        augmentation: of training clouds; None for none.
        features: what the model sees; the same object must be given to the `SegmentationModule`.
        num_workers: loading processes; the batches do not depend on it.
        residency: where the training scans lie: "disk", "memory" (encoded once), "device" (on the GPU, with no loading
            processes), or "auto", the nearest to the model that has room. The samples are the same in all of them.
        seed: of everything that is drawn.
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
        paste: InstancePaste | None = None,
        augmentation: Augmentation | None = None,
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
        self._check_mixing()
        self.num_workers, self.residency, self.seed = num_workers, residency, seed
        self._sources: dict[str, ScanSource] = {}
        self._summaries: dict[str, DataSummary] = {}
        self._table: tuple[Residency, RecordTable] | None = None
        self._instance_bank: InstanceBank | None = None
        self._device: torch.device | None = None
        if not 0 <= repeat_rare <= 1:
            raise ConfigError(f"{repeat_rare} is not between 0 and 1", where="data.repeat_rare", remedy="0 is off.")
        if residency not in RESIDENCIES:
            choose_residency(residency, 0, torch.device("cpu"))  # says what there is
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
        """Look at every scan of a split once: refuses bad files, counts classes (see `inspect`). A packed store has
        counted already."""
        if split not in self._summaries:
            source = self.source(split)
            if isinstance(source, PackedScans):
                self._summaries[split] = source.summary(self.label_map)
            else:
                self._summaries[split] = inspect(source, self.label_map, progress=progress)
        return self._summaries[split]

    def place(self, device: torch.device) -> None:
        """Say where the model will train, before a trainer is attached."""
        self._device = device

    def table(self, progress: Progress | None = None) -> tuple[Residency, RecordTable]:
        """The training scans as records, where `residency` wants them, and why there."""
        if self._table is None:
            source = self.source("train")
            table: RecordTable
            if isinstance(source, PackedScans):
                source.store.require_labels(self.label_map)
                table = StoreTable(source, self.features)
                record = table.format.dtype.itemsize * math.prod(table.format.columns)
            else:
                table = ScanTable(source, self.label_map, self.features, self.summary("train").lengths)
                record = 20
            need = source.expected_points * (record + 2 * len(self.features.surroundings))
            residency = choose_residency(self.residency, need, self._training_device())
            if residency.place != "disk":
                table = ResidentTable(table, residency.device, progress)
            self._table = residency, table
        return self._table

    def bank(self, progress: Progress | None = None) -> InstanceBank:
        """Objects of the rare classes of the training scans, for `paste`."""
        if self._instance_bank is None:
            source, columns = self.source("train"), self.features.measured
            if isinstance(source, PackedScans):
                instances = source.instances()
            else:
                instances = find_instances(source, self.label_map, progress)
            counts = self.summary("train").class_counts
            rare = np.flatnonzero(counts[1:] < self.paste.rare * counts[1:].sum()) + 1
            height = columns.index("height") if "height" in columns else None
            self._instance_bank = make_bank(self.table()[1], instances, rare.tolist(), height)
            if not self._instance_bank.objects:
                raise ConfigError(
                    "there is no object of a rare class to paste",
                    where=f"data.paste.rare={self.paste.rare}",
                    remedy="Labels need instance ids in their upper 16 bits; raise it, or set data.paste.probability=0.",
                )
        return self._instance_bank

    def _check_mixing(self) -> None:
        for key, active, needed, ids in (
            ("polarmix.paste", self.polarmix.paste > 0, "things", self.label_map.things),
            ("paste.probability", self.paste.active, "ground", self.label_map.ground),
        ):
            if active and not ids:
                raise ConfigError(
                    f"label map {self.label_map.name!r} does not say what {needed} are",
                    where=f"data.{key}",
                    remedy=f"Add `{needed}:` with raw ids to its YAML, or set data.{key}=0.",
                )

    def _training_device(self) -> torch.device:
        if self._device is not None:
            return self._device
        return self.trainer.strategy.root_device if self.trainer is not None else torch.device("cpu")

    # ---- Lightning's hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Open what a stage needs, so that what is missing is said before it starts."""
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}.get(stage, ()):
            self.source(split)

    def train_dataloader(self) -> DataLoader[Any]:
        rank, world_size = _rank()
        residency, table = self.table()
        weights = None
        if self.repeat_rare > 0:
            weights = repeat_factors(self.summary("train").scan_counts, self.repeat_rare)
        batches = CloudBatches(
            len(self.source("train")),
            batch_size=self.batch_size,
            points=self.points,
            clouds_per_scan=self.clouds_per_scan,
            seed=self.seed,
            weights=weights,
            rank=rank,
            world_size=world_size,
        )
        if self.paste.active:
            self.bank()
        clouds = TrainingClouds(table, self.sampling, self.seed, partners=self.polarmix.active)
        settings = self._worker_settings()
        if residency.device.type != "cpu":
            settings = {"num_workers": 0}  # the records are where they are needed
        return ResumableLoader(clouds, batch_sampler=batches, collate_fn=_as_is, position=self._position, **settings)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._whole_scans("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._whole_scans("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Training clouds, now on the device: augment, then features. Whole scans pass: the Predictor makes theirs."""
        trainer = self.trainer
        if trainer is None or not trainer.training or not isinstance(batch, RecordBatch):
            return batch
        return self.to_model_input(batch)

    def to_model_input(self, batch: RecordBatch) -> Batch:
        """Augmented features of a loaded batch, on the device where it lies."""
        form, label_map = self.table()[1].format, self.label_map
        clouds = decode(batch, form)
        if batch.partner is not None:
            clouds = self.polarmix(clouds, decode(batch.partner, form), label_map.train_ids_of(label_map.things))
        if self.paste.active:
            bank = self.bank().to(clouds.points.device)
            clouds = self.paste(clouds, bank, label_map.train_ids_of(label_map.ground))
        return self.features_of(clouds)

    def features_of(self, batch: PointBatch) -> Batch:
        """Augment points where they are, then make features of them."""
        points, mask = batch.points, batch.mask
        if self.augmentation is not None:
            points, mask = self.augmentation(points, mask, batch.keys, self.features.metric_columns)
        labels = batch.labels if mask is None else batch.labels.masked_fill(~mask, 0)
        return Batch(self.features(points, mask), points[..., :3], labels, mask, batch.keys)

    def _whole_scans(self, split: str) -> DataLoader[Any]:
        scans = WholeScans(self.source(split), self.label_map, *_rank())
        return DataLoader(scans, batch_size=None, **self._worker_settings())

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


def _as_is(batch: RecordBatch) -> RecordBatch:
    """`TrainingClouds` makes whole batches; a function of its own, so that loading processes can be sent it."""
    return batch


def _rank() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    ranks = ranks_of_environment()  # of processes that have not met yet
    if ranks.world > 1:
        return ranks.rank, ranks.world
    return 0, 1


class SemanticKITTIDataModule(ScanDataModule):
    """SemanticKITTI, or any data set in its layout, as raw files or packed.

    Args:
        root: the folder that holds `sequences/`, or a packed store: a folder, or an address such as abfs://....
        split: split -> sequences, where it is not the official one.
        remission_scale: what remission is divided by (255 for sensors that store 0..255); a store has divided already.
        columns: names of the `.bin` files' columns (see `SemanticKITTIScans`).
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
        columns: Sequence[str] = COLUMNS,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.root, self.remission_scale, self.columns = root, remission_scale, tuple(columns)
        self._store: PackedStore | None = None
        self.split = {**OFFICIAL_SPLIT, **{name: tuple(s) for name, s in (split or {}).items() if s is not None}}

    def open_source(self, split: str, progress: Progress | None = None) -> ScanSource:
        if is_store(self.root):
            self._store = self._store or PackedStore(str(self.root))
            self._store.require_labels(self.label_map)
            return PackedScans(self._store, self.split[split])
        return SemanticKITTIScans(
            self.root, self.split[split], remission_scale=self.remission_scale, columns=self.columns
        )


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
