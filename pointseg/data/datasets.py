"""The data sets and the batch sampler that PyTorch's loaders read: training clouds, and whole scans for scoring.

Everything random follows from the sampler's counters (seed, epoch, index, purpose), so a batch does not depend on which
process loads it, nor on where the scans are stored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.core.limits import require_at_least
from pointseg.core.randomness import Purpose, below, permutation, random_key
from pointseg.data.batches import Cloud, RecordBatch, padded_stack
from pointseg.data.extras import ScanExtras
from pointseg.data.sampling import Sampling
from pointseg.data.sources import ScanSource
from pointseg.data.tables import Records, RecordTable

__all__ = ["CloudBatches", "Draw", "TrainingClouds", "WholeScans", "repeat_factors"]


class Draw(NamedTuple):
    """One training cloud to make: `index` counts the clouds of an epoch, `scan` is the scan its points come from."""

    epoch: int
    index: int  # type: ignore[assignment]  # tuple.index is not used
    scan: int
    points: int


class TrainingClouds(Dataset[RecordBatch]):
    """Makes the cloud of each `Draw`: `points` points of one scan, without repetition, or all if it has fewer.

    Args:
        table: of the scans.
        sampling: which points are chosen.
        seed: of the whole run.
        partners: whether each cloud comes with another one, of any scan, to be mixed with.
        weights: (scans,) how often each scan is drawn as a partner, relative to the others; None: all alike.
    """

    def __init__(
        self,
        table: RecordTable,
        sampling: Sampling,
        seed: int,
        *,
        partners: bool = False,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        self.table, self.sampling, self.seed, self.partners = table, sampling, seed, partners
        self._odds = _Odds(len(table.lengths), weights)

    def __getitems__(self, draws: Sequence[Draw]) -> RecordBatch:
        """One batch; PyTorch's loader calls this instead of one cloud at a time."""
        keys = [random_key(self.seed, draw.epoch, draw.index) for draw in draws]
        batch = self._batch(draws, keys)
        if not self.partners:
            return batch
        streams = [random_key(key, Purpose.MIX_PARTNER) for key in keys]
        others = [draw._replace(scan=self._odds.scan(stream)) for draw, stream in zip(draws, streams, strict=True)]
        return batch._replace(partner=self._batch(others, streams))

    def _batch(self, draws: Sequence[Draw], keys: Sequence[int]) -> RecordBatch:
        clouds = [self._cloud(draw, random_key(key, Purpose.POINTS)) for draw, key in zip(draws, keys, strict=True)]
        records, mask = padded_stack([cloud.records for cloud in clouds])
        surroundings, _ = padded_stack([cloud.surroundings for cloud in clouds])
        lengths = self.table.lengths
        shares = [len(c.records) / max(1, lengths[draw.scan]) for c, draw in zip(clouds, draws, strict=True)]
        device = records.device
        return RecordBatch(
            records, surroundings, mask, torch.tensor(keys, device=device), torch.tensor(shares, device=device)
        )

    def _cloud(self, draw: Draw, stream: int) -> Records:
        if not self.sampling.looks_at_points:
            return self.table.read(draw.scan, self.sampling.window(self.table.lengths[draw.scan], draw.points, stream))
        scan = self.table.read(draw.scan)
        rows = self.sampling.rows(self.table.format.millimetres(scan.records), draw.points, stream)
        return Records(scan.records[rows], scan.surroundings[rows])


class WholeScans(Dataset[Cloud]):
    """Every point of every scan, in order: what validation and test score.

    Each scan goes to one of the processes. A process without a scan gets one without points, because all processes must
    take part in what follows a validation.

    Args:
        rank, world_size: this process among all.
        columns: further columns of the points that are wanted.
        extras: prepares what the model needs of a scan; None if it needs nothing.
        labelled: False gives 0 as every label, for scans that need not have any.
    """

    def __init__(
        self,
        source: ScanSource,
        label_map: LabelMap,
        rank: int = 0,
        world_size: int = 1,
        columns: Sequence[str] = (),
        extras: ScanExtras | None = None,
        *,
        labelled: bool = True,
    ) -> None:
        self.source, self.label_map, self.columns, self.extras = source, label_map, columns, extras
        self.labelled = labelled
        self.own_scans = range(rank, len(source), world_size)

    def __len__(self) -> int:
        return max(1, len(self.own_scans))

    def __getitem__(self, number: int) -> Cloud:
        if not self.own_scans and number == 0:
            return Cloud(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), -1)
        index = self.own_scans[number]
        scan = self.source[index]
        points = torch.from_numpy(scan.with_columns(self.columns))
        labels = torch.zeros(len(points), dtype=torch.int64)
        if self.labelled:
            labels = torch.from_numpy(scan.train_ids(self.label_map)).long()
        extras = None if self.extras is None else self.extras(points)
        return Cloud(points, labels, index, extras)


def repeat_factors(class_counts: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """How often each scan is drawn, relative to the others, (scans,): repeat-factor sampling.

    max(1, sqrt(threshold / share)) of the rarest class in the scan, where share is the share of scans that show the class
    (Gupta, Dollár, Girshick, "LVIS", CVPR 2019).

    Args:
        class_counts: (scans, K + 1) points by training id.
        threshold: classes in a smaller share of the scans are rare; 0 draws all scans alike.
    """
    shown = class_counts[:, 1:] > 0
    share = shown.mean(axis=0)
    factors = np.sqrt(np.maximum(1.0, threshold / np.maximum(share, 1e-12)))
    return np.where(shown, factors, 1.0).max(axis=1)


class _Odds:
    """Draws scans, in proportion to their weights."""

    def __init__(self, scans: int, weights: NDArray[np.float64] | None) -> None:
        self._scans = scans
        # whole numbers, so that the draw is the same on every machine
        self._cumulated = None if weights is None else np.cumsum(np.rint(weights * (1 << 16)).astype(np.int64))

    def scan(self, key: int) -> int:
        if self._cumulated is None:
            return below(self._scans, key)
        return int(np.searchsorted(self._cumulated, below(int(self._cumulated[-1]), key), side="right"))


class _Epoch:
    """Receives `set_epoch` from Lightning, which calls it on the batch sampler's `sampler`."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class CloudBatches(Sampler[list[Draw]]):
    """The batches of an epoch, as lists of `Draw`.

    Every epoch visits each scan `clouds_per_scan` times in a new order, each time with other points; with `weights`, it
    makes as many clouds from scans drawn in these proportions. The last, smaller batch is shared evenly by the ranks. It
    is left out when a rank would get a single cloud of it, because BatchNorm over clouds (in the T-Nets) would have
    nothing to average; it is kept if it is the only batch.

    Args:
        scans: number of scans.
        batch_size: clouds a batch on each rank.
        points: points of a cloud, or (least, most): then each batch draws its size log-uniformly.
        clouds_per_scan: clouds made from each scan in an epoch.
        seed: of the whole run.
        weights: (scans,) how often each scan is drawn, relative to the others; None: all alike.
        rank, world_size: this process among all.
        same_epoch: every epoch is the first one: its order, points and augmentation.
    """

    def __init__(
        self,
        scans: int,
        *,
        batch_size: int,
        points: int | Sequence[int],
        clouds_per_scan: int = 1,
        seed: int = 0,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        world_size: int = 1,
        same_epoch: bool = False,
    ) -> None:
        low, high = (points, points) if isinstance(points, int) else (int(points[0]), int(points[-1]))
        require_at_least(low, 1, "data.points")
        require_at_least(batch_size, 1, "data.batch_size")
        require_at_least(clouds_per_scan, 1, "data.clouds_per_scan")
        if low > high or (not isinstance(points, int) and len(points) != 2):
            raise ConfigError(
                f"{list((low, high) if isinstance(points, int) else points)} is not a range of points",
                where="data.points",
                remedy="Give a number, or [least, most].",
            )
        self.scans, self.clouds, self.batch_size = scans, scans * clouds_per_scan, batch_size
        self.low, self.high = low, high
        self._odds = None if weights is None else _Odds(scans, weights)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.sampler, self.same_epoch = _Epoch(), same_epoch
        self.start = 0  # batches of this epoch that a resumed run has behind it

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(self.clouds, self.batch_size * self.world_size)
        share = rest // self.world_size
        return whole + (1 if share > 1 or (whole == 0 and share == 1) else 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = 0 if self.same_epoch else self.sampler.epoch
        order = permutation(self.clouds, random_key(self.seed, epoch, Purpose.ORDER))
        start, self.start = self.start, 0
        for batch in range(start, len(self)):
            all_ranks = order[batch * self.batch_size * self.world_size :][: self.batch_size * self.world_size]
            share = len(all_ranks) // self.world_size
            this_rank = all_ranks[self.rank * share : (self.rank + 1) * share]
            points = self._cloud_size(epoch, batch)
            yield [Draw(epoch, int(index), self._scan(epoch, int(index)), points) for index in this_rank]

    def _scan(self, epoch: int, index: int) -> int:
        if self._odds is None:
            return index % self.scans
        return self._odds.scan(random_key(self.seed, epoch, index, Purpose.SCAN_CHOICE))

    def _cloud_size(self, epoch: int, batch: int) -> int:
        draw = (random_key(self.seed, epoch, batch, Purpose.CLOUD_SIZE) & ((1 << 53) - 1)) / (1 << 53)
        return round(math.exp(math.log(self.low) + draw * (math.log(self.high) - math.log(self.low))))
