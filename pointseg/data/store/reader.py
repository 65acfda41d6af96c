"""Reading a packed store: from a local or mounted folder by memory-mapping, from object storage by ranges of bytes.

Legend: N points of a scan, S columns of surroundings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pointseg.data.instances import Instances
from pointseg.data.records import RecordFormat, format_of
from pointseg.data.sampling import Window
from pointseg.data.scan import Scan
from pointseg.data.sources import DataSummary, Progress, missing_sequence
from pointseg.data.store.layout import HEADER, Header, Index, ShardFile, unarchive
from pointseg.data.tables import Records, part_of, surroundings_of
from pointseg.errors import DataError
from pointseg.features import FeatureSpec
from pointseg.files import expanded, is_file
from pointseg.labels import LabelMap

__all__ = ["PackedScans", "PackedStore", "StoreTable", "is_store"]

HASH_CHUNK = 1 << 22


class _Files(Protocol):
    """Where the store's files lie."""

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of every file."""

    def whole(self, name: str) -> bytes: ...

    def part(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        """Bytes start .. end - 1."""


class _LocalFiles:
    """A folder; files are mapped into memory when they are first read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped: dict[str, NDArray[np.uint8]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_mapped": {}}  # another process maps its own

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.folder.iterdir() if path.is_file()}

    def whole(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def part(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        mapped = self._mapped.get(name)
        if mapped is None:
            mapped = np.memmap(self.folder / name, np.uint8, "r").view(np.ndarray)
            self._mapped[name] = mapped
        return mapped[start:end]


class _RemoteFiles:
    """A folder of any file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self.system, self.path = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise DataError(
                f"the address cannot be used ({error})",
                where=url,
                remedy="Install the package that fsspec names for it, such as adlfs for abfs://.",
            ) from error

    def sizes(self) -> dict[str, int]:
        entries = self.system.ls(self.path, detail=True)
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1]: int(entry["size"] or 0) for entry in entries}

    def whole(self, name: str) -> bytes:
        content: bytes = self.system.cat_file(f"{self.path}/{name}")
        return content

    def part(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        return np.frombuffer(self.system.cat_file(f"{self.path}/{name}", start=start, end=end), np.uint8)


def _files(root: str) -> _Files:
    return _RemoteFiles(root) if "://" in root else _LocalFiles(Path(root).expanduser())


def is_store(root: str | Path | None) -> bool:
    """Whether there is a packed store, finished or not, at this folder or address."""
    if root in (None, ""):
        return False
    if "://" in str(root):
        return True  # raw scans are read from folders only
    folder = expanded(str(root))
    return any(is_file(folder / name) for name in (HEADER, "packing.json"))


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
        self._store = _files(self.root)
        sizes = self._sizes()
        if HEADER not in sizes:
            unfinished = "packing.json" in sizes
            raise DataError(
                "the store is not finished" if unfinished else "there is no packed store",
                where=self.root,
                remedy="Run the same `prepare` command again: it goes on where it stopped."
                if unfinished
                else "Make one with python -m pointseg.prepare input=DIR output=DIR.",
            )
        self.header = Header.from_json(self._store.whole(HEADER).decode(errors="replace"), f"{self.root}/{HEADER}")
        for file in self.header.files:
            if sizes.get(file.name) != file.bytes:
                found = (
                    f"has {sizes[file.name]:,} bytes instead of {file.bytes:,}" if file.name in sizes else "is missing"
                )
                raise DataError(
                    f"a file of the store {found}",
                    where=f"{self.root}/{file.name}",
                    remedy="Copy the store again, or pack the data again.",
                )
        self.format: RecordFormat = format_of(self.header.record, self.header.extra, f"{self.root}/{HEADER}")
        self.index = Index(**self._archive(self.header.index))

    def _sizes(self) -> dict[str, int]:
        try:
            return self._store.sizes()
        except (OSError, ValueError) as error:
            raise DataError(
                f"the store cannot be read ({error})", where=self.root, remedy="Check the address and your rights."
            ) from error

    def _archive(self, file: ShardFile) -> dict[str, NDArray[Any]]:
        content, where = self._store.whole(file.name), f"{self.root}/{file.name}"
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise DataError("the file is damaged", where=where, remedy="Copy the store again, or pack the data again.")
        return unarchive(content, where)

    @cached_property
    def instances(self) -> Instances:
        return Instances(**self._archive(self.header.instances))

    @cached_property
    def label_map(self) -> LabelMap:
        return LabelMap.from_dict(self.header.label_map, f"{self.root}/{HEADER}")

    def require_labels(self, label_map: LabelMap) -> None:
        """Refuse another meaning of the training ids.

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
        """Rows of one kind of shard, in the shuffled order; a view of the file where that is possible.

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
            content = self._store.part(file.name, (first + start) * size, (first + end) * size)
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
        """One scan: in the order of its file where the store keeps it, else shuffled; with the raw labels where kept,
        else the canonical raw id of each point's class."""
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
            labels = labels if labels is None else labels[back]
            extra = extra if extra is None else extra[back]
        pose = self.index.poses[number]
        name = f"{self.index.sequence[number]}/{self.index.frame[number]}"
        return Scan(points, labels, f"{self.root}#{name}", None if np.isnan(pose).any() else pose, extra=extra)

    def damaged(self, progress: Progress | None = None) -> list[str]:
        """Names of the files whose SHA-256 is not that in the header: reads everything."""
        wrong, files = [], self.header.files
        for number, file in enumerate(files):
            digest = hashlib.sha256()
            for start in range(0, file.bytes, HASH_CHUNK):
                digest.update(self._store.part(file.name, start, min(start + HASH_CHUNK, file.bytes)).tobytes())
            if digest.hexdigest() != file.sha256:
                wrong.append(file.name)
            if progress:
                progress(number + 1, len(files))
        return wrong


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
        wanted = None
        if sequences is not None:
            wanted = [f"{s:02d}" if isinstance(s, int) else str(s) for s in sequences]
            present = sorted(set(store.index.sequence.tolist()))
            for sequence in wanted:
                if sequence not in present:
                    raise missing_sequence(sequence, present, store.root)
        order = {sequence: place for place, sequence in enumerate(wanted or [])}
        numbers = range(len(store.index))
        chosen = [n for n in numbers if wanted is None or str(store.index.sequence[n]) in order]
        if wanted is not None:
            chosen.sort(key=lambda n: (order[str(store.index.sequence[n])], n))
        self.numbers = np.array(chosen, np.int64)
        names = store.index.names
        self.names = [names[n] for n in chosen]

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
        """Objects of these scans, with scans counted as here."""
        every = self.store.instances
        place = np.full(len(self.store.index), -1, np.int64)
        place[self.numbers] = np.arange(len(self.numbers))
        ours = place[every.scan] >= 0
        rows = every.rows[np.repeat(ours, every.size)]
        return Instances(place[every.scan[ours]], every.label[ours], every.size[ours], rows)

    def summary(self, label_map: LabelMap) -> DataSummary:
        """What `inspect` would find, from the index alone.

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
    """Records of a store, read where they lie when they are asked for.

    Args:
        scans: which.
        features: whose surroundings are wanted; those that the store does not keep are measured from the whole scan.
    """

    def __init__(self, scans: PackedScans, features: FeatureSpec) -> None:
        self.scans, self.features = scans, features
        self.format = scans.store.format
        self.lengths: Sequence[int] = scans.store.index.points[scans.numbers].tolist()
        kept = scans.store.header.surroundings
        #: whether a slice can be read without measuring the whole scan
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
        around = self.scans.store.read("surroundings", number, window)
        around = around.copy() if self._all else around[:, self._columns]
        return Records(records, torch.from_numpy(around))
