"""Scans as records, by number: what training clouds are drawn from, and where they are kept.

A `RecordTable` holds the points of every scan as records (`records`) in an order shuffled once, so that a slice is a fair
sample, with the surroundings that the features need beside them. The samples are the same wherever it is kept: in a
packed store on disk (`store`), in raw files that are encoded as they are read, in memory, or on a GPU.

Legend: N points of a scan, S columns of surroundings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from pointseg.core.errors import OutOfMemory
from pointseg.core.labels import LabelMap
from pointseg.core.limits import require_choice
from pointseg.core.memory import free_memory, ran_out
from pointseg.core.progress import Update
from pointseg.core.randomness import Purpose, permutation, random_key
from pointseg.data.features import FeatureSpec
from pointseg.data.records import RecordFormat, Wide
from pointseg.data.sampling import Window
from pointseg.data.scan import Scan
from pointseg.data.sources import ScanSource, in_order

__all__ = [
    "RESIDENCIES",
    "RecordTable",
    "Records",
    "Residency",
    "ResidentTable",
    "ScanTable",
    "choose_residency",
    "part_of",
    "shuffled_order",
    "surroundings_of",
]

RESIDENCIES = ("auto", "disk", "memory", "device")
FREE_SHARE = 0.5  # of what is free: the model, its activations and other processes need the rest
GIB = 1 << 30


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
    """The order (N,) of the points of the scan "SEQUENCE/FRAME"; it depends on the name and the number of points alone."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return permutation(points, random_key(Purpose.SHUFFLE, int.from_bytes(digest, "little")))


def surroundings_of(features: FeatureSpec, points: Tensor) -> Tensor:
    """The whole scan's points (N, 4) -> (N, S) float16: to 1 part in 2,000, far below what a sensor measures."""
    return features.measure_surroundings(points).to(torch.float16)


def part_of(records: Records, window: Window | None) -> Records:
    """A window of a scan's records."""
    if window is None:
        return records
    return Records(*(_cyclic_rows(tensor, 0, len(tensor), window) for tensor in records))


def _cyclic_rows(tensor: Tensor, first: int, points: int, window: Window) -> Tensor:
    """Rows of the scan at first .. first + points - 1; a view, unless the window passes the scan's end."""
    start, count = window
    end = min(start + count, points)
    straight = tensor[first + start : first + end]
    left = count - (end - start)
    return torch.cat([straight, tensor[first : first + left]]) if left else straight


class ScanTable:
    """The scans of a source, encoded as they are read; always in the wide format.

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
        self.format: RecordFormat = Wide(features.extra)

    def read(self, scan: int, window: Window | None = None) -> Records:
        return part_of(self.encode(self.source[scan], self.source.names[scan]), window)

    def encode(self, scan: Scan, name: str) -> Records:
        """A scan as records, shuffled."""
        order = torch.from_numpy(shuffled_order(name, len(scan.points)))
        further = scan.with_columns(self.features.extra)[:, 4:]
        records = torch.from_numpy(self.format.encode(scan.points, scan.train_ids(self.label_map), further))
        return Records(records[order], surroundings_of(self.features, torch.from_numpy(scan.points))[order])


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

    def __init__(self, table: RecordTable, device: torch.device | str = "cpu", progress: Update | None = None) -> None:
        self.format, self.lengths = table.format, list(table.lengths)
        self.device = torch.device(device)
        self._first = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()
        try:
            self._tensors = self._load(table, progress)
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            raise OutOfMemory(
                f"{self._first[-1]:,} training points do not fit into the memory of {self.device}",
                where="data.residency",
                remedy="Set data.residency=disk, or memory instead of device.",
            ) from error

    def _load(self, table: RecordTable, progress: Update | None) -> Records:
        tensors: Records | None = None
        for index, part in enumerate(in_order(table.read, len(self.lengths))):
            if tensors is None:
                shapes = ((self._first[-1], *tensor.shape[1:]) for tensor in part)
                types = (tensor.dtype for tensor in part)
                tensors = Records(
                    *(torch.empty(s, dtype=t, device=self.device) for s, t in zip(shapes, types, strict=True))
                )
            for target, tensor in zip(tensors, part, strict=True):
                target[self._first[index] : self._first[index + 1]] = tensor
            if progress:
                progress(index + 1, len(self.lengths))
        assert tensors is not None
        return tensors

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self._tensors)

    def read(self, scan: int, window: Window | None = None) -> Records:
        first, points = self._first[scan], self.lengths[scan]
        return Records(*(_cyclic_rows(t, first, points, window or Window(0, points)) for t in self._tensors))


@dataclass(frozen=True)
class Residency:
    """Where the training scans are kept: "disk", "memory" or "device", which device, and the reason in words."""

    place: str
    device: torch.device
    reason: str


def choose_residency(wanted: str, need: int, device: torch.device) -> Residency:
    """Decide where the training scans are kept.

    Args:
        wanted: "disk", "memory", "device", or "auto": the place nearest to the model that has room.
        need: bytes of all training records with their surroundings.
        device: where the model trains.

    Raises:
        ConfigError: if there is no such place.

    Example:
        >>> choose_residency("auto", 2 << 30, torch.device("cuda")).place
        'device'
    """
    require_choice(wanted, RESIDENCIES, "data.residency", "residency")
    cpu, size = torch.device("cpu"), f"{need / GIB:.2f} GiB"
    if wanted != "auto":
        return Residency(wanted, device if wanted == "device" else cpu, f"{size}, as data.residency says")
    if device.type == "cuda" and need <= FREE_SHARE * (free := free_memory(device)):
        return Residency("device", device, f"{size} of {free / GIB:.1f} GiB free there")
    free = free_memory(cpu)
    if need <= FREE_SHARE * free:
        return Residency("memory", cpu, f"{size} of {free / GIB:.1f} GiB free")
    return Residency("disk", cpu, f"{size} is too much for the {free / GIB:.1f} GiB of memory that are free")
