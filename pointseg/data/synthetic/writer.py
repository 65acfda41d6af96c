"""Synthetic scans in SemanticKITTI's layout, so that everything made for the real data set works on them.

OUTPUT/sequences/SS/velodyne/FFFFFF.bin   labels/FFFFFF.label   calib.txt   poses.txt   times.txt
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.data.synthetic.scans import FRAME_STEP, check_count, sequence_lengths
from pointseg.data.synthetic.world import FRAME_SECONDS, SyntheticWorld
from pointseg.errors import OutputError
from pointseg.files import whole_file

__all__ = ["TR", "write_sequences"]

SCANS_PER_TASK = 9
WORTH_PROCESSES = 60  # scans; below this, starting processes takes longer than it saves

# Sensor to camera 0: the camera looks forward with x right, y down, and sits before and below the sensor, as in KITTI.
TR = np.array([[0, -1, 0, -0.012], [0, 0, -1, -0.054], [1, 0, 0, -0.292], [0, 0, 0, 1]], np.float64)
PROJECTION = np.array([[718.856, 0, 607.193, 0], [0, 718.856, 185.216, 0], [0, 0, 1, 0]], np.float64)


@dataclass(frozen=True)
class _Task:
    """Scans first..last-1 of one sequence."""

    output: Path
    seed: int
    beams: int
    azimuth_steps: int
    frame_step: int
    label_range: float | None
    sequence: int
    first: int
    last: int


def write_sequences(
    output: Path,
    scans: int,
    seed: int,
    beams: int = 64,
    azimuth_steps: int = 2000,
    progress: Callable[[int, int], None] | None = None,
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
        scans: how many in all.
        seed: of the world.
        beams, azimuth_steps: of the sensor, see `Sensor`.
        progress: called with (scans written, scans in all) as it goes on.
        frame_step: turns of the sensor (10 a second) between two scans.
        label_range: see `SyntheticScans`.
        processes: None takes all cores when there is enough to do; the files do not depend on it. As always with
            processes, a script that calls this guards its own start with `if __name__ == "__main__":`.

    Returns:
        The paths of the `.bin` files, in order.

    Raises:
        ConfigError: for counts below 1, or a sensor that does not exist.
        OutputError: if the folder cannot be written, or holds scans of something else.

    Example:
        >>> write_sequences(Path("data/synthetic"), scans=200, seed=0)  # doctest: +SKIP
    """
    check_count(scans, "scans")
    check_count(frame_step, "frame_step")
    world = SyntheticWorld(seed, beams, azimuth_steps, label_range)  # refuses a wrong sensor before anything is written
    lengths = sequence_lengths(scans)
    paths = [
        _folder(output, sequence) / "velodyne" / f"{i:06d}.bin"
        for sequence in sorted(lengths)
        for i in range(lengths[sequence])
    ]
    try:
        _refuse_strangers(output, set(paths))
        for sequence, length in lengths.items():
            _write_frame_files(output, world, sequence, length, frame_step)
        tasks = [
            _Task(
                output,
                seed,
                beams,
                azimuth_steps,
                frame_step,
                label_range,
                sequence,
                first,
                min(first + SCANS_PER_TASK, length),
            )
            for sequence, length in lengths.items()
            for first in range(0, length, SCANS_PER_TASK)
        ]
        _run(tasks, scans, progress, processes)
    except OSError as error:
        raise OutputError(
            f"the data set cannot be written ({error.strerror or error})",
            where=error.filename or output,
            remedy="Check the folder's permissions and the space that is left.",
        ) from error
    return paths


def _folder(output: Path, sequence: int) -> Path:
    return Path(output) / "sequences" / f"{sequence:02d}"


def _refuse_strangers(output: Path, own: set[Path]) -> None:
    """Scans that this call would not replace would be mixed with those that it writes."""
    for path in sorted(Path(output).glob("sequences/*/velodyne/*.bin")):
        if path not in own:
            raise OutputError(
                "the folder holds other scans",
                where=path,
                remedy="Give an empty folder, or remove its sequences/ first.",
            )


def _run(tasks: list[_Task], scans: int, progress: Callable[[int, int], None] | None, processes: int | None) -> None:
    """Do the tasks, in processes if that is worth it."""
    if processes is None:
        # inside another process's worker, more processes would compete with its siblings
        alone = multiprocessing.parent_process() is not None or scans < WORTH_PROCESSES
        processes = 1 if alone else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    done = 0

    def report(task: _Task) -> None:
        nonlocal done
        done += task.last - task.first
        if progress is not None:
            progress(done, scans)

    left = dict.fromkeys(tasks)
    if processes and processes > 1 and len(tasks) > 1:
        try:
            context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
            with ProcessPoolExecutor(min(processes, len(tasks)), mp_context=context) as pool:
                futures = {pool.submit(_write_scans, task): task for task in tasks}
                for future in as_completed(futures):
                    future.result()
                    del left[futures[future]]
                    report(futures[future])
        except BrokenProcessPool:  # no processes to be had here: the rest is done in this one
            pass
    for task in left:
        _write_scans(task)
        report(task)


def _write_scans(task: _Task) -> None:
    world = SyntheticWorld(task.seed, task.beams, task.azimuth_steps, task.label_range)
    folder = _folder(task.output, task.sequence)
    for i in range(task.first, task.last):
        scan = world.scan(task.sequence, i * task.frame_step)
        if scan.labels is not None:
            _write(folder / "labels" / f"{i:06d}.label", scan.labels.astype("<u4").tobytes())
        _write(folder / "velodyne" / f"{i:06d}.bin", scan.points.astype("<f4").tobytes())


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.12e}" for value in values.reshape(-1))


def _write_frame_files(output: Path, world: SyntheticWorld, sequence: int, length: int, frame_step: int) -> None:
    """calib.txt, poses.txt and times.txt."""
    folder = _folder(output, sequence)
    for name in ("velodyne", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    poses = [TR @ world.pose(sequence, i * frame_step) @ np.linalg.inv(TR) for i in range(length)]
    calibration = [f"P{i}: {_numbers(PROJECTION)}" for i in range(4)] + [f"Tr: {_numbers(TR[:3])}"]
    times = [f"{i * frame_step * FRAME_SECONDS:.6e}" for i in range(length)]
    for name, lines in (
        ("calib.txt", calibration),
        ("poses.txt", [_numbers(pose[:3]) for pose in poses]),
        ("times.txt", times),
    ):
        _write(folder / name, ("\n".join(lines) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    with whole_file(path) as beside:
        beside.write_bytes(content)
