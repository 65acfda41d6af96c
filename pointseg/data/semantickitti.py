"""SemanticKITTI's own layout on disk: `sequences/SS/velodyne|labels`, `poses.txt`, `calib.txt`.

The official split (Behley et al., ICCV 2019) is by sequence, because neighbouring frames show nearly the same scene.
Training and scoring require labels: a missing label file is an error, never zeros.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.files import expanded, is_folder
from pointseg.core.limits import require_positive
from pointseg.data.scan import COLUMNS, LABEL_BYTES, Scan, read_labels, read_points
from pointseg.data.sources import missing_sequence

__all__ = ["OFFICIAL_SPLIT", "SemanticKITTIScans", "find_sequences", "read_poses", "sequence_folders"]

OFFICIAL_SPLIT: Mapping[str, tuple[str, ...]] = {
    "train": ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10"),
    "val": ("08",),
    "test": ("11", "12", "13", "14", "15", "16", "17", "18", "19", "20", "21"),
}

LARGEST_POSE = 1e12  # of a value of a pose: far beyond any drive in metres


def find_sequences(root: str | Path | None) -> Path:
    """The folder that holds the sequences below `root`: itself, `root/sequences` or `root/dataset/sequences`.

    Raises:
        DataError: if there is no such folder.
    """
    if root in (None, ""):
        raise DataError("no data folder is given", where="data.root", remedy="Name it: data.root=DIR.")
    root = expanded(str(root))
    if not is_folder(root):
        raise DataError(
            "the data folder does not exist",
            where=f"data.root={root}",
            remedy="Name the folder that holds sequences/00, sequences/01, ...",
        )
    for folder in (root / "sequences", root / "dataset" / "sequences", root):
        if sequence_folders(folder):
            return folder
    raise DataError(
        "the data folder has no sequences",
        where=f"data.root={root}",
        remedy="It must hold sequences/SS/velodyne/*.bin, as SemanticKITTI's download does.",
    )


def sequence_folders(folder: Path) -> list[Path]:
    """The subfolders that hold scans, in order of their names; none if the folder cannot be read."""
    try:
        return sorted(child for child in folder.iterdir() if is_folder(child / "velodyne"))
    except OSError:
        return []


class SemanticKITTIScans:
    """The scans of some sequences, in order of sequence and frame.

    Args:
        root: the data set's folder (see `find_sequences`).
        sequences: names such as "08", or numbers; None for all.
        labelled: whether each scan needs a label file; False reads none; None requires them in sequences that have a
            `labels` folder, for the test sequences of the whole data set have none.
        remission_scale: what remission is divided by, for sensors that store 0..255.
        columns: names of the float32 columns of a `.bin` file, x, y, z, remission first; others become `Scan.extra`.
        keyframe_distance: skip scans whose pose is nearer than this many metres to that of the last one kept.
        check_sizes: check the size of every file here, so that a cut-off file is found before work starts.

    Raises:
        ConfigError: for a scale or distance that is not positive, or columns without x, y, z, remission.
        DataError: if a sequence, a label file, the poses for keyframes, or all scans are missing, or a file has an
            impossible size.

    Example:
        >>> scan = SemanticKITTIScans("semantickitti", ["08"])[0]
        >>> scan.points.shape, scan.labels.dtype
        ((123389, 4), dtype('uint32'))
    """

    def __init__(
        self,
        root: str | Path | None,
        sequences: Sequence[str | int] | None,
        *,
        labelled: bool | None = True,
        remission_scale: float = 1.0,
        columns: Sequence[str] = COLUMNS,
        keyframe_distance: float | None = None,
        check_sizes: bool = True,
    ) -> None:
        if remission_scale <= 0:
            raise ConfigError(
                f"a remission scale of {remission_scale}", where="data.remission_scale", remedy="Give 1 or 255."
            )
        if tuple(columns[:4]) != COLUMNS or len(set(columns)) != len(columns):
            raise ConfigError(
                f"{', '.join(columns)} are not the columns of a scan",
                where="columns",
                remedy=f"Begin with {', '.join(COLUMNS)}; further names follow.",
            )
        folder = find_sequences(root)
        self.remission_scale, self.columns = float(remission_scale), tuple(columns)
        self.keyframe_distance = keyframe_distance
        self._files: list[Path] = []
        self._labelled: dict[str, bool] = {}
        for sequence in _all_sequences(folder) if sequences is None else sequences:
            name = f"{sequence:02d}" if isinstance(sequence, int) else str(sequence)
            files = _frames(folder, name)
            if keyframe_distance is not None:
                files = _keyframes(files, keyframe_distance)
            self._files += files
            self._labelled[name] = (folder / name / "labels").is_dir() if labelled is None else labelled
        self.names = [f"{path.parent.parent.name}/{path.stem}" for path in self._files]
        if check_sizes:
            self._check_sizes()

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Scan:
        path = self._files[index]
        points = read_points(path, len(self.columns))
        extra = None
        if points.shape[1] > 4:
            points, extra = np.ascontiguousarray(points[:, :4]), np.ascontiguousarray(points[:, 4:])
        if self.remission_scale != 1.0:
            points[:, 3] /= self.remission_scale
        labels = labels_path = None
        if self._labelled[path.parent.parent.name]:
            labels, labels_path = read_labels(label_path(path), len(points)), str(label_path(path))
        return Scan(points, labels, str(path), _pose(path), labels_path, extra, self.extra)

    @property
    def files(self) -> list[Path]:
        """The `.bin` file of each scan."""
        return list(self._files)

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the columns beyond x, y, z and remission."""
        return self.columns[4:]

    @property
    def settings(self) -> dict[str, Any]:
        """How the files are read, as plain values."""
        return {
            "layout": "semantickitti",
            "remission_scale": self.remission_scale,
            "columns": list(self.columns),
            "keyframe_distance": self.keyframe_distance,
        }

    @property
    def expected_points(self) -> int:
        """From the files' sizes."""
        return sum(path.stat().st_size for path in self._files) // (4 * len(self.columns))

    def _check_sizes(self) -> None:
        record = 4 * len(self.columns)
        for path in self._files:
            size = path.stat().st_size if path.is_file() else 0
            if size == 0 or size % record:
                read_points(path, len(self.columns))  # raises the error
            if self._labelled[path.parent.parent.name]:
                labels = label_path(path)
                if not labels.is_file() or labels.stat().st_size != size // record * LABEL_BYTES:
                    read_labels(labels, size // record)


def _pose(path: Path) -> NDArray[np.float64] | None:
    poses = _poses_of(path.parent.parent)
    frame = int(path.stem) if path.stem.isdigit() else -1
    return poses[frame] if 0 <= frame < len(poses) else None


def _keyframes(files: list[Path], distance: float) -> list[Path]:
    """The first file, and each that lies at least `distance` from the last one kept."""
    require_positive(distance, "keyframes.distance")
    kept: list[Path] = []
    last: NDArray[np.float64] | None = None
    for path in files:
        pose = _pose(path)
        if pose is None:
            raise DataError(
                "keyframes need the pose of every scan",
                where=path,
                remedy="Put poses.txt and calib.txt beside velodyne/, or leave out keyframes.distance.",
            )
        if last is None or float(np.linalg.norm(pose[:3, 3] - last)) >= distance:
            kept.append(path)
            last = pose[:3, 3]
    return kept


def _all_sequences(folder: Path) -> list[str]:
    return [child.name for child in sequence_folders(folder)]


def label_path(points: Path) -> Path:
    """sequences/08/velodyne/000000.bin -> sequences/08/labels/000000.label"""
    return points.parent.parent / "labels" / f"{points.stem}.label"


def _frames(folder: Path, sequence: str) -> list[Path]:
    velodyne = folder / sequence / "velodyne"
    if not velodyne.is_dir():
        raise missing_sequence(sequence, _all_sequences(folder), velodyne)
    files = sorted(velodyne.glob("*.bin"))
    if not files:
        raise DataError("the sequence has no .bin files", where=velodyne, remedy="Check that the download is complete.")
    return files


@lru_cache(maxsize=32)
def _poses_of(sequence: Path) -> NDArray[np.float64]:
    poses = sequence / "poses.txt"
    return read_poses(poses, sequence / "calib.txt") if poses.is_file() else np.empty((0, 4, 4))


def read_poses(poses: Path, calibration: Path) -> NDArray[np.float64]:
    """Sensor-to-world poses (frames, 4, 4) in metres, by frame number.

    `poses.txt` holds the left camera's pose P of every frame and `calib.txt` the line Tr, sensor to camera. The sensor's
    pose is Tr^-1 P Tr.

    Raises:
        DataError: if a line is not a 3 x 4 matrix of finite numbers, naming the file and the line.
    """
    cameras = _matrices(poses)
    calibrations = _matrices(calibration, "Tr:") if calibration.is_file() else []
    transform = calibrations[-1] if calibrations else np.eye(4)
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            inverse = np.linalg.inv(transform)
        if not np.abs(inverse).max() <= LARGEST_POSE:  # the inverse of a nearly singular matrix
            raise np.linalg.LinAlgError
    except np.linalg.LinAlgError as error:
        raise DataError("Tr has no inverse", where=calibration, remedy="Copy the file again.") from error
    return inverse @ np.stack(cameras) @ transform if cameras else np.empty((0, 4, 4))


def _matrices(path: Path, prefix: str = "") -> list[NDArray[np.float64]]:
    """The 3 x 4 matrices of the lines that begin with `prefix`, as (4, 4); empty lines are skipped."""
    lines = enumerate(_lines(path), start=1)
    return [
        _matrix(line.removeprefix(prefix), f"{path}:{number}")
        for number, line in lines
        if line.strip() and line.startswith(prefix)
    ]


def _matrix(line: str, where: str) -> NDArray[np.float64]:
    try:
        values = np.array([float(value) for value in line.split()]).reshape(3, 4)
    except ValueError as error:
        what = f"the line is not a 3 x 4 matrix ({line.strip()[:40]!r})"
        raise DataError(what, where=where, remedy="Copy the file again.") from error
    # coordinates beyond this are not metres, and their products may overflow
    if not (np.abs(values) <= LARGEST_POSE).all():
        what = f"the matrix has a value that is not finite or too large ({line.strip()[:40]!r})"
        raise DataError(what, where=where, remedy="Copy the file again.")
    return np.vstack([values, [0.0, 0.0, 0.0, 1.0]])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not a text file ({error})", where=path, remedy="Copy the file again.") from error
