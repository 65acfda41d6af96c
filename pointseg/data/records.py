"""Labelled points as records of integers: what the packed store holds and what training draws from.

There are two formats. Both keep x, y, z in whole millimetres, so that distances and choices among points are integer
arithmetic, equal on every device. Both give back training ids, 0 = ignored.

**narrow**, 8 bytes, one little-endian int64 a point:

    bits 46-63  x in mm, signed      -131.072 .. 131.071 m
    bits 28-45  y in mm, signed
    bits 12-27  z in mm, signed       -32.768 .. 32.767 m
    bits  5-11  remission level       remission = level / 100, level 0 .. 127 (SemanticKITTI's takes the levels 0 .. 100)
    bits  0-4   training id           up to 31 classes

**wide**, 20 bytes or more, little-endian int32 columns: x, y, z in mm, remission as the bits of its float32, training
id, then one column for each extra value of a point, as the bits of its float32. It is for sensors whose values the
narrow record cannot hold. Values that neither can hold are refused; nothing is clipped.

Legend: N points, W columns of a wide record, E extra columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg.core.errors import DataError

__all__ = ["Decoded", "DoesNotFit", "Narrow", "RecordFormat", "Wide", "format_of"]

Integers = TypeVar("Integers", NDArray[np.int64], Tensor)
LEVELS = 100
COORDINATES = (("x", 46, 18), ("y", 28, 18), ("z", 12, 16))  # name, lowest bit, bits
LEVEL_AT, LEVEL_BITS, CLASS_BITS = 5, 7, 5
WORD = 64


class DoesNotFit(ValueError):
    """A value that a format cannot hold."""


class Decoded(NamedTuple):
    """Points of records of shape S: points S + (4,) float32, metres and remission; labels S int64 training ids."""

    points: Tensor
    labels: Tensor


def _signed_field(records: Integers, at: int, bits: int) -> Integers:
    """A two's complement field: pushed to the top of the word, then down."""
    return ((records << (WORD - at - bits)) if at + bits < WORD else records) >> (WORD - bits)


def _scaled(values: Any, scale: float, out: Any) -> None:
    """Whole numbers below 2^24, as float32, divided: the same bits on every device."""
    if isinstance(out, Tensor):
        torch.div(values, scale, out=out)
    else:
        np.divide(values, np.float32(scale), out=out, dtype=np.float32, casting="unsafe")


def _as_numpy(records: Tensor, planes: Tensor) -> tuple[Any, Any]:
    """The same memory as NumPy arrays, if it is on the CPU: NumPy takes half of torch's time for small integers."""
    return (records.numpy(), planes.numpy()) if records.device.type == "cpu" else (records, planes)


class RecordFormat(ABC):
    """How a point is stored.

    Attributes:
        name: "narrow" or "wide".
        dtype: of an array of records.
        extra: names of extra columns.
    """

    name: ClassVar[str]
    dtype: ClassVar[np.dtype[np.generic]]
    extra: tuple[str, ...]

    @property
    @abstractmethod
    def columns(self) -> tuple[int, ...]:
        """Shape of one record: () or (W,)."""

    @abstractmethod
    def encode(
        self, points: NDArray[np.float32], train_ids: NDArray[np.uint8], extra: NDArray[np.float32] | None = None
    ) -> NDArray[np.generic]:
        """Points (N, 4), training ids (N,), extra columns (N, E) -> records (N, *columns).

        Raises:
            DoesNotFit: if a value cannot be stored.
        """

    def decode(self, records: Tensor, planes: Tensor | None = None) -> Decoded:
        """Records (..., *columns) -> points, on the device that holds them.

        Args:
            planes: (4, ...) float32 to write x, y, z and remission to; the result is a view of it. A column of points that
                is contiguous is faster to make and to use than one of every fourth value.
        """
        if planes is None:
            shape = records.shape[: records.ndim - len(self.columns)]
            planes = torch.empty((4, *shape), dtype=torch.float32, device=records.device)
        self._decode_points(records, planes)
        return Decoded(planes.movedim(0, -1), self.labels(records))

    @abstractmethod
    def _decode_points(self, records: Tensor, planes: Tensor) -> None:
        """Write x, y, z and remission to planes (4, ...)."""

    @abstractmethod
    def extra_values(self, records: Tensor, names: Sequence[str]) -> Tensor:
        """Records (..., *columns) -> (..., E) float32, some of the extra columns."""

    @abstractmethod
    def millimetres(self, records: Tensor) -> Tensor:
        """Records (..., *columns) -> x, y and z in planes: (3, ...) int64."""

    @abstractmethod
    def labels(self, records: Tensor) -> Tensor:
        """Records (..., *columns) -> (...) int64 training ids."""


@dataclass(frozen=True)
class Narrow(RecordFormat):
    """8 bytes a point; see the module's table.

    Example:
        >>> records = Narrow().encode(points, train_ids)
        >>> Narrow().decode(torch.from_numpy(records)).points.shape
        torch.Size([123389, 4])
    """

    name: ClassVar[str] = "narrow"
    dtype: ClassVar[np.dtype[np.generic]] = np.dtype("<i8")
    extra: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[int, ...]:
        return ()

    def encode(
        self, points: NDArray[np.float32], train_ids: NDArray[np.uint8], extra: NDArray[np.float32] | None = None
    ) -> NDArray[np.generic]:
        columns = np.ascontiguousarray(points.T)
        records = _level(columns[3]) << LEVEL_AT
        if int(train_ids.max(initial=0)) >= 1 << CLASS_BITS:
            raise DoesNotFit(f"training id {train_ids.max()} is more than {(1 << CLASS_BITS) - 1}")
        records |= train_ids
        for axis, (name, at, bits) in enumerate(COORDINATES):
            mm, half = _millimetres(columns[axis]), 1 << (bits - 1)
            if mm.min() < -half or mm.max() >= half:
                reach = f"from {mm.min() / 1000:.3f} to {mm.max() / 1000:.3f} m"
                raise DoesNotFit(f"{name} {reach} leaves +-{half / 1000:.3f} m")
            records |= (mm & ((1 << bits) - 1)) << at
        return records.astype(self.dtype, copy=False)

    def _decode_points(self, records: Tensor, planes: Tensor) -> None:
        words, columns = _as_numpy(records, planes)
        for axis, (_, at, bits) in enumerate(COORDINATES):
            _scaled(_signed_field(words, at, bits), 1000.0, columns[axis])
        _scaled((words >> LEVEL_AT) & ((1 << LEVEL_BITS) - 1), float(LEVELS), columns[3])

    def extra_values(self, records: Tensor, names: Sequence[str]) -> Tensor:
        return records.new_empty((*records.shape, 0), dtype=torch.float32)

    def millimetres(self, records: Tensor) -> Tensor:
        planes = torch.empty((3, *records.shape), dtype=torch.int64, device=records.device)
        words, columns = _as_numpy(records, planes)
        for axis, (_, at, bits) in enumerate(COORDINATES):
            columns[axis] = _signed_field(words, at, bits)
        return planes

    def labels(self, records: Tensor) -> Tensor:
        return records & ((1 << CLASS_BITS) - 1)


def _millimetres(column: NDArray[np.float32]) -> NDArray[np.int64]:
    mm = column.astype(np.float64)
    mm *= 1000.0
    return np.rint(mm, out=mm).astype(np.int64)


def _level(remission: NDArray[np.float32]) -> NDArray[np.int64]:
    levels = np.rint(remission * np.float32(LEVELS))
    if not np.array_equal(levels / np.float32(LEVELS), remission):
        raise DoesNotFit(f"remission is not in steps of 1/{LEVELS}")
    if levels.min() < 0 or levels.max() >= 1 << LEVEL_BITS:
        most = ((1 << LEVEL_BITS) - 1) / LEVELS
        raise DoesNotFit(f"remission from {remission.min():g} to {remission.max():g} leaves 0 to {most:g}")
    return levels.astype(np.int64)


@dataclass(frozen=True)
class Wide(RecordFormat):
    """20 bytes a point, and 4 for each extra column; see the module's table."""

    name: ClassVar[str] = "wide"
    dtype: ClassVar[np.dtype[np.generic]] = np.dtype("<i4")
    extra: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[int, ...]:
        return (5 + len(self.extra),)

    def encode(
        self, points: NDArray[np.float32], train_ids: NDArray[np.uint8], extra: NDArray[np.float32] | None = None
    ) -> NDArray[np.generic]:
        records = np.empty((len(points), *self.columns), self.dtype)
        reach = max(-float(points[:, :3].min()), float(points[:, :3].max()))
        if reach * 1000 >= (1 << 31) - 1:
            raise DoesNotFit(f"a coordinate of {reach:g} m is too large")
        for axis in range(3):
            records[:, axis] = _millimetres(points[:, axis])
        records[:, 3] = np.ascontiguousarray(points[:, 3]).view(np.int32)
        records[:, 4] = train_ids
        if extra is not None and self.extra:
            records[:, 5:] = np.ascontiguousarray(extra, np.float32).view(np.int32)
        return records

    def _decode_points(self, records: Tensor, planes: Tensor) -> None:
        words, columns = _as_numpy(records, planes)
        for axis in range(3):
            _scaled(words[..., axis], 1000.0, columns[axis])
        planes[3] = records[..., 3].contiguous().view(torch.float32)

    def extra_values(self, records: Tensor, names: Sequence[str]) -> Tensor:
        return records[..., [5 + self.extra.index(name) for name in names]].contiguous().view(torch.float32)

    def millimetres(self, records: Tensor) -> Tensor:
        return records[..., :3].movedim(-1, 0).long().contiguous()

    def labels(self, records: Tensor) -> Tensor:
        return records[..., 4].long()


def format_of(name: str, extra: Sequence[str] = (), where: object = "record") -> RecordFormat:
    """The format with this name.

    Raises:
        DataError: if there is none, or extra columns are given for narrow.
    """
    if name == "wide":
        return Wide(tuple(extra))
    if name == "narrow" and not extra:
        return Narrow()
    what = (
        f"a narrow record cannot hold {', '.join(extra)}" if name == "narrow" else f"there is no record format {name!r}"
    )
    raise DataError(what, where=where, remedy="Use narrow, or wide.")
