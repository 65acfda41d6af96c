"""Scans as records, by number: what training clouds are drawn from.

A `RecordTable` holds the points of every scan as records (`records`) in an order shuffled once, so that a slice is a fair
sample, with the surroundings that the features need beside them. It does not matter where it lies: in a packed store on
disk (`store`), in raw files that are encoded as they are read, in memory, or on a GPU; the samples are the same.

Legend: N points of a scan, S columns of surroundings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pointseg.data.instances import Instances, instances_of
from pointseg.data.records import RecordFormat, Wide
from pointseg.data.sampling import Window
from pointseg.data.scan import Scan
from pointseg.data.sources import Progress, ScanSource, in_order
from pointseg.errors import OutOfMemory
from pointseg.features import FeatureSpec
from pointseg.labels import LabelMap
from pointseg.randomness import Purpose, key, permutation

__all__ = [
    "RecordTable",
    "Records",
    "ResidentTable",
    "ScanTable",
    "find_instances",
    "part_of",
    "shuffled_order",
    "surroundings_of",
]


class Records(NamedTuple):
    """Points of one scan: records (N, ...) in the table's format, surroundings (N, S) float16."""

    records: Tensor
    surroundings: Tensor


class RecordTable(Protocol):
    """Records of many scans.

    Attributes:
        format: of the records.
        lengths: points of each scan.
    """

    @property
    def format(self) -> RecordFormat: ...

    @property
    def lengths(self) -> Sequence[int]: ...

    def read(self, scan: int, window: Window | None = None) -> Records:
        """A part of a scan, or all of it, in the shuffled order."""


def shuffled_order(name: str, points: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The order (N,) in which the points of the scan "SEQUENCE/FRAME" are kept: it depends on nothing else."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return permutation(points, key(Purpose.SHUFFLE, int.from_bytes(digest, "little")))


def surroundings_of(features: FeatureSpec, points: Tensor) -> Tensor:
    """The whole scan's points (N, 4) -> (N, S) float16: to 1 part in 2,000, far below what a sensor measures."""
    return features.measure_surroundings(points).to(torch.float16)


def part_of(records: Records, window: Window | None) -> Records:
    """A window of a scan's records."""
    if window is None:
        return records
    return Records(*(_around(tensor, 0, len(tensor), window) for tensor in records))


def _around(tensor: Tensor, first: int, points: int, window: Window) -> Tensor:
    """Rows of the scan that lies at first .. first + points - 1, a view where the window does not go around."""
    start, count = window
    end = min(start + count, points)
    straight = tensor[first + start : first + end]
    left = count - (end - start)
    return torch.cat([straight, tensor[first : first + left]]) if left else straight


class ScanTable:
    """The scans of a source, encoded as they are read; always in the wide format, whatever their values.

    Args:
        source: of the scans.
        label_map: of their labels.
        features: whose surroundings are measured.
        lengths: points of each scan.

    Example:
        >>> table = ScanTable(source, label_map, FeatureSpec(), inspect(source, label_map).lengths)
        >>> table.read(3).records.shape
        torch.Size([98304, 5])
    """

    def __init__(self, source: ScanSource, label_map: LabelMap, features: FeatureSpec, lengths: Sequence[int]) -> None:
        self.source, self.label_map, self.features, self.lengths = source, label_map, features, lengths
        self.format: RecordFormat = Wide()

    def read(self, scan: int, window: Window | None = None) -> Records:
        return part_of(self.encode(self.source[scan], self.source.names[scan]), window)

    def encode(self, scan: Scan, name: str) -> Records:
        """A scan as records, shuffled."""
        train_ids = self.label_map.to_train(scan.required_labels, where=scan.labels_source)
        order = torch.from_numpy(shuffled_order(name, len(scan.points)))
        records = torch.from_numpy(Wide().encode(scan.points, train_ids))
        return Records(records[order], surroundings_of(self.features, torch.from_numpy(scan.points))[order])


def find_instances(source: ScanSource, label_map: LabelMap, progress: Progress | None = None) -> Instances:
    """Objects of all scans of a source, by the instance ids of their labels, in the order of a `ScanTable`'s points."""

    def look(index: int) -> Instances:
        scan = source[index]
        raw = scan.required_labels[shuffled_order(source.names[index], len(scan.points))]
        labels, sizes, rows = instances_of(raw, label_map.to_train(raw, where=scan.labels_source))
        return Instances(np.full(len(labels), index, np.int64), labels, sizes, rows)

    found = []
    for index, part in enumerate(in_order(look, len(source))):
        found.append(part)
        if progress:
            progress(index + 1, len(source))
    return Instances.joined(found)


class ResidentTable:
    """All records of another table in the memory of one device.

    Args:
        table: where they come from.
        device: where they go.
        progress: called with (scans loaded, scans in all).

    Raises:
        OutOfMemory: if they do not fit.

    Example:
        >>> resident = ResidentTable(table, torch.device("cuda"))
    """

    def __init__(
        self, table: RecordTable, device: torch.device | str = "cpu", progress: Progress | None = None
    ) -> None:
        self.format, self.lengths = table.format, list(table.lengths)
        self.device = torch.device(device)
        self._first = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        try:
            self._tensors = self._load(table, progress)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "alloc" not in str(error):
                raise
            raise OutOfMemory(
                f"{self._first[-1]:,} training points do not fit into the memory of {self.device}",
                where="data.residency",
                remedy="Set data.residency=disk, or memory instead of device.",
            ) from error

    def _load(self, table: RecordTable, progress: Progress | None) -> Records:
        tensors: Records | None = None
        for index, part in enumerate(in_order(table.read, len(self.lengths))):
            if tensors is None:
                shapes = ((self._first[-1], *tensor.shape[1:]) for tensor in part)
                types = (tensor.dtype for tensor in part)
                tensors = Records(
                    *(torch.empty(s, dtype=t, device=self.device) for s, t in zip(shapes, types, strict=True))
                )
            for whole, tensor in zip(tensors, part, strict=True):
                whole[self._first[index] : self._first[index + 1]] = tensor
            if progress:
                progress(index + 1, len(self.lengths))
        assert tensors is not None
        return tensors

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors)

    def read(self, scan: int, window: Window | None = None) -> Records:
        first, points = self._first[scan], self.lengths[scan]
        return Records(*(_around(t, first, points, window or Window(0, points)) for t in self._tensors))
