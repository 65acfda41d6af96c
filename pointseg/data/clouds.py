"""Training clouds: which scan, how many of its points, in which batch; and whole scans for scoring.

Everything random is drawn by the sampler's counters (seed, epoch, index, purpose), so a batch does not depend on who
loads it. Legend: B clouds, N points, M measured columns, F features.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from pointseg.data.sources import ScanSource
from pointseg.errors import ConfigError
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap
from pointseg.randomness import Purpose, choose, key, permutation

__all__ = ["Batch", "CloudBatches", "Draw", "PointBatch", "TrainingClouds", "WholeScans", "collate"]


class Draw(NamedTuple):
    """One training cloud to make: `index` counts scans x clouds per scan."""

    epoch: int
    index: int  # type: ignore[assignment]  # tuple.index is not used
    points: int


class PointBatch(NamedTuple):
    """Clouds as they are loaded.

    points (B, N, M) float32 as `FeatureSpec.measure` gives them; labels (B, N) int64 training ids, 0 = ignored; mask
    (B, N) bool, True = real point, None when all are; keys (B,) int64 of (seed, epoch, index).
    """

    points: Tensor
    labels: Tensor
    mask: Tensor | None
    keys: Tensor


class Batch(NamedTuple):
    """Clouds as the model sees them: features (B, N, F), coords (B, N, 3) metres, labels (B, N), mask (B, N) or None."""

    features: Tensor
    coords: Tensor
    labels: Tensor
    mask: Tensor | None


class Cloud(NamedTuple):
    points: Tensor
    labels: Tensor
    key: int


class TrainingClouds(Dataset[Cloud]):
    """Makes the cloud of a `Draw`: that many points of one scan, uniformly without repetition, or all if it has fewer.

    Args:
        source: of the scans.
        label_map: of their labels.
        features: measures the surroundings of each point in its whole scan, before points are drawn.
        seed: of the whole run.
        cache_bytes: how much memory measured scans may take, so that they are read and measured once.
    """

    def __init__(
        self, source: ScanSource, label_map: LabelMap, features: FeatureSpec, seed: int, cache_bytes: int = 0
    ) -> None:
        self.source, self.label_map, self.features, self.seed = source, label_map, features, seed
        self._room = cache_bytes
        self._cache: dict[int, tuple[Tensor, Tensor]] = {}

    def __getitem__(self, draw: Draw) -> Cloud:
        measured, labels = self._measured(draw.index % len(self.source))
        stream = key(self.seed, draw.epoch, draw.index, Purpose.POINTS)
        chosen = torch.from_numpy(choose(len(measured), draw.points, stream))
        return Cloud(measured[chosen], labels[chosen].long(), key(self.seed, draw.epoch, draw.index))

    def _measured(self, index: int) -> tuple[Tensor, Tensor]:
        """(N, M) points with their surroundings, (N,) uint8 training ids."""
        if index in self._cache:
            return self._cache[index]
        scan = self.source[index]
        measured = self.features.measure(torch.from_numpy(scan.points))
        entry = measured, torch.from_numpy(self.label_map.to_train(scan.required_labels, where=scan.labels_source))
        size = measured.nbytes + entry[1].nbytes
        if size <= self._room:
            self._room -= size
            self._cache[index] = entry
        return entry


class WholeScans(Dataset[Cloud]):
    """Every point of every scan, in order: what validation and test score."""

    def __init__(self, source: ScanSource, label_map: LabelMap) -> None:
        self.source, self.label_map = source, label_map

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Cloud:
        scan = self.source[index]
        train_ids = self.label_map.to_train(scan.required_labels, where=scan.labels_source)
        return Cloud(torch.from_numpy(scan.points), torch.from_numpy(train_ids).long(), index)


def collate(clouds: Sequence[Cloud]) -> PointBatch:
    """Stack clouds; shorter ones are padded with zeros and masked, never cut."""
    longest = max(len(cloud.points) for cloud in clouds)
    keys_B = torch.tensor([cloud.key for cloud in clouds], dtype=torch.int64)
    if all(len(cloud.points) == longest for cloud in clouds):
        points, labels = torch.stack([c.points for c in clouds]), torch.stack([c.labels for c in clouds])
        return PointBatch(points, labels, None, keys_B)
    points_BN4 = torch.zeros(len(clouds), longest, clouds[0].points.shape[1])
    labels_BN = torch.zeros(len(clouds), longest, dtype=torch.int64)
    mask_BN = torch.zeros(len(clouds), longest, dtype=torch.bool)
    for row, cloud in enumerate(clouds):
        count = len(cloud.points)
        points_BN4[row, :count], labels_BN[row, :count], mask_BN[row, :count] = cloud.points, cloud.labels, True
    return PointBatch(points_BN4, labels_BN, mask_BN, keys_B)


class _Epoch:
    """Receives `set_epoch` from Lightning, which looks for it on the batch sampler's `sampler`."""

    def __init__(self) -> None:
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


class CloudBatches(Sampler[list[Draw]]):
    """The batches of an epoch, as lists of `Draw`.

    Every epoch visits each scan `clouds_per_scan` times in a new order, each time with other points. The last, smaller
    batch is shared evenly by the ranks; it is left out when a rank would get a single cloud of it, because BatchNorm
    over clouds (in the T-Nets) has nothing to average then. It is kept if it is the only batch.

    Args:
        scans: number of scans.
        batch_size: clouds a batch on each rank.
        points: points a cloud, or (least, most): then each batch draws its size, log-uniformly.
        clouds_per_scan: clouds made from each scan in an epoch.
        seed: of the whole run.
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
        self.clouds, self.batch_size, self.low, self.high = scans * clouds_per_scan, batch_size, low, high
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
            yield [Draw(epoch, int(index), points) for index in mine]

    def _cloud_size(self, epoch: int, batch: int) -> int:
        draw = (key(self.seed, epoch, batch, Purpose.CLOUD_SIZE) & ((1 << 53) - 1)) / (1 << 53)
        return round(math.exp(math.log(self.low) + draw * (math.log(self.high) - math.log(self.low))))
