"""Objects in scans: which points have the same instance id.

Legend: N points, I instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import SEMANTIC_BITS, LabelMap
from pointseg.core.progress import Update
from pointseg.data.sources import ScanSource, in_order
from pointseg.data.tables import shuffled_order

__all__ = ["LEAST_INSTANCE_POINTS", "Instances", "find_instances", "instances_of"]

LEAST_INSTANCE_POINTS = 24  # fewer say little about a shape


@dataclass(frozen=True)
class Instances:
    """Objects, as rows of their scans' records.

    Attributes:
        scan: (I,) number of the scan.
        label: (I,) training id.
        size: (I,) how many points it has.
        rows: (sum of size,) uint32, instance after instance: places within the scan's shuffled records.
    """

    scan: NDArray[np.int64]
    label: NDArray[np.uint8]
    size: NDArray[np.int64]
    rows: NDArray[np.uint32]

    @classmethod
    def empty(cls) -> Instances:
        return cls(np.empty(0, np.int64), np.empty(0, np.uint8), np.empty(0, np.int64), np.empty(0, np.uint32))

    @classmethod
    def joined(cls, parts: Sequence[Instances]) -> Instances:
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def moved(self, scans: int) -> Instances:
        """The same objects where so many scans come before theirs."""
        return replace(self, scan=self.scan + scans)


def instances_of(
    raw_N: NDArray[np.uint32], train_ids_N: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint32]]:
    """Objects of a scan by the instance ids in the upper 16 bits: (training ids (I,), sizes (I,), rows, ascending in each).

    Those without an id, of an ignored class, or of fewer than `LEAST_INSTANCE_POINTS` points are left out.
    """
    number = raw_N >> np.uint32(16)
    at = np.flatnonzero((number > 0) & (train_ids_N > 0))
    group = (train_ids_N[at].astype(np.int64) << 16) | (number[at] & SEMANTIC_BITS)
    order = np.argsort(group, kind="stable")
    groups, first, sizes = np.unique(group[order], return_index=True, return_counts=True)
    large = sizes >= LEAST_INSTANCE_POINTS
    rows = [at[order[start : start + size]] for start, size in zip(first[large], sizes[large], strict=True)]
    joined = np.concatenate(rows) if rows else np.empty(0, np.int64)
    return (groups[large] >> 16).astype(np.uint8), sizes[large].astype(np.int64), joined.astype(np.uint32)


def find_instances(source: ScanSource, label_map: LabelMap, progress: Update | None = None) -> Instances:
    """Objects of all scans of a source, by the instance ids of their labels, in the order of a `ScanTable`'s points."""

    def find(index: int) -> Instances:
        scan = source[index]
        raw = scan.required_labels[shuffled_order(source.names[index], len(scan.points))]
        labels, sizes, rows = instances_of(raw, label_map.to_train(raw, where=scan.labels_source))
        return Instances(np.full(len(labels), index, np.int64), labels, sizes, rows)

    parts = []
    for index, part in enumerate(in_order(find, len(source))):
        parts.append(part)
        if progress:
            progress(index + 1, len(source))
    return Instances.joined(parts)
