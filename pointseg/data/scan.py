"""One LiDAR scan and the reading of its files (SemanticKITTI's formats).

`.bin`: float32, little-endian, N x 4: x, y, z in metres (sensor frame: x forward, y left, z up), remission in [0, 1].
`.label`: uint32, little-endian, N: the lower 16 bits are the raw semantic id, the upper 16 the instance id.
Reading validates: what is returned can be used, and an error names the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.errors import DataError

__all__ = ["COLUMNS", "Scan", "read_labels", "read_points"]

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
        pose: (4, 4) float64, sensor to world, in metres; None where unknown.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.uint32] | None
    path: str
    pose: NDArray[np.float64] | None = None
    labels_path: str | None = None
    extra: NDArray[np.float32] | None = None

    @property
    def labels_source(self) -> str:
        """What an error about the labels names."""
        return self.labels_path or self.path

    @property
    def required_labels(self) -> NDArray[np.uint32]:
        """The labels, where training or scoring needs them.

        Raises:
            DataError: if there are none.
        """
        if self.labels is None:
            raise DataError("the scan has no labels", where=self.path, remedy="Training and scoring need them.")
        return self.labels


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
    # a sum is not finite if any value is not, and takes a quarter of the time of isfinite over all values
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
        count: the number of points that the scan has; another number of labels is refused.

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
