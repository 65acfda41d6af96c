"""The points of a file of any kind: metres, remission in [0, 1], and notes on what was done to them.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError, PointsegError
from pointseg.core.text import counted
from pointseg.data.checks.input_check import Note, looks_georeferenced
from pointseg.data.formats.columns import further_columns, point_columns
from pointseg.data.scan import with_columns

__all__ = [
    "AS_IS",
    "PointCloud",
    "ReadSettings",
    "cloud_of",
    "cloud_of_fields",
    "finite_points",
    "over_all",
    "reading",
    "scaled_remission",
    "sensor_origin",
    "zeros_note",
]

NEAR = 15.0  # metres around the middle of a map's points, where the ground is estimated
LOWEST = 0.3  # quantile of the heights there that is taken for the ground: most of the points lie on it
SENSOR_HEIGHT = 1.7  # metres above the ground: on the roof of a car
UNITS = (255.0, 65535.0)  # largest values of intensity in 8 and in 16 bits


class ReadSettings(NamedTuple):
    """How a file is read.

    Attributes:
        remission_scale: what intensity is divided by; None: see `scaled_remission`.
        extra: further columns to read.
        columns: names of the columns of kinds that do not name them, `.bin`, `.npy` and `.npz`; None: x, y, z, remission.
    """

    remission_scale: float | None = None
    extra: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None


AS_IS = ReadSettings()


@dataclass(frozen=True)
class PointCloud:
    """Points of one file, in its order.

    Attributes:
        points: (N, 4) float32 x, y, z in metres and remission in [0, 1], or (N, 3) without remission; NaN is kept.
        origin: (3,) float64 metres, subtracted from the file's coordinates; zeros unless they are map coordinates.
        notes: what was done to the points, or is unusual about them.
        extra, extra_names: (N, E) float32, the requested further columns, and their names.
    """

    points: NDArray[np.float32]
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    notes: tuple[Note, ...] = ()
    extra: NDArray[np.float32] | None = None
    extra_names: tuple[str, ...] = ()

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(N,) True where a point can be predicted: none of its values is NaN or infinite."""
        finite_N = np.isfinite(self.points).all(axis=1)
        if self.extra is not None:
            finite_N &= np.isfinite(self.extra).all(axis=1)
        return np.asarray(finite_N, np.bool_)

    def with_columns(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The points with the named further columns, (N, 4 + E); unchanged if none is named. Missing remission becomes
        NaN.

        Raises:
            DataError: if the cloud lacks one.
        """
        return with_columns(self.points, self.extra, self.extra_names, names, None)


def cloud_of(
    xyz_N3: NDArray[Any],
    intensity_N: NDArray[Any] | None,
    where: Path,
    settings: ReadSettings = AS_IS,
    extra: Sequence[NDArray[Any]] = (),
) -> PointCloud:
    """A cloud from coordinates in metres and intensity in a known unit.

    Args:
        xyz_N3: float32 or float64; an origin is subtracted from map coordinates before they become float32, which keeps
            millimetres.
        intensity_N: numbers, or None.
        where: the file, for errors.
        extra: the further columns (N,) that `settings.extra` names.

    Raises:
        DataError: if there is no point, or intensity is in an unknown unit.
    """
    refuse_empty(len(xyz_N3), where)
    origin, notes = np.zeros(3), []
    finite_N = np.isfinite(xyz_N3).all(axis=1)
    finite_N3 = xyz_N3 if finite_N.all() else xyz_N3[finite_N]
    if looks_georeferenced(finite_N3):
        origin = sensor_origin(finite_N3)
        notes.append(origin_note(origin))
        xyz_N3 = xyz_N3 - origin
    columns = [np.asarray(xyz_N3, np.float32)]
    if intensity_N is not None:
        remission_N, note = scaled_remission(np.asarray(intensity_N), where, settings.remission_scale)
        columns += [remission_N[:, None]] if remission_N is not None else []
        notes += [note] if note else []
    points = np.ascontiguousarray(np.concatenate(columns, axis=1))
    further = np.stack([np.asarray(column, np.float32) for column in extra], axis=1) if settings.extra else None
    return PointCloud(points, origin, tuple(notes), further, settings.extra)


def finite_points(cloud: PointCloud, extra: Sequence[str] = ()) -> tuple[NDArray[np.float32], list[Note]]:
    """The points of a cloud that can be predicted, (M, 3 or 4), or with further columns (M, 4 + E), and notes on the other
    points and on zeros.

    Raises:
        DataError: if there is none, or a requested column is missing.
    """
    finite_N, notes = cloud.finite, []
    missing = len(finite_N) - int(finite_N.sum())
    if missing == len(finite_N):
        raise DataError("no point is finite", remedy="Copy the file again, or leave it out.")
    if missing:
        text = f"{missing:,} of {counted(len(finite_N), 'point')} are NaN or infinite: they get no class"
        notes.append(Note("not finite", text))
    points = cloud.with_columns(extra)
    points = points[finite_N] if missing else points
    zeros = zeros_note(points)
    return points, [*notes, zeros] if zeros else notes


def zeros_note(points: NDArray[np.float32]) -> Note | None:
    """A note on points (N, 3 or 4) at the sensor itself; None if there are none."""
    zeros = int((points[:, :3] == 0).all(axis=1).sum())
    text = (
        f"{counted(zeros, 'point')} at (0, 0, 0), where some sensors put rays without a return: predicted like others"
    )
    return Note("zeros", text) if zeros else None


def over_all(values: NDArray[Any], cloud: PointCloud, fill: int = 0) -> NDArray[Any]:
    """Values (M, ...) of a cloud's finite points -> values of all its points (N, ...), `fill` at the others."""
    if len(values) == len(cloud.points):
        return values
    filled = np.full((len(cloud.points), *values.shape[1:]), fill, values.dtype)
    filled[cloud.finite] = values
    return filled


def refuse_empty(count: int, where: Path) -> None:
    """Raises DataError if there is no point."""
    if count == 0:
        raise DataError("the cloud has no points", where=where, remedy="Leave the file out, or copy it again.")


def sensor_origin(xyz_N3: NDArray[np.floating]) -> NDArray[np.float64]:
    """(3,) metres, rounded to decimetres: where a car's sensor would be in the middle of a map's points."""
    x, y = (round(float(np.median(xyz_N3[:, column])), 1) for column in range(2))
    near_N = (np.abs(xyz_N3[:, 0] - x) < NEAR) & (np.abs(xyz_N3[:, 1] - y) < NEAR)
    ground = np.quantile(xyz_N3[near_N, 2] if near_N.any() else xyz_N3[:, 2], LOWEST)
    return np.array([x, y, round(float(ground) + SENSOR_HEIGHT, 1)])


def origin_note(origin: NDArray[np.float64]) -> Note:
    x, y, z = origin
    return Note(
        "origin",
        f"these are map coordinates: they are taken relative to ({x:.1f}, {y:.1f}, {z:.1f}), in the middle of the cloud "
        f"and {SENSOR_HEIGHT} m above the ground, as if the sensor had stood there",
        True,
        "Cut the cloud to what one scan sees, with the sensor at 0, 0, 0.",
    )


def scaled_remission(
    intensity_N: NDArray[Any], where: Path, scale: float | None = None
) -> tuple[NDArray[np.float32] | None, Note | None]:
    """Intensity -> remission (N,) float32 in [0, 1], and a note if the scale was guessed.

    Args:
        scale: what to divide by. None: values up to 1 stay; up to 255 they are taken for 8 bits, up to 65535 for 16 bits,
            with a note. All zeros are what a writer without intensity leaves: (None, note).

    Raises:
        DataError: if the largest value is beyond 16 bits, or all are negative.
    """
    remission_N = np.asarray(intensity_N, np.float32)
    if scale is not None:
        return (remission_N / np.float32(scale) if scale != 1 else remission_N), None
    finite_N = remission_N[np.isfinite(remission_N)]
    largest, smallest = (float(finite_N.max()), float(finite_N.min())) if len(finite_N) else (0.0, 0.0)
    if largest == smallest == 0.0:
        return None, Note("no intensity", "intensity is 0 everywhere, so it is taken as missing")
    if largest <= 1.0:
        return remission_N, None
    for unit in UNITS:
        if largest <= unit:
            text = f"intensity goes up to {largest:g}: it is divided by {unit:.0f}"
            note = Note("intensity", text, True, f"If that is right, set remission_scale={unit:.0f}.")
            return remission_N / np.float32(unit), note
    raise DataError(
        f"intensity goes up to {largest:g}, in an unknown unit",
        where=where,
        remedy="Set what to divide it by, so that it lies in 0 to 1: remission_scale=VALUE.",
    )


def cloud_of_fields(data: NDArray[Any], path: Path, kind: str, settings: ReadSettings = AS_IS) -> PointCloud:
    """The cloud of a structured array (N,), by the names of its fields.

    Raises:
        DataError: if x, y, z or a wanted column is missing, or a field does not hold numbers.
    """
    fields = list(data.dtype.names or ())
    (names, remission), further = point_columns(fields, path), further_columns(fields, settings.extra, path)
    with reading(path, kind):
        exact = np.float64 if any(data.dtype[name].itemsize > 4 for name in names) else np.float32
        xyz = np.stack([np.asarray(data[name], exact) for name in names], axis=1)
        intensity = np.asarray(data[remission], np.float32) if remission else None  # fails for a list
        extra = [np.asarray(data[name], np.float32) for name in further]
    return cloud_of(xyz, intensity, path, settings, extra)


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns any error of a third-party reader into a DataError that names the file.

    Raises:
        DataError: if the block fails.
    """
    try:
        yield
    except PointsegError:
        raise
    except FileNotFoundError as error:
        raise DataError("the file is missing", where=path, remedy="Check the path.") from error
    except Exception as error:  # damaged files make readers fail in any way
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(
            f"not a {kind} file that can be read ({reason})",
            where=path,
            remedy="It is cut off, damaged or of another kind; copy it again from its source.",
        ) from error
