"""The LightningDataModules: SemanticKITTI or data in its layout, and synthetic streets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError
from pointseg.core.progress import Update
from pointseg.data.joined import JoinedScans
from pointseg.data.scan import COLUMNS
from pointseg.data.scan_datamodule import SPLITS, ScanDataModule
from pointseg.data.semantickitti import OFFICIAL_SPLIT, SemanticKITTIScans
from pointseg.data.sources import ResidentScans, ScanSource
from pointseg.data.store import PackedScans, PackedStore, is_store
from pointseg.data.streets import Streets
from pointseg.data.synthetic import SyntheticScans

__all__ = ["SemanticKITTIDataModule", "SyntheticDataModule"]


class SemanticKITTIDataModule(ScanDataModule):
    """SemanticKITTI, or any data set in its layout, as raw files or packed.

    Args:
        root: the folder that holds `sequences/`, or a packed store: a folder, or an address such as abfs://....
        split: split -> sequences, if it is not the official one.
        remission_scale: what remission is divided by, 255 for sensors that store 0..255; a store holds [0, 1] already.
        columns: names of the `.bin` files' columns (see `SemanticKITTIScans`).
        streets: synthetic streets to train on beside these scans; None for none.
        settings: see `ScanDataModule`.

    Raises:
        ConfigError: for streets where the features use a column that they do not have; see also `ScanDataModule`.

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
        streets: Streets | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.streets = streets or Streets()
        if self.streets.active and self.features.extra:
            raise ConfigError(
                f"synthetic streets have no column {', '.join(self.features.extra)}",
                where=f"data.streets.count={self.streets.count}",
                remedy="Set it to 0, or leave the column out of features.use.",
            )
        self._joined: JoinedScans | None = None
        self.root, self.remission_scale, self.columns = root, remission_scale, tuple(columns)
        self._store: PackedStore | None = None
        self.split = {**OFFICIAL_SPLIT, **{name: tuple(s) for name, s in (split or {}).items() if s is not None}}

    def open_source(self, split: str, progress: Update | None = None) -> ScanSource:
        if is_store(self.root):
            self._store = self._store or PackedStore(str(self.root))
            self._store.require_labels(self.label_map)
            return PackedScans(self._store, self.split[split])
        return SemanticKITTIScans(
            self.root, self.split[split], remission_scale=self.remission_scale, columns=self.columns
        )

    def training_source(self, progress: Update | None = None) -> ScanSource:
        if not self.streets.active:
            return super().training_source(progress)
        if self._joined is None:
            self._joined = self.streets.beside(self.source("train"), progress)
        return self._joined

    def scan_weights(self) -> NDArray[np.float64] | None:
        weights = super().scan_weights()
        if not self.streets.active:
            return weights
        shares = self.streets.weights(len(self.source("train")))
        return shares if weights is None else shares * weights


class SyntheticDataModule(ScanDataModule):
    """Streets made by `SyntheticWorld`, each split with streets of its own, kept in memory: the default, with no download.

    Args:
        scans: scans of each split.
        world_seed: of the streets; the splits take world_seed, world_seed + 1 and world_seed + 2.
        beams: 16, 32, 64 or 128.
        azimuth_steps: rays of a beam in one turn.
        scans_per_street: scans of one street, 0.3 s apart; more streets teach a model more than more scans of a street.
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

    def open_source(self, split: str, progress: Update | None = None) -> ScanSource:
        scans = SyntheticScans(
            scans=self.scans[split],
            seed=self.world_seed + SPLITS.index(split),
            beams=self.beams,
            azimuth_steps=self.azimuth_steps,
            scans_per_street=self.scans_per_street,
        )
        return ResidentScans(scans, progress)
