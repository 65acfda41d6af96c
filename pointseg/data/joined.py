"""Several sources as one: the scans of the first, then those of the next, each read in its own way.

Also what training needs of any source, got in the cheapest way that the source allows: counts of classes, objects,
records. A packed store knows the first two and holds the third; other scans are read for them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain

import numpy as np
import torch

from pointseg.core.labels import LabelMap
from pointseg.core.progress import Update
from pointseg.data.features import FeatureSpec
from pointseg.data.instances import Instances, find_instances
from pointseg.data.records import Wide
from pointseg.data.sampling import Window
from pointseg.data.scan import Scan
from pointseg.data.sources import DataSummary, ScanSource, inspect
from pointseg.data.store import PackedScans
from pointseg.data.store.reader import StoreTable
from pointseg.data.tables import Records, RecordTable, ScanTable

__all__ = ["JoinedScans", "JoinedTable", "instances_in", "summary_of", "table_of"]


class _Places:
    """Numbers of things that lie one after the other in several parts."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._ends = list(accumulate(sizes))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, number: int) -> tuple[int, int]:
        """(part, number within it)"""
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = bisect_right(self._ends, number)
        return part, number - (self._ends[part - 1] if part else 0)


class JoinedScans:
    """The scans of several sources, in order.

    Args:
        parts: the sources; their names must differ.

    Example:
        >>> len(JoinedScans([SemanticKITTIScans("semantickitti", ["00"]), SyntheticScans(scans=200)]))
        4741
    """

    def __init__(self, parts: Sequence[ScanSource]) -> None:
        self.parts = list(parts)
        self.names = list(chain.from_iterable(part.names for part in self.parts))
        self._places = _Places([len(part) for part in self.parts])

    @property
    def expected_points(self) -> int:
        return sum(part.expected_points for part in self.parts)

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the further columns that all parts have."""
        first, *others = (tuple(getattr(part, "extra", ())) for part in self.parts)
        return tuple(name for name in first if all(name in other for other in others))

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Scan:
        part, number = self._places[index]
        return self.parts[part][number]


class JoinedTable:
    """The records of several tables, in order, in the wide format, which holds what any other does.

    Args:
        tables: of the parts, with the same surroundings.
        features: whose further columns are kept.
    """

    def __init__(self, tables: Sequence[RecordTable], features: FeatureSpec) -> None:
        self.tables, self.features = list(tables), features
        self.format = Wide(features.extra)
        self.lengths = list(chain.from_iterable(table.lengths for table in self.tables))
        self._places = _Places([len(table.lengths) for table in self.tables])

    def read(self, scan: int, window: Window | None = None) -> Records:
        part, number = self._places[scan]
        table = self.tables[part]
        records = table.read(number, window)
        if table.format == self.format:
            return records
        points, labels = table.format.decode(records.records)
        further = table.format.extra_values(records.records, self.features.extra)
        encoded = self.format.encode(points.numpy(), labels.numpy().astype(np.uint8), further.numpy())
        return Records(torch.from_numpy(encoded), records.surroundings)


def summary_of(source: ScanSource, label_map: LabelMap, progress: Update | None = None) -> DataSummary:
    """What `inspect` finds; a packed store has it already.

    Raises:
        DataError, LabelMapError: for the first scan that cannot be used.
    """
    if isinstance(source, PackedScans):
        return source.summary(label_map)
    if isinstance(source, JoinedScans):
        return DataSummary.joined([summary_of(part, label_map, progress) for part in source.parts])
    return inspect(source, label_map, progress=progress)


def instances_in(source: ScanSource, label_map: LabelMap, progress: Update | None = None) -> Instances:
    """Objects of all scans of a source; a packed store has them already."""
    if isinstance(source, PackedScans):
        return source.instances()
    if isinstance(source, JoinedScans):
        parts = [instances_in(part, label_map, progress) for part in source.parts]
        firsts = accumulate((len(part) for part in source.parts[:-1]), initial=0)
        return Instances.joined([part.moved(first) for part, first in zip(parts, firsts, strict=True)])
    return find_instances(source, label_map, progress)


def table_of(source: ScanSource, label_map: LabelMap, features: FeatureSpec, lengths: Sequence[int]) -> RecordTable:
    """The records of a source.

    Args:
        source: of the scans.
        label_map: of their labels.
        features: whose surroundings are wanted.
        lengths: points of each scan.

    Raises:
        DataError: if a store was packed with another label map, or lacks a further column.
    """
    if isinstance(source, PackedScans):
        source.store.require_labels(label_map)
        return StoreTable(source, features)
    if isinstance(source, JoinedScans):
        rest, tables = list(lengths), []
        for part in source.parts:
            tables.append(table_of(part, label_map, features, rest[: len(part)]))
            del rest[: len(part)]
        return JoinedTable(tables, features)
    return ScanTable(source, label_map, features, lengths)
