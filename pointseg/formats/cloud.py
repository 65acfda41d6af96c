"""A cloud as it comes out of a file, whatever the kind: points in metres, remission in [0, 1], and what was done to them.

Legend: N points.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import DataError, PointsegError
from pointseg.formats.columns import point_columns
from pointseg.input_check import Note, looks_georeferenced
from pointseg.words import counted

__all__ = [
    "PointCloud",
    "cloud_of",
    "cloud_of_fields",
    "finite_points",
    "over_all",
    "reading",
    "scaled_remission",
    "sensor_origin",
    "zeros_note",
]

NEAR = 15.0  # metres around the middle of a map's points, where the ground is looked for
LOWEST = 0.3  # of the points there lie lower than what is taken for it: most are on it
SENSOR_HEIGHT = 1.7  # metres above the ground: on the roof of a car
UNITS = (255.0, 65535.0)  # largest values of intensity that is stored in 8 and in 16 bits


@dataclass(frozen=True)
class PointCloud:
    """Points of one file, in its order.

    Attributes:
        points: (N, 4) float32 x, y, z in metres and remission in [0, 1], or (N, 3) where there is none; NaN is kept.
        origin: (3,) float64 metres, what was subtracted from the file's coordinates; zeros unless they are a map's.
        notes: what was done to the points, or is unusual about them.
    """

    points: NDArray[np.float32]
    origin: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    notes: tuple[Note, ...] = ()

    @property
    def finite(self) -> NDArray[np.bool_]:
        """(N,) True where a point can be predicted: no value of it is NaN or infinite."""
        return np.asarray(np.isfinite(self.points).all(axis=1), np.bool_)


def cloud_of(
    xyz_N3: NDArray[Any],
    intensity_N: NDArray[Any] | None,
    where: Path,
    *,
    remission_scale: float | None = None,
) -> PointCloud:
    """A cloud from coordinates in metres and intensity in any unit that is known.

    Args:
        xyz_N3: float32 or float64; where they are a map's coordinates, an origin is subtracted before they become
            float32, which keeps millimetres.
        intensity_N: numbers, or None.
        where: the file, for errors.
        remission_scale: what intensity is divided by; None: see `scaled_remission`.

    Raises:
        DataError: if there is no point, or intensity is in no unit that is known.
    """
    refuse_empty(len(xyz_N3), where)
    origin, notes = np.zeros(3), []
    finite_N = np.isfinite(xyz_N3).all(axis=1)
    if finite_N.any() and looks_georeferenced(xyz_N3 if finite_N.all() else xyz_N3[finite_N]):
        known_N3 = xyz_N3[finite_N]
        origin = sensor_origin(known_N3)
        notes.append(origin_note(origin))
        xyz_N3 = xyz_N3 - origin
    columns = [np.asarray(xyz_N3, np.float32)]
    if intensity_N is not None:
        remission_N, note = scaled_remission(np.asarray(intensity_N), where, remission_scale)
        columns += [remission_N[:, None]] if remission_N is not None else []
        notes += [note] if note else []
    return PointCloud(np.ascontiguousarray(np.concatenate(columns, axis=1)), origin, tuple(notes))


def finite_points(cloud: PointCloud) -> tuple[NDArray[np.float32], list[Note]]:
    """The points (M, 3 or 4) of a cloud that can be predicted, and what is said about the others and about zeros.

    Raises:
        DataError: if there is none.
    """
    finite_N, notes = cloud.finite, []
    missing = len(finite_N) - int(finite_N.sum())
    if missing == len(finite_N):
        raise DataError("no point is finite", remedy="Copy the file again, or leave it out.")
    if missing:
        text = f"{missing:,} of {counted(len(finite_N), 'point')} are NaN or infinite: they get no class"
        notes.append(Note("not finite", text))
    points = cloud.points[finite_N] if missing else cloud.points
    zeros = zeros_note(points)
    return points, [*notes, zeros] if zeros else notes


def zeros_note(points: NDArray[np.float32]) -> Note | None:
    """What is said about points (N, 3 or 4) where the sensor itself stands; None if there are none."""
    zeros = int((points[:, :3] == 0).all(axis=1).sum())
    text = (
        f"{counted(zeros, 'point')} at (0, 0, 0), where some sensors put what they did not hit: predicted like others"
    )
    return Note("zeros", text) if zeros else None


def over_all(values: NDArray[Any], cloud: PointCloud, fill: int = 0) -> NDArray[Any]:
    """Values (M, ...) of a cloud's finite points as those of all its points (N, ...), `fill` at the others."""
    if len(values) == len(cloud.points):
        return values
    spread = np.full((len(cloud.points), *values.shape[1:]), fill, values.dtype)
    spread[cloud.finite] = values
    return spread


def refuse_empty(count: int, where: Path) -> None:
    """Raises DataError if there is no point."""
    if count == 0:
        raise DataError("the cloud has no points", where=where, remedy="Leave the file out, or copy it again.")


def sensor_origin(xyz_N3: NDArray[np.floating]) -> NDArray[np.float64]:
    """(3,) metres, to decimetres: the place of a car's sensor in the middle of a map's points."""
    x, y = (round(float(np.median(xyz_N3[:, column])), 1) for column in range(2))
    near_N = (np.abs(xyz_N3[:, 0] - x) < NEAR) & (np.abs(xyz_N3[:, 1] - y) < NEAR)
    ground = np.quantile(xyz_N3[near_N, 2] if near_N.any() else xyz_N3[:, 2], LOWEST)
    return np.array([x, y, round(float(ground) + SENSOR_HEIGHT, 1)])


def origin_note(origin: NDArray[np.float64]) -> Note:
    x, y, z = origin
    return Note(
        "origin",
        f"the coordinates are those of a map: they are taken from ({x:.1f}, {y:.1f}, {z:.1f}), in the middle of the "
        f"cloud and {SENSOR_HEIGHT} m above the ground, as if the sensor had stood there",
        True,
        "Cut the cloud to what one scan sees, with the sensor at 0, 0, 0.",
    )


def scaled_remission(
    intensity_N: NDArray[Any], where: Path, scale: float | None = None
) -> tuple[NDArray[np.float32] | None, Note | None]:
    """Intensity -> remission (N,) float32 in [0, 1], and what was done, where it is not plain.

    Args:
        scale: what to divide by. None: values up to 1 stay; up to 255 they are taken for 8 bits, up to 65535 for 16 bits,
            which a note says; zeros alone are what a writer without intensity leaves: (None, note).

    Raises:
        DataError: if the largest value is beyond 16 bits, or all are negative.
    """
    remission_N = np.asarray(intensity_N, np.float32)
    if scale is not None:
        return (remission_N / np.float32(scale) if scale != 1 else remission_N), None
    finite_N = remission_N[np.isfinite(remission_N)]
    largest, smallest = (float(finite_N.max()), float(finite_N.min())) if len(finite_N) else (0.0, 0.0)
    if largest == smallest == 0.0:
        return None, Note("no intensity", "intensity is 0 everywhere, which is taken for none")
    if largest <= 1.0:
        return remission_N, None
    for unit in UNITS:
        if largest <= unit:
            text = f"intensity goes up to {largest:g}: it is divided by {unit:.0f}"
            note = Note("intensity", text, True, f"Where that is right, say so: remission_scale={unit:.0f}.")
            return remission_N / np.float32(unit), note
    raise DataError(
        f"intensity goes up to {largest:g}, in a unit that is not known",
        where=where,
        remedy="Say what to divide it by, so that it lies in 0 to 1: remission_scale=VALUE.",
    )


def cloud_of_fields(data: NDArray[Any], path: Path, kind: str, remission_scale: float | None = None) -> PointCloud:
    """The cloud of a structured array (N,) whose fields are named as people name them.

    Raises:
        DataError: if x, y or z is missing, or a field is no number.
    """
    names, remission = point_columns(list(data.dtype.names or ()), path)
    with reading(path, kind):
        exact = np.float64 if any(data.dtype[name].itemsize > 4 for name in names) else np.float32
        xyz = np.stack([np.asarray(data[name], exact) for name in names], axis=1)
        intensity = np.asarray(data[remission], np.float32) if remission else None  # which a list is not
    return cloud_of(xyz, intensity, path, remission_scale=remission_scale)


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """What a third-party reader says about a file becomes an error of ours that names the file.

    Raises:
        DataError: if the block fails.
    """
    try:
        yield
    except PointsegError:
        raise
    except FileNotFoundError as error:
        raise DataError("the file is missing", where=path, remedy="Check the path.") from error
    except Exception as error:  # damaged files raise whatever a reader, or what it is built on, happens to trip over
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise DataError(
            f"not a {kind} file that can be read ({reason})",
            where=path,
            remedy="It is cut off, damaged or of another kind; copy it again from its source.",
        ) from error
