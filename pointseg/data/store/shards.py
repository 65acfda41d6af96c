"""The files of one shard of a store, written beside and renamed when whole, and its rows of the index."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pointseg.data.store.layout import ShardFile
from pointseg.data.store.packing import PackedScan
from pointseg.errors import OutputError

__all__ = ["ShardWriter", "index_rows", "instance_rows"]


class ShardWriter:
    """The files of one shard, a context: they take their names when it is left without an error.

    Attributes:
        files: kind -> file, once it is left.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.number = folder, number
        self._open: dict[str, tuple[BinaryIO, Any, Path]] = {}
        self.files: dict[str, ShardFile] = {}
        self._discarded = False

    def __enter__(self) -> ShardWriter:
        return self

    def append(self, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Add the rows of one scan to each kind of file."""
        try:
            for kind, array in arrays.items():
                if kind not in self._open:
                    temporary = self.folder / f".{kind}-{self.number:05d}.tmp"
                    self._open[kind] = (open(temporary, "wb"), hashlib.sha256(), temporary)  # noqa: SIM115
                file, digest, _ = self._open[kind]
                content = np.ascontiguousarray(array).data
                file.write(content)
                digest.update(content)
        except OSError as error:
            raise OutputError(
                f"the store cannot be written ({error.strerror})", where=self.folder, remedy="Check the disk's space."
            ) from error

    def discard(self) -> None:
        """Let no file stay."""
        self._discarded = True

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        for name, (file, digest, temporary) in self._open.items():
            keep = kind is None and not self._discarded
            if keep:
                file.flush()
                os.fsync(file.fileno())
            size = file.tell()
            file.close()
            if keep:
                final = self.folder / f"{name}-{self.number:05d}.bin"
                temporary.replace(final)
                self.files[name] = ShardFile(final.name, size, digest.hexdigest())
            else:
                temporary.unlink(missing_ok=True)


def index_rows(rows: Sequence[PackedScan], shard: int, classes: int) -> dict[str, NDArray[Any]]:
    """The arrays of `Index` for the scans of one shard; classes: K + 1."""
    points = np.array([row.points for row in rows], np.int64)
    return {
        "sequence": np.array([row.name.partition("/")[0] for row in rows], np.str_),
        "frame": np.array([row.name.partition("/")[2] for row in rows], np.str_),
        "shard": np.full(len(rows), shard, np.int32),
        "first": np.cumsum(points) - points,
        "points": points,
        "labelled": np.array([row.labelled for row in rows], bool),
        "class_counts": np.array([row.class_counts for row in rows], np.int64).reshape(-1, classes),
        "remission_sum": np.array([row.remission_sum for row in rows], np.float64),
        "out_of_domain": np.array([row.out_of_domain for row in rows], bool),
        "poses": np.array([row.pose for row in rows], np.float64).reshape(-1, 4, 4),
    }


def instance_rows(rows: Sequence[PackedScan]) -> dict[str, NDArray[Any]]:
    """The arrays of `Instances`, with scans counted from the shard's first."""
    scan = [np.full(len(row.instance_labels), number, np.int64) for number, row in enumerate(rows)]
    return {
        "instances_scan": np.concatenate([np.empty(0, np.int64), *scan]),
        "instances_label": np.concatenate([np.empty(0, np.uint8), *(row.instance_labels for row in rows)]),
        "instances_size": np.concatenate([np.empty(0, np.int64), *(row.instance_sizes for row in rows)]),
        "instances_rows": np.concatenate([np.empty(0, np.uint32), *(row.instance_rows for row in rows)]),
    }
