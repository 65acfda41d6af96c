"""One LiDAR scan, and the readers of its files in SemanticKITTI's formats.

`.bin`: float32, little-endian, N x 4: x, y, z in metres (sensor frame: x forward, y left, z up), remission in [0, 1].
`.label`: uint32, little-endian, N: the lower 16 bits are the raw semantic id, the upper 16 the instance id.
Reading validates: a returned scan can be used, and an error names the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.labels import LabelMap

__all__ = ["COLUMNS", "Scan", "missing_columns", "read_labels", "read_points", "with_columns"]

COLUMNS = ("x", "y", "z", "remission")
LABEL_BYTES = 4


@dataclass(frozen=True)
class Scan:
    """A scan with its labels, if it has any.

    Attributes:
        points: (N, 4) float32: x, y, z in metres in the sensor's frame, remission in [0, 1].
        labels: (N,) uint32 raw labels, instance id in the upper 16 bits; None where there are none.
        path: where it came from, for messages and for naming what is made of it.
        labels_path: where the labels came from, if not from `path`.
        extra: (N, E) float32, further columns of the file; None where there are none.
        extra_names: their names.
        pose: (4, 4) float64, sensor to world, in metres; None where unknown.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.uint32] | None
    path: str
    pose: NDArray[np.float64] | None = None
    labels_path: str | None = None
    extra: NDArray[np.float32] | None = None
    extra_names: tuple[str, ...] = ()

    def with_columns(self, names: Sequence[str]) -> NDArray[np.float32]:
        """The points with the named further columns, (N, 4 + E); unchanged if none is named.

        Raises:
            DataError: if the scan lacks one.

        Example:
            >>> scan.with_columns(["ring"]).shape
            (123389, 5)
        """
        return with_columns(self.points, self.extra, self.extra_names, names, self.path)

    @property
    def labels_source(self) -> str:
        """The file that an error about the labels names."""
        return self.labels_path or self.path

    @property
    def required_labels(self) -> NDArray[np.uint32]:
        """The labels, for training or scoring.

        Raises:
            DataError: if there are none.
        """
        if self.labels is None:
            raise DataError("the scan has no labels", where=self.path, remedy="Training and scoring need them.")
        return self.labels

    def train_ids(self, label_map: LabelMap) -> NDArray[np.uint8]:
        """Training ids (N,) of the labels, 0 = ignored.

        Raises:
            DataError, LabelMapError: if there are no labels, or the map does not know one.
        """
        return label_map.to_train(self.required_labels, where=self.labels_source)


def with_columns(
    points: NDArray[np.float32],
    extra: NDArray[np.float32] | None,
    extra_names: Sequence[str],
    names: Sequence[str],
    where: object,
) -> NDArray[np.float32]:
    """Points (N, 3 or 4) with the named ones of their further columns (N, E); unchanged if none is named. Missing remission
    becomes NaN.

    Raises:
        DataError: if a column is missing, naming `where`.
    """
    if not names:
        return points
    present = list(extra_names) if extra is not None else []
    if missing := [name for name in names if name not in present]:
        raise missing_columns(missing, [*COLUMNS[: points.shape[1]], *present], where)
    if points.shape[1] == 3:
        points = np.column_stack([points, np.full(len(points), np.nan, np.float32)])
    assert extra is not None
    return np.concatenate([points, extra[:, [present.index(name) for name in names]]], axis=1)


def missing_columns(missing: Sequence[str], present: Sequence[str], where: object) -> DataError:
    """The error about further columns that a model needs and the scans lack."""
    return DataError(
        f"there is no column {', '.join(missing)} among {', '.join(present)}, and the model's features need it",
        where=where,
        remedy="Use scans that have it (columns=[x,y,z,remission,...] names those of .bin files), or a model without it.",
    )


def _read(path: Path, dtype: str, record: int, kind: str) -> NDArray[np.generic]:
    if not path.is_file():
        what = "a folder where a file should be" if path.is_dir() else f"the {kind} file is missing"
        raise DataError(what, where=path, remedy="Check data.root and that the download is complete.")
    try:
        size = path.stat().st_size
        if size == 0:
            raise DataError(f"the {kind} file is empty", where=path, remedy="Copy it again from its source.")
        if size % record:
            raise DataError(
                f"{size} bytes is not a multiple of the {record} bytes of one {kind} record",
                where=path,
                remedy="The file is cut off or of another format; copy it again from its source.",
            )
        return np.fromfile(path, dtype=dtype)
    except OSError as error:
        raise DataError(f"the {kind} file cannot be read ({error.strerror})", where=path) from error


def read_points(path: str | Path, columns: int = len(COLUMNS)) -> NDArray[np.float32]:
    """Read a `.bin` file: (N, 4) float32 x, y, z in metres and remission, or more columns where the file has them.

    Raises:
        DataError: if the file is missing, empty, cut off, or holds a value that is not finite.
    """
    path = Path(path)
    points = _read(path, "<f4", 4 * columns, "point").reshape(-1, columns).astype(np.float32, copy=False)
    # if any value is not finite, the sum is not; it takes a quarter of the time of isfinite
    with np.errstate(all="ignore"):
        suspicious = not np.isfinite(points.sum(dtype=np.float64))
    if suspicious and not (finite := np.isfinite(points)).all():
        bad = np.flatnonzero(~finite.all(axis=1))
        raise DataError(
            f"{len(bad)} of {len(points)} points are NaN or infinite, the first is number {bad[0]}",
            where=path,
            remedy="Remove these points from the scan and its labels, or copy the file again.",
        )
    return points


def read_labels(path: str | Path, count: int | None = None) -> NDArray[np.uint32]:
    """Read a `.label` file: (N,) uint32 raw labels.

    Args:
        path: the file.
        count: the number of points of the scan; another number of labels is refused.

    Raises:
        DataError: if the file is missing, empty, cut off, or does not fit the scan.
    """
    path = Path(path)
    labels = _read(path, "<u4", LABEL_BYTES, "label").astype(np.uint32, copy=False)
    if count is not None and len(labels) != count:
        raise DataError(
            f"{len(labels)} labels for {count} points",
            where=path,
            remedy="Scan and label file do not belong together; copy both again.",
        )
    return labels
