"""Reads a packed store: from a local or mounted folder by memory-mapping, from object storage by byte ranges.

Legend: N points of a scan, S columns of surroundings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.files import expanded, is_file
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Update
from pointseg.data.features import FeatureSpec
from pointseg.data.instances import Instances
from pointseg.data.records import RecordFormat, format_of
from pointseg.data.sampling import Window
from pointseg.data.scan import COLUMNS, Scan, missing_columns
from pointseg.data.sources import DataSummary, missing_sequence
from pointseg.data.store.files import files_of
from pointseg.data.store.layout import COPY_AGAIN, HEADER, PACKING, Header, Index, ShardFile, unarchive
from pointseg.data.tables import Records, part_of, surroundings_of

__all__ = ["PackedScans", "PackedStore", "StoreTable", "is_store"]

HASH_CHUNK = 1 << 22


def is_store(root: str | Path | None) -> bool:
    """Whether there is a packed store, finished or not, at this folder or address."""
    if root in (None, ""):
        return False
    if "://" in str(root):
        return True  # raw scans are read from folders alone
    folder = expanded(str(root))
    return any(is_file(folder / name) for name in (HEADER, PACKING))


class PackedStore:
    """A finished store.

    Args:
        root: its folder, or an address such as abfs://container/folder.

    Raises:
        DataError: if there is none, it is unfinished, of another format, or a file is missing or of another size.

    Example:
        >>> store = PackedStore("packed")
        >>> store.header.points, store.read("records", 0).shape
        (4951678, (123389,))
    """

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._files = files_of(self.root)
        sizes = self._sizes()
        if HEADER not in sizes:
            what, remedy = "there is no packed store", "Make one with python -m pointseg.prepare input=DIR output=DIR."
            if PACKING in sizes:
                what = "the store is not finished"
                remedy = "Run the same `prepare` command again: it goes on where it stopped."
            raise DataError(what, where=self.root, remedy=remedy)
        self.header = Header.from_json(self._files.whole(HEADER).decode(errors="replace"), f"{self.root}/{HEADER}")
        for file in self.header.files:
            size = sizes.get(file.name)
            if size != file.bytes:
                fault = "is missing" if size is None else f"has {size:,} bytes instead of {file.bytes:,}"
                raise DataError(f"a file of the store {fault}", where=f"{self.root}/{file.name}", remedy=COPY_AGAIN)
        self.format: RecordFormat = format_of(self.header.record, self.header.extra, f"{self.root}/{HEADER}")
        self.index = Index(**self._archive(self.header.index))

    def _sizes(self) -> dict[str, int]:
        try:
            return self._files.sizes()
        except (OSError, ValueError) as error:
            raise DataError(
                f"the store cannot be read ({error})", where=self.root, remedy="Check the address and your rights."
            ) from error

    def _archive(self, file: ShardFile) -> dict[str, NDArray[Any]]:
        content, where = self._files.whole(file.name), f"{self.root}/{file.name}"
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DataError("the file is damaged", where=where, remedy=COPY_AGAIN)
        return unarchive(content, where)

    @cached_property
    def instances(self) -> Instances:
        return Instances(**self._archive(self.header.instances))

    @cached_property
    def label_map(self) -> LabelMap:
        return LabelMap.from_dict(self.header.label_map, f"{self.root}/{HEADER}")

    def require_labels(self, label_map: LabelMap) -> None:
        """Refuse a label map that gives the training ids another meaning.

        Raises:
            DataError: if the store was packed with another label map.
        """
        if label_map.hash != self.header.label_map_hash:
            raise DataError(
                f"the store was packed with label map {self.label_map.name!r} ({self.header.label_map_hash}), "
                f"not {label_map.name!r} ({label_map.hash})",
                where=self.root,
                remedy="Name that map with data.labels=, or pack the data again with this one.",
            )

    def read(self, kind: str, scan: int, window: Window | None = None) -> NDArray[Any]:
        """Rows of one kind of shard file, in the shuffled order; a view of the file if possible.

        Raises:
            DataError: if the store does not keep this kind.
        """
        file = self.header.shards[int(self.index.shard[scan])].get(kind)
        if file is None:
            raise DataError(
                f"the store does not keep {kind}", where=self.root, remedy=f"Pack the data again with keep_{kind}=true."
            )
        first, points = int(self.index.first[scan]), int(self.index.points[scan])
        dtype, columns = self._row(kind)
        size = dtype.itemsize * int(np.prod(columns, dtype=np.int64))

        def rows(start: int, end: int) -> NDArray[Any]:
            content = self._files.part(file.name, (first + start) * size, (first + end) * size)
            return content.view(dtype).reshape(-1, *columns)

        start, count = window or Window(0, points)
        end = min(start + count, points)
        left = count - (end - start)
        return np.concatenate([rows(start, end), rows(0, left)]) if left else rows(start, end)

    def _row(self, kind: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        if kind == "records":
            return self.format.dtype, self.format.columns
        if kind == "surroundings":
            return np.dtype("<f2"), (len(self.header.surroundings),)
        return np.dtype("<u4"), ()

    def keeps(self, kind: str) -> bool:
        """Whether it holds a kind: "surroundings", "raw" or "order"."""
        return all(kind in shard for shard in self.header.shards if shard)

    def scan(self, number: int) -> Scan:
        """One scan: in the order of its file if the store keeps it, else shuffled; with the raw labels if the store keeps
        them, else the canonical raw id of each point's class."""
        decoded = self.format.decode(torch.from_numpy(self.read("records", number).copy()))
        points = np.ascontiguousarray(decoded.points.numpy())
        labels = None
        if self.index.labelled[number]:
            kept = self.keeps("raw")
            labels = self.read("raw", number).copy() if kept else self.label_map.to_raw(decoded.labels.numpy())
        extra = None
        if self.format.extra:
            extra = np.ascontiguousarray(self.read("records", number)[:, 5:]).view(np.float32)
        if self.keeps("order"):
            back = np.argsort(self.read("order", number))
            points = points[back]
            labels, extra = (None if labels is None else labels[back]), (None if extra is None else extra[back])
        pose = self.index.poses[number]
        name = f"{self.index.sequence[number]}/{self.index.frame[number]}"
        where, known = f"{self.root}#{name}", None if np.isnan(pose).any() else pose
        return Scan(points, labels, where, known, extra=extra, extra_names=self.format.extra)

    def damaged(self, progress: Update | None = None) -> list[str]:
        """Names of the files whose SHA-256 differs from the one in the header; reads everything."""
        damaged, files = [], self.header.files
        for number, file in enumerate(files):
            digest = hashlib.sha256()
            for start in range(0, file.bytes, HASH_CHUNK):
                digest.update(self._files.part(file.name, start, min(start + HASH_CHUNK, file.bytes)).tobytes())
            if digest.hexdigest() != file.sha256:
                damaged.append(file.name)
            if progress:
                progress(number + 1, len(files))
        return damaged


class PackedScans:
    """Scans of some sequences of a store, as a source like any other.

    Args:
        store: the store.
        sequences: names or numbers; None for all.

    Raises:
        DataError: if a sequence is not in the store.

    Example:
        >>> scans = PackedScans(PackedStore("packed"), ["08"])
        >>> scans.names[0], scans[0].points.shape
        ('08/000000', (123389, 4))
    """

    def __init__(self, store: PackedStore, sequences: Sequence[str | int] | None = None) -> None:
        self.store = store
        numbers = np.arange(len(store.index))
        if sequences is not None:
            groups = []
            for sequence in dict.fromkeys(f"{s:02d}" if isinstance(s, int) else str(s) for s in sequences):
                groups.append(np.flatnonzero(store.index.sequence == sequence))
                if not len(groups[-1]):
                    raise missing_sequence(sequence, sorted(set(store.index.sequence.tolist())), store.root)
            numbers = np.concatenate([numbers[:0], *groups])
        self.numbers = numbers
        names = store.index.names
        self.names = [names[number] for number in numbers]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the further columns."""
        return self.store.header.extra

    def __getitem__(self, index: int) -> Scan:
        return self.store.scan(int(self.numbers[index]))

    @property
    def expected_points(self) -> int:
        return int(self.store.index.points[self.numbers].sum())

    def instances(self) -> Instances:
        """Objects of these scans, which are counted as here."""
        stored = self.store.instances
        place = np.full(len(self.store.index), -1, np.int64)
        place[self.numbers] = np.arange(len(self.numbers))
        chosen = place[stored.scan] >= 0
        rows = stored.rows[np.repeat(chosen, stored.size)]
        return Instances(place[stored.scan[chosen]], stored.label[chosen], stored.size[chosen], rows)

    def summary(self, label_map: LabelMap) -> DataSummary:
        """What `inspect` finds, from the index alone.

        Raises:
            DataError: if the store was packed with another label map, or a scan has no labels.
        """
        self.store.require_labels(label_map)
        index, rows = self.store.index, self.numbers
        for name, labelled in zip(self.names, index.labelled[rows], strict=True):
            if not labelled:
                where = f"{self.store.root}#{name}"
                raise DataError("the scan has no labels", where=where, remedy="Training and scoring need them.")
        counts = index.class_counts[rows]
        points = int(index.points[rows].sum())
        outside = [name for name, out in zip(self.names, index.out_of_domain[rows], strict=True) if out]
        return DataSummary(
            len(rows),
            points,
            counts.sum(axis=0),
            float(index.remission_sum[rows].sum()) / max(points, 1),
            outside[0] if outside else None,
            counts,
        )


class StoreTable:
    """Records of a store, read from its files on demand.

    Args:
        scans: of the store.
        features: whose surroundings are wanted; those that the store lacks are measured from the whole scan.

    Raises:
        DataError: if the store lacks a further column that the features use.
    """

    def __init__(self, scans: PackedScans, features: FeatureSpec) -> None:
        self.scans, self.features = scans, features
        self.format = scans.store.format
        if missing := [name for name in features.extra if name not in self.format.extra]:
            raise missing_columns(missing, [*COLUMNS, *self.format.extra], scans.store.root)
        self.lengths: Sequence[int] = scans.store.index.points[scans.numbers].tolist()
        kept = scans.store.header.surroundings
        # whether a slice can be read without measuring the whole scan
        self.measured = set(features.surroundings) <= set(kept)
        self._columns = [kept.index(name) for name in features.surroundings] if self.measured else []
        self._all = list(kept) == list(features.surroundings)

    def read(self, scan: int, window: Window | None = None) -> Records:
        number = int(self.scans.numbers[scan])
        if not self.measured:
            records = torch.from_numpy(self.scans.store.read("records", number).copy())
            points = self.format.decode(records).points
            return part_of(Records(records, surroundings_of(self.features, points)), window)
        records = torch.from_numpy(self.scans.store.read("records", number, window).copy())
        if not self._columns:
            return Records(records, torch.empty(len(records), 0, dtype=torch.float16))
        surroundings = self.scans.store.read("surroundings", number, window)
        surroundings = surroundings.copy() if self._all else surroundings[:, self._columns]
        return Records(records, torch.from_numpy(surroundings))
