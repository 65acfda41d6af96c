"""Writes synthetic scans in SemanticKITTI's layout, so that everything made for the real data set works on them.

OUTPUT/sequences/SS/velodyne/FFFFFF.bin   labels/FFFFFF.label   calib.txt   poses.txt   times.txt
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import OutputError
from pointseg.core.files import whole_file, write_text
from pointseg.core.processes import in_processes, is_worker, usable_cores
from pointseg.core.progress import Update
from pointseg.data.synthetic.scans import FRAME_STEP, SyntheticSequences, sequence_lengths
from pointseg.data.synthetic.world import FRAME_SECONDS, SyntheticWorld

__all__ = ["TR", "write_sequences"]

SCANS_PER_TASK = 9
WORTH_PROCESSES = 60  # scans; for fewer, starting processes takes longer than it saves

# Sensor to camera 0: the camera looks forward with x right and y down, in front of and below the sensor, as in KITTI.
TR = np.array([[0, -1, 0, -0.012], [0, 0, -1, -0.054], [1, 0, 0, -0.292], [0, 0, 0, 1]], np.float64)
PROJECTION = np.array([[718.856, 0, 607.193, 0], [0, 718.856, 185.216, 0], [0, 0, 1, 0]], np.float64)


def write_sequences(
    output: Path,
    scans: int,
    seed: int,
    beams: int = 64,
    azimuth_steps: int = 2000,
    progress: Update | None = None,
    *,
    frame_step: int = FRAME_STEP,
    label_range: float | None = 50.0,
    processes: int | None = None,
) -> list[Path]:
    """Write scans, labels, poses, times and calibration as `output`/sequences/00 to 10.

    File i of sequence S is frame i * frame_step of street S. `poses.txt` holds camera 0 relative to its first place,
    so that Tr^-1 P Tr is the scan's pose.

    Args:
        output: the data set's folder; made if missing.
        scans, seed, beams, azimuth_steps, frame_step, label_range: see `SyntheticSequences`.
        progress: called with (scans written, scans in all).
        processes: None takes all cores if that is worth it; the files do not depend on it. As always with processes, a
            script that calls this guards its own start with `if __name__ == "__main__":`.

    Returns:
        The paths of the `.bin` files, in order.

    Raises:
        ConfigError: for counts below 1, or a sensor that does not exist.
        OutputError: if the folder cannot be written, or holds other scans.

    Example:
        >>> write_sequences(Path("data/synthetic"), scans=200, seed=0)  # doctest: +SKIP
    """
    source = SyntheticSequences(scans, seed, beams, azimuth_steps, label_range, frame_step)
    if processes is None:
        processes = 1 if scans < WORTH_PROCESSES or is_worker() else usable_cores()
    writer, done = _Writer(source, Path(output) / "sequences"), 0
    try:
        paths = writer.paths
        _refuse_other_scans(Path(output), set(paths))
        for sequence, length in sequence_lengths(scans).items():
            _write_sequence_files(writer.folder / f"{sequence:02d}", source.world, sequence, length, frame_step)
        tasks = [range(first, min(first + SCANS_PER_TASK, scans)) for first in range(0, scans, SCANS_PER_TASK)]
        for written in in_processes(writer, tasks, max(1, processes), finish_here=True):
            done += written
            if progress is not None:
                progress(done, scans)
    except OSError as error:
        raise OutputError(
            f"the data set cannot be written ({error.strerror or error})",
            where=error.filename or output,
            remedy="Check the folder's permissions and the space that is left.",
        ) from error
    return paths


@dataclass(frozen=True)
class _Writer:
    """Writes scans by their numbers; sent to the processes."""

    source: SyntheticSequences
    folder: Path

    @property
    def paths(self) -> list[Path]:
        """The `.bin` file of each scan."""
        names = (name.split("/") for name in self.source.names)
        return [self.folder / sequence / "velodyne" / f"{frame}.bin" for sequence, frame in names]

    def __call__(self, numbers: range) -> int:
        paths = self.paths
        for number in numbers:
            scan, path = self.source[number], paths[number]
            if scan.labels is not None:
                _write(path.parents[1] / "labels" / f"{path.stem}.label", scan.labels.astype("<u4"))
            _write(path, scan.points.astype("<f4"))
        return len(numbers)


def _refuse_other_scans(output: Path, own: set[Path]) -> None:
    """Scans that this call would not replace would be mixed with those that it writes."""
    for path in sorted(output.glob("sequences/*/velodyne/*.bin")):
        if path not in own:
            raise OutputError(
                "the folder holds other scans",
                where=path,
                remedy="Give an empty folder, or remove its sequences/ first.",
            )


def _write(path: Path, array: NDArray[np.generic]) -> None:
    with whole_file(path) as temporary:
        array.tofile(temporary)


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.12e}" for value in values.reshape(-1))


def _write_sequence_files(folder: Path, world: SyntheticWorld, sequence: int, length: int, frame_step: int) -> None:
    """calib.txt, poses.txt and times.txt."""
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    poses = [(TR @ world.pose(sequence, i * frame_step) @ np.linalg.inv(TR))[:3] for i in range(length)]
    calibration = [f"P{i}: {_numbers(PROJECTION)}" for i in range(4)] + [f"Tr: {_numbers(TR[:3])}"]
    times = [f"{i * frame_step * FRAME_SECONDS:.6e}" for i in range(length)]
    for name, lines in {"calib.txt": calibration, "poses.txt": map(_numbers, poses), "times.txt": times}.items():
        write_text(folder / name, "\n".join(lines) + "\n")
