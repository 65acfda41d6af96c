"""The layout of a packed store: names of files, the header, the index. Nothing here reads points."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError

__all__ = [
    "HEADER",
    "INDEX",
    "INSTANCES",
    "PACKING",
    "STORE_FORMAT",
    "Header",
    "Index",
    "ShardFile",
    "archive",
    "arrays_of",
    "unarchive",
]

STORE_FORMAT = 1
HEADER, INDEX, INSTANCES = "store.json", "index.npz", "instances.npz"
PACKING = "packing.json"  # in the folder while the store is unfinished
COPY_AGAIN = "Copy the store again, or pack the data again."


@dataclass(frozen=True)
class ShardFile:
    """One file of the store: its name, size in bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Header:
    """`store.json`.

    Attributes:
        record, extra: name of the record format and of its extra columns.
        surroundings: names of the measured columns, such as "extent@0.5"; empty if there are none.
        label_map, label_map_hash: what the training ids mean.
        scans, points: how many.
        settings: how it was made.
        index, instances: the two archives.
        shards: for each shard, kind -> file.
    """

    record: str
    extra: tuple[str, ...]
    surroundings: tuple[str, ...]
    label_map: dict[str, Any]
    label_map_hash: str
    scans: int
    points: int
    settings: dict[str, Any]
    index: ShardFile
    instances: ShardFile
    shards: tuple[dict[str, ShardFile], ...] = field(repr=False)

    @property
    def files(self) -> list[ShardFile]:
        """Every file but `store.json`."""
        return [self.index, self.instances, *(file for shard in self.shards for file in shard.values())]

    def to_json(self) -> str:
        content = json.loads(
            json.dumps({"format": STORE_FORMAT, **asdict(self)})
        )  # as it will be read: keys are strings
        return json.dumps({"sha256": _digest(content), **content}, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: object) -> Header:
        """The inverse of `to_json`.

        Raises:
            DataError: if it is not a header of this format, or was changed.
        """
        try:
            content = json.loads(text)
            digest, version = content.pop("sha256"), content["format"]
            if version != STORE_FORMAT:
                raise DataError(
                    f"the store is of format {version}, this version reads {STORE_FORMAT}",
                    where=where,
                    remedy="Pack the data again, or use the version that packed it.",
                )
            if digest != _digest(content):
                raise DataError("the file is damaged", where=where, remedy=COPY_AGAIN)
            del content["format"]
            content["extra"], content["surroundings"] = tuple(content["extra"]), tuple(content["surroundings"])
            for name in ("index", "instances"):
                content[name] = ShardFile(**content[name])
            content["shards"] = tuple(
                {kind: ShardFile(**file) for kind, file in shard.items()} for shard in content["shards"]
            )
            return cls(**content)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"not the header of a packed store ({type(error).__name__}: {error})",
                where=where,
                remedy="Pack the data again.",
            ) from error


def _digest(content: dict[str, Any]) -> str:
    """Of the values in the header, without the digest; the spacing of the text does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Index:
    """One row a scan.

    Attributes:
        sequence, frame: names, (S,) str.
        shard, first, points: where its records lie: number of the shard, first record in it, how many.
        labelled: whether it has labels.
        class_counts: (S, K + 1) points by training id.
        remission_sum: of all its points.
        out_of_domain: whether remission leaves [0, 1].
        poses: (S, 4, 4) float64 sensor to world; NaN where unknown.
    """

    sequence: NDArray[np.str_]
    frame: NDArray[np.str_]
    shard: NDArray[np.int32]
    first: NDArray[np.int64]
    points: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    class_counts: NDArray[np.int64]
    remission_sum: NDArray[np.float64]
    out_of_domain: NDArray[np.bool_]
    poses: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.points)

    @property
    def names(self) -> list[str]:
        return [f"{sequence}/{frame}" for sequence, frame in zip(self.sequence, self.frame, strict=True)]

    @classmethod
    def empty(cls, label_count: int) -> Index:
        """No scan; label_count: K + 1."""
        dtypes = (np.str_, np.str_, np.int32, np.int64, np.int64, np.bool_, np.int64, np.float64, np.bool_, np.float64)
        shapes = {"class_counts": (0, label_count), "poses": (0, 4, 4)}
        names = [f.name for f in fields(cls)]
        return cls(**{name: np.empty(shapes.get(name, 0), t) for name, t in zip(names, dtypes, strict=True)})

    @classmethod
    def joined(cls, parts: Sequence[Index]) -> Index:
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})


def arrays_of(rows: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a dataclass, such as `Index`, by name."""
    return {f.name: getattr(rows, f.name) for f in fields(rows)}


def archive(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A `.npz` whose bytes depend on the arrays alone: `np.savez` would write the time of day into it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), content.getvalue())
    return buffer.getvalue()


def unarchive(content: bytes, where: object) -> dict[str, NDArray[Any]]:
    """The inverse of `archive`; executes nothing.

    Raises:
        DataError: if it is damaged.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile, EOFError, KeyError) as error:
        raise DataError(f"the file is damaged ({error})", where=where, remedy=COPY_AGAIN) from error
