"""One shard of a store while it is packed: its files, which take their names when they are whole, and a note of it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from pointseg.core.errors import OutputError
from pointseg.core.files import whole_file
from pointseg.data.instances import Instances
from pointseg.data.store.layout import Index, ShardFile, archive, arrays_of, unarchive
from pointseg.data.store.packing import PackedScan

__all__ = ["ShardNote", "ShardWriter"]

INSTANCE_PREFIX = "instances_"


@dataclass(frozen=True)
class ShardNote:
    """What a finished shard holds, written after its files; scans of `instances` are counted within the shard.

    Attributes:
        files: kind -> file.
    """

    index: Index
    instances: Instances
    files: dict[str, ShardFile]

    def write(self, folder: Path, number: int) -> None:
        objects = {f"{INSTANCE_PREFIX}{name}": array for name, array in arrays_of(self.instances).items()}
        files = json.dumps({kind: asdict(file) for kind, file in self.files.items()})
        with whole_file(_note_path(folder, number)) as temporary:
            temporary.write_bytes(archive({**arrays_of(self.index), **objects, "files": np.array(files)}))

    @classmethod
    def read(cls, folder: Path, number: int) -> ShardNote:
        """The note of a shard.

        Raises:
            OSError, DataError, ValueError, TypeError: if there is none, or it is damaged.
        """
        path = _note_path(folder, number)
        arrays = unarchive(path.read_bytes(), path)
        files = {kind: ShardFile(**file) for kind, file in json.loads(str(arrays.pop("files"))).items()}
        objects = {name: arrays.pop(name) for name in list(arrays) if name.startswith(INSTANCE_PREFIX)}
        instances = {name.removeprefix(INSTANCE_PREFIX): array for name, array in objects.items()}
        return cls(Index(**arrays), Instances(**instances), files)


def _note_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.npz"


class ShardWriter:
    """Writes the files of one shard, as a context: they take their names when it is left without an error."""

    def __init__(self, folder: Path, number: int, label_count: int) -> None:
        self.folder, self.number = folder, number
        self._open: dict[str, tuple[BinaryIO, Any, Path]] = {}
        self._files: dict[str, ShardFile] = {}
        self._index, self._instances = [Index.empty(label_count)], [Instances.empty()]
        self._points = 0
        self._discarded = False

    def __enter__(self) -> ShardWriter:
        return self

    def append(self, packed: PackedScan) -> None:
        """Add one scan.

        Raises:
            OutputError: if the files cannot be written.
        """
        try:
            for kind, array in packed.arrays.items():
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
        scan = len(self._index) - 1
        shard, first = np.full(1, self.number, np.int32), np.full(1, self._points, np.int64)
        self._index.append(replace(packed.index, shard=shard, first=first))
        self._instances.append(replace(packed.instances, scan=np.full_like(packed.instances.scan, scan)))
        self._points += int(packed.index.points[0])

    def discard(self) -> None:
        """Keep no file."""
        self._discarded = True

    def __exit__(self, kind: object, error: object, trace: TracebackType | None) -> None:
        keep = kind is None and not self._discarded
        for name, (file, digest, temporary) in self._open.items():
            if keep:
                file.flush()
                os.fsync(file.fileno())
            size = file.tell()
            file.close()
            if keep:
                final = self.folder / f"{name}-{self.number:05d}.bin"
                temporary.replace(final)
                self._files[name] = ShardFile(final.name, size, digest.hexdigest())
            else:
                temporary.unlink(missing_ok=True)

    @property
    def note(self) -> ShardNote:
        """Of the finished shard, once the context is left."""
        return ShardNote(Index.joined(self._index), Instances.joined(self._instances), self._files)
