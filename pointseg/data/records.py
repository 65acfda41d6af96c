"""Labelled points as records of integers: what the packed store holds and what training draws from.

Two formats. Both keep x, y, z in whole millimetres, so that distances and choices among points are integer arithmetic,
equal on every device, and both give back training ids, 0 = ignored.

**narrow**, 8 bytes, one little-endian int64 a point:

    bits  0-17  x + 2^17 mm     -131.072 .. 131.071 m
    bits 18-35  y + 2^17 mm
    bits 36-51  z + 2^15 mm      -32.768 .. 32.767 m
    bits 52-58  remission level  remission = level / 100, level 0 .. 127 (SemanticKITTI's takes the levels 0 .. 100)
    bits 59-63  training id      up to 31 classes

**wide**, 20 bytes and more, little-endian int32 columns: x, y, z in mm, remission as the bits of its float32, training
id, then one column for each extra value a point has, as the bits of its float32. For sensors whose values the narrow
record cannot hold. Values that neither can hold are refused; nothing is clipped.

Legend: N points, W columns of a wide record, E extra columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pointseg.errors import DataError

__all__ = ["Decoded", "DoesNotFit", "Narrow", "RecordFormat", "Wide", "format_of"]

LEVELS = 100
LEVEL_BITS, CLASS_BITS = 7, 5
LEVEL_AT, CLASS_AT = 52, 59
COORDINATES = (("x", 0, 18), ("y", 18, 18), ("z", 36, 16))  # name, lowest bit, bits


class Decoded(NamedTuple):
    """Points of records of shape S: xyz S + (3,) float32 metres, remission S float32, labels S int64 training ids."""

    xyz: Tensor
    remission: Tensor
    labels: Tensor


class RecordFormat(Protocol):
    """How a point is kept.

    Attributes:
        name: "narrow" or "wide".
        extra: names of extra columns.
        dtype: of an array of records.
        columns: shape of one record: () or (W,).
    """

    @property
    def name(self) -> str: ...

    @property
    def extra(self) -> tuple[str, ...]: ...

    @property
    def dtype(self) -> np.dtype[np.generic]: ...

    @property
    def columns(self) -> tuple[int, ...]: ...

    def encode(
        self, points: NDArray[np.float32], train_ids: NDArray[np.uint8], extra: NDArray[np.float32] | None = None
    ) -> NDArray[np.generic]:
        """Points (N, 4), training ids (N,), extra columns (N, E) -> records (N, *columns).

        Raises:
            DoesNotFit: if a value cannot be kept so.
        """

    def decode(self, records: Tensor) -> Decoded:
        """Records (..., *columns) -> points, on the device where they lie."""

    def millimetres(self, records: Tensor) -> Tensor:
        """Records (..., *columns) -> (..., 3) int64."""

    def labels(self, records: Tensor) -> Tensor:
        """Records (..., *columns) -> (...) int64 training ids."""


class DoesNotFit(ValueError):
    """A value that a format cannot hold."""


def _field(records: Tensor, at: int, bits: int) -> Tensor:
    return (records >> at if at else records) & ((1 << bits) - 1)


@dataclass(frozen=True)
class Narrow:
    """8 bytes a point; see the module's table.

    Example:
        >>> records = Narrow().encode(points, train_ids)
        >>> Narrow().decode(torch.from_numpy(records)).xyz.shape
        torch.Size([123389, 3])
    """

    name: str = "narrow"
    extra: tuple[str, ...] = ()

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype("<i8")

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
        records |= train_ids.astype(np.int64) << CLASS_AT
        for axis, (name, at, bits) in enumerate(COORDINATES):
            mm, half = _millimetres(columns[axis]), 1 << (bits - 1)
            if mm.min() < -half or mm.max() >= half:
                reach = f"from {mm.min() / 1000:.3f} to {mm.max() / 1000:.3f} m"
                raise DoesNotFit(f"{name} {reach} leaves +-{half / 1000:.3f} m")
            mm += half
            mm <<= at
            records |= mm
        return records.astype(self.dtype, copy=False)

    def decode(self, records: Tensor) -> Decoded:
        xyz = torch.empty((*records.shape, 3), dtype=torch.float32, device=records.device)
        for axis, (_, at, bits) in enumerate(COORDINATES):
            # exact: whole numbers below 2^24
            torch.sub(_field(records, at, bits).to(torch.float32), 1 << (bits - 1), out=xyz[..., axis])
        remission = _field(records, LEVEL_AT, LEVEL_BITS).to(torch.float32).div_(LEVELS)
        return Decoded(xyz.div_(1000.0), remission, self.labels(records))

    def millimetres(self, records: Tensor) -> Tensor:
        fields = [_field(records, at, bits) - (1 << (bits - 1)) for _, at, bits in COORDINATES]
        return torch.stack(fields, dim=-1)

    def labels(self, records: Tensor) -> Tensor:
        return _field(records, CLASS_AT, CLASS_BITS)


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
class Wide:
    """20 bytes a point, and 4 for each extra column; see the module's table."""

    extra: tuple[str, ...] = ()
    name: str = "wide"

    @property
    def dtype(self) -> np.dtype[np.generic]:
        return np.dtype("<i4")

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

    def decode(self, records: Tensor) -> Decoded:
        remission = records[..., 3].contiguous().view(torch.float32)
        return Decoded(records[..., :3].to(torch.float32) / 1000.0, remission, self.labels(records))

    def extra_values(self, records: Tensor) -> Tensor:
        """(..., E) float32."""
        return records[..., 5:].contiguous().view(torch.float32)

    def millimetres(self, records: Tensor) -> Tensor:
        return records[..., :3].long()

    def labels(self, records: Tensor) -> Tensor:
        return records[..., 4].long()


def format_of(name: str, extra: Sequence[str] = (), where: object = "record") -> Narrow | Wide:
    """The format of a name.

    Raises:
        DataError: if there is none, or narrow is to hold extra columns.
    """
    if name == "wide":
        return Wide(tuple(extra))
    if name == "narrow" and not extra:
        return Narrow()
    what = f"a narrow record holds no {', '.join(extra)}" if name == "narrow" else f"there is no record format {name!r}"
    raise DataError(what, where=where, remedy="Use narrow, or wide.")
