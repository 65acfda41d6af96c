"""Reading one frame of a raw folder, its scan and its label file, and saying all that can be said of it. Runs in processes.

Legend: K classes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.data.checking import Finding, ScanCheck, shown
from pointseg.data.layout_check import RawFile
from pointseg.data.manifest import file_sha256
from pointseg.data.scan import COLUMNS, read_labels, read_points
from pointseg.errors import PointsegError

__all__ = ["FrameFiles", "FrameReader", "Seen", "read_frames"]

WORTH_PROCESSES = 200  # scans; below this, starting processes takes longer than it saves
IN_FLIGHT = 8  # frames for each worker: bounds memory
Range = tuple[float, float]


@dataclass(frozen=True)
class FrameFiles:
    """The scan and the label file of one frame; None where there is none."""

    scan: RawFile | None
    labels: RawFile | None


@dataclass(frozen=True)
class Seen:
    """What reading a frame gave.

    Attributes:
        findings: about its files, each by itself.
        ranges: lowest and highest x, y, z (metres) and remission; None if the scan cannot be read.
        class_counts: (K + 1,) points by training id; None without labels that can be read and are known.
        scan_sha256, labels_sha256: None where there is no such file.
        one_label: whether all its labels are the same, as where nothing is labelled.
    """

    findings: tuple[Finding, ...]
    ranges: tuple[Range, ...] | None = None
    class_counts: NDArray[np.int64] | None = None
    scan_sha256: str | None = None
    labels_sha256: str | None = None
    one_label: bool = False


@dataclass(frozen=True)
class FrameReader:
    """How frames are read: the check, columns of a point, what remission is divided by."""

    check: ScanCheck
    columns: int
    remission_scale: float

    def __call__(self, frame: FrameFiles) -> Seen:
        """Never raises: whatever a file provokes is a finding about it. Sizes that cannot be right are known already."""
        findings: list[Finding] = []
        ranges = counts = None
        digests: dict[str, str | None] = {}
        one_label = False
        for file in (frame.scan, frame.labels):
            if file is None:
                continue
            try:
                digests[file.kind] = file_sha256(file.path)
                if file.records is None:
                    continue
                if file.kind == "scan":
                    ranges = self._scan(file.path, findings)
                else:
                    counts, one_label = self._labels(file.path, findings)
            except PointsegError as error:
                findings.append(self.check.refused(error, file.path, self.columns))
            except (OSError, ValueError, MemoryError) as error:
                what = f"cannot be read ({getattr(error, 'strerror', None) or type(error).__name__})"
                findings.append(
                    Finding("error", "unreadable", shown(file.path), what, "Copy it again from its source.")
                )
        return Seen(tuple(findings), ranges, counts, digests.get("scan"), digests.get("labels"), one_label)

    def _scan(self, path: Path, findings: list[Finding]) -> tuple[Range, ...]:
        points = read_points(path, self.columns)
        if self.remission_scale != 1.0:
            points[:, 3] /= self.remission_scale
        findings += self.check.look_at_points(points, os.fspath(path), self.columns)
        axis, ranges = np.empty(len(points), np.float32), []
        for number in range(len(COLUMNS)):
            np.copyto(axis, points[:, number])  # column by column is twenty times as fast as across rows
            ranges.append((float(axis.min()), float(axis.max())))
        return tuple(ranges)

    def _labels(self, path: Path, findings: list[Finding]) -> tuple[NDArray[np.int64] | None, bool]:
        labels = read_labels(path)
        found, counts = self.check.look_at_labels(labels, os.fspath(path))
        findings += found
        return counts, bool((labels == labels[0]).all())


_reader: FrameReader | None = None  # of a worker process


def _start_worker(reader: FrameReader) -> None:
    global _reader
    _reader = reader


def _read_one(frame: FrameFiles) -> Seen:
    assert _reader is not None
    return _reader(frame)


def read_frames(reader: FrameReader, frames: Sequence[FrameFiles], processes: int | None = None) -> Iterator[Seen]:
    """What each frame gave, in order; a bounded number in flight.

    Args:
        reader: how.
        frames: which.
        processes: None takes all cores, as threads where processes are not worth their start; 1 works in this thread.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    workers = cores if processes is None else max(1, processes)
    done = 0
    if processes is None and (len(frames) < WORTH_PROCESSES or multiprocessing.parent_process() is not None):
        with ThreadPoolExecutor(workers) as pool:
            yield from _in_order(pool, reader, frames, workers)
        return
    if workers > 1 and len(frames) > 1:
        context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold
        with ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(reader,)) as processing:
            try:
                for seen in _in_order(processing, _read_one, frames, workers):
                    yield seen
                    done += 1
            except BrokenProcessPool:  # ended from outside: the rest is done in this process
                pass
    yield from map(reader, frames[done:])


def _in_order(
    pool: Executor, read: Callable[[FrameFiles], Seen], frames: Sequence[FrameFiles], workers: int
) -> Iterator[Seen]:
    waiting: deque[Future[Seen]] = deque()
    try:
        for frame in frames:
            waiting.append(pool.submit(read, frame))
            if len(waiting) >= IN_FLIGHT * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
