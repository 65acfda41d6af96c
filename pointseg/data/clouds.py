"""Training clouds: which scan, how many of its points, in which batch; and whole scans for scoring.

Everything random is drawn by the sampler's counters (seed, epoch, index, purpose), so a batch does not depend on who
loads it, nor on where the scans lie. Legend: B clouds, N points, S columns of surroundings, M measured columns, F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pointseg.data.records import RecordFormat
from pointseg.data.sampling import Sampling
from pointseg.data.sources import ScanSource
from pointseg.data.tables import Records, RecordTable
from pointseg.errors import ConfigError
from pointseg.labels import LabelMap
from pointseg.randomness import Purpose, below, key, permutation

__all__ = [
    "Batch",
    "Cloud",
    "CloudBatches",
    "Draw",
    "PointBatch",
    "RecordBatch",
    "TrainingClouds",
    "WholeScans",
    "compacted",
    "decode",
    "repeat_factors",
]


class Draw(NamedTuple):
    """One training cloud to make: `index` counts the clouds of an epoch in all, `scan` is where its points are from."""

    epoch: int
    index: int  # type: ignore[assignment]  # tuple.index is not used
    scan: int
    points: int


class RecordBatch(NamedTuple):
    """Clouds as they are loaded.

    records (B, N, ...) in the table's format; surroundings (B, N, S) float16; mask (B, N) bool, True = real point, None
    when all are; keys (B,) int64 of (seed, epoch, index); shares (B,) float32, the part of its scan that a cloud is;
    partner: as many other clouds to mix with, or None.
    """

    records: Tensor
    surroundings: Tensor
    mask: Tensor | None
    keys: Tensor
    shares: Tensor
    partner: RecordBatch | None = None


class PointBatch(NamedTuple):
    """Clouds as they are augmented.

    points (B, N, M) float32 as `FeatureSpec.measure` gives them; labels (B, N) int64 training ids, 0 = ignored; mask,
    keys and shares as in `RecordBatch`.
    """

    points: Tensor
    labels: Tensor
    mask: Tensor | None
    keys: Tensor
    shares: Tensor


class Batch(NamedTuple):
    """Clouds as the model sees them: features (B, N, F), coords (B, N, 3) metres, labels (B, N), mask (B, N) or None, keys
    (B,) int64 that tell every cloud of a run from every other, or None."""

    features: Tensor
    coords: Tensor
    labels: Tensor
    mask: Tensor | None
    keys: Tensor | None = None


class Cloud(NamedTuple):
    """A whole scan: points (N, 4) float32, labels (N,) int64 training ids, its number."""

    points: Tensor
    labels: Tensor
    key: int


class TrainingClouds(Dataset[RecordBatch]):
    """Makes the clouds of `Draw`s: so many points of one scan, without repetition, or all if it has fewer.

    Args:
        table: of the scans.
        sampling: which points.
        seed: of the whole run.
        partners: whether each cloud comes with another one, of any scan, to be mixed with.
    """

    def __init__(self, table: RecordTable, sampling: Sampling, seed: int, *, partners: bool = False) -> None:
        self.table, self.sampling, self.seed, self.partners = table, sampling, seed, partners

    def __getitems__(self, draws: Sequence[Draw]) -> RecordBatch:
        """One batch; PyTorch's loader calls this instead of one cloud at a time."""
        keys = [key(self.seed, draw.epoch, draw.index) for draw in draws]
        batch = self._batch(draws, keys)
        if not self.partners:
            return batch
        scans = len(self.table.lengths)
        streams = [key(own, Purpose.MIX_PARTNER) for own in keys]
        others = [draw._replace(scan=below(scans, stream)) for draw, stream in zip(draws, streams, strict=True)]
        return batch._replace(partner=self._batch(others, streams))

    def _batch(self, draws: Sequence[Draw], keys: Sequence[int]) -> RecordBatch:
        clouds = [self._cloud(draw, key(own, Purpose.POINTS)) for draw, own in zip(draws, keys, strict=True)]
        records, mask = _stacked([cloud.records for cloud in clouds])
        surroundings, _ = _stacked([cloud.surroundings for cloud in clouds])
        lengths = self.table.lengths
        shares = [len(c.records) / max(1, lengths[draw.scan]) for c, draw in zip(clouds, draws, strict=True)]
        return RecordBatch(
            records,
            surroundings,
            mask,
            torch.tensor(keys, device=records.device),
            torch.tensor(shares, dtype=torch.float32, device=records.device),
        )

    def _cloud(self, draw: Draw, stream: int) -> Records:
        if not self.sampling.looks_at_points:
            return self.table.read(draw.scan, self.sampling.window(self.table.lengths[draw.scan], draw.points, stream))
        whole = self.table.read(draw.scan)
        rows = self.sampling.rows(self.table.format.millimetres(whole.records), draw.points, stream)
        return Records(whole.records[rows], whole.surroundings[rows])


def _stacked(clouds: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """(N, ...) of each cloud -> (B, N, ...) and the mask; shorter ones are padded with zeros, never cut."""
    longest = max(len(cloud) for cloud in clouds)
    if all(len(cloud) == longest for cloud in clouds):
        return torch.stack(list(clouds)), None
    padded = clouds[0].new_zeros(len(clouds), longest, *clouds[0].shape[1:])
    mask_BN = torch.zeros(len(clouds), longest, dtype=torch.bool, device=padded.device)
    for row, cloud in enumerate(clouds):
        padded[row, : len(cloud)], mask_BN[row, : len(cloud)] = cloud, True
    return padded, mask_BN


def decode(batch: RecordBatch, form: RecordFormat) -> PointBatch:
    """Records -> points, on the device where they lie; padded points are zeros."""
    clouds, count, columns = batch.surroundings.shape
    planes = torch.empty((4 + columns, clouds, count), dtype=torch.float32, device=batch.records.device)
    _, labels = form.decode(batch.records, planes[:4])
    planes[4:] = batch.surroundings.movedim(-1, 0)
    points = planes.movedim(0, -1)
    if batch.mask is not None:
        points, labels = points.masked_fill(~batch.mask[..., None], 0.0), labels.masked_fill(~batch.mask, 0)
    return PointBatch(points, labels, batch.mask, batch.keys, batch.shares)


def compacted(points_BCM: Tensor, labels_BC: Tensor, kept_BC: Tensor, like: PointBatch) -> PointBatch:
    """Clouds of those candidates that are kept, in their order; shorter clouds are padded and masked, no point is cut."""
    counts_B = kept_BC.sum(dim=1)
    longest = max(1, int(counts_B.max()))
    order_BN = torch.argsort((~kept_BC).to(torch.uint8), dim=1, stable=True)[:, :longest]
    mask_BN = torch.arange(longest, device=counts_B.device) < counts_B[:, None]
    points = points_BCM.gather(1, order_BN[..., None].expand(-1, -1, points_BCM.shape[-1]))
    labels = labels_BC.gather(1, order_BN)
    if bool(mask_BN.all()):
        return like._replace(points=points, labels=labels, mask=None)
    points, labels = points.masked_fill(~mask_BN[..., None], 0.0), labels.masked_fill(~mask_BN, 0)
    return like._replace(points=points, labels=labels, mask=mask_BN)


class WholeScans(Dataset[Cloud]):
    """Every point of every scan, in order: what validation and test score.

    Several processes share them, each scan going to one; a process for which none is left gets a scan without points, since
    all must take part in what follows a validation.
    """

    def __init__(self, source: ScanSource, label_map: LabelMap, rank: int = 0, world_size: int = 1) -> None:
        self.source, self.label_map = source, label_map
        self.mine = range(rank, len(source), world_size)

    def __len__(self) -> int:
        return max(1, len(self.mine))

    def __getitem__(self, number: int) -> Cloud:
        if not self.mine and number == 0:
            return Cloud(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), -1)
        index = self.mine[number]
        scan = self.source[index]
        train_ids = self.label_map.to_train(scan.required_labels, where=scan.labels_source)
        return Cloud(torch.from_numpy(scan.points), torch.from_numpy(train_ids).long(), index)


def repeat_factors(class_counts: NDArray[np.int64], threshold: float) -> NDArray[np.float64]:
    """How much more often than once a scan is to be drawn, (scans,): repeat-factor sampling (Gupta, Dollár, Girshick,
    "LVIS", CVPR 2019): max(1, sqrt(threshold / share)) of the rarest class in it, share being that of the scans that
    show the class.

    Args:
        class_counts: (scans, K + 1) points by training id.
        threshold: classes in a smaller share of the scans are rare; 0 draws all scans alike.
    """
    shown = class_counts[:, 1:] > 0
    share = shown.mean(axis=0)
    factors = np.sqrt(np.maximum(1.0, threshold / np.maximum(share, 1e-12)))
    return np.where(shown, factors, 1.0).max(axis=1)


class _Epoch:
    """Receives `set_epoch` from Lightning, which looks for it on the batch sampler's `sampler`."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class CloudBatches(Sampler[list[Draw]]):
    """The batches of an epoch, as lists of `Draw`.

    Every epoch visits each scan `clouds_per_scan` times in a new order, each time with other points; with `weights`, it
    makes as many clouds, of scans drawn in these proportions. The last, smaller
    batch is shared evenly by the ranks; it is left out when a rank would get a single cloud of it, because BatchNorm
    over clouds (in the T-Nets) has nothing to average then. It is kept if it is the only batch.

    Args:
        scans: number of scans.
        batch_size: clouds a batch on each rank.
        points: points a cloud, or (least, most): then each batch draws its size, log-uniformly.
        clouds_per_scan: clouds made from each scan in an epoch.
        seed: of the whole run.
        weights: (scans,) how often each scan is drawn, relative to the others; None: all alike.
        rank, world_size: this process among all.
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
    ) -> None:
        low, high = (points, points) if isinstance(points, int) else (int(points[0]), int(points[-1]))
        for where, value in (
            ("data.points", low),
            ("data.batch_size", batch_size),
            ("data.clouds_per_scan", clouds_per_scan),
        ):
            if value < 1:
                raise ConfigError(f"{value} is less than 1", where=where)
        if low > high or (not isinstance(points, int) and len(points) != 2):
            raise ConfigError(
                f"{list(points) if not isinstance(points, int) else points} is no range of points",
                where="data.points",
                remedy="Give a number, or [least, most].",
            )
        self.scans, self.clouds, self.batch_size = scans, scans * clouds_per_scan, batch_size
        self.low, self.high = low, high
        # whole numbers, so that the draw is the same everywhere
        self._up_to = None if weights is None else np.cumsum(np.rint(weights * (1 << 16)).astype(np.int64))
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.sampler = _Epoch()
        self.start = 0  # batches of this epoch that a resumed run has behind it

    def set_epoch(self, epoch: int) -> None:
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(self.clouds, self.batch_size * self.world_size)
        share = rest // self.world_size
        return whole + (1 if share > 1 or (whole == 0 and share == 1) else 0)

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.sampler.epoch
        order = permutation(self.clouds, key(self.seed, epoch, Purpose.ORDER))
        start, self.start = self.start, 0
        for batch in range(start, len(self)):
            everyone = order[batch * self.batch_size * self.world_size :][: self.batch_size * self.world_size]
            share = len(everyone) // self.world_size
            mine = everyone[self.rank * share : (self.rank + 1) * share]
            points = self._cloud_size(epoch, batch)
            yield [Draw(epoch, int(index), self._scan(epoch, int(index)), points) for index in mine]

    def _scan(self, epoch: int, index: int) -> int:
        if self._up_to is None:
            return index % self.scans
        draw = below(int(self._up_to[-1]), key(self.seed, epoch, index, Purpose.SCAN_CHOICE))
        return int(np.searchsorted(self._up_to, draw, side="right"))

    def _cloud_size(self, epoch: int, batch: int) -> int:
        draw = (key(self.seed, epoch, batch, Purpose.CLOUD_SIZE) & ((1 << 53) - 1)) / (1 << 53)
        return round(math.exp(math.log(self.low) + draw * (math.log(self.high) - math.log(self.low))))
