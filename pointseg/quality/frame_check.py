"""Read the frames of a raw folder, each a scan and a label file, in parallel, and report every fault of a file.

Legend: K classes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import PointsegError
from pointseg.core.processes import in_processes, is_worker, usable_cores
from pointseg.data.checks.findings import Finding, shown
from pointseg.data.checks.scan_check import ScanCheck
from pointseg.data.scan import COLUMNS, read_labels, read_points
from pointseg.data.sources import in_order
from pointseg.quality.layout_check import RawFile
from pointseg.quality.manifest import file_sha256

__all__ = ["FrameFiles", "FrameReader", "FrameResult", "read_frames"]

WORTH_PROCESSES = 200  # scans; with fewer, starting processes takes longer than it saves
Range = tuple[float, float]


@dataclass(frozen=True)
class FrameFiles:
    """The scan and the label file of one frame; None for a missing file."""

    scan: RawFile | None
    labels: RawFile | None


@dataclass(frozen=True)
class FrameResult:
    """The result of reading a frame.

    Attributes:
        findings: about each of its files by itself.
        ranges: lowest and highest x, y, z (metres) and remission; None if the scan cannot be read.
        class_counts: (K + 1,) points by training id; None without readable labels whose ids are known.
        scan_sha256, labels_sha256: None for a missing file.
        one_label: whether all labels are the same, as in an unlabelled frame.
    """

    findings: tuple[Finding, ...]
    ranges: tuple[Range, ...] | None = None
    class_counts: NDArray[np.int64] | None = None
    scan_sha256: str | None = None
    labels_sha256: str | None = None
    one_label: bool = False


@dataclass(frozen=True)
class FrameReader:
    """Reads frames: the check, the columns of a point, and what remission is divided by."""

    check: ScanCheck
    columns: int
    remission_scale: float

    def __call__(self, frame: FrameFiles) -> FrameResult:
        """Never raises: every error of a file is a finding about it. Wrong sizes were reported before."""
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
                remedy = "Copy it again from its source."
                findings.append(Finding("error", "unreadable", shown(file.path), what, remedy))
        return FrameResult(tuple(findings), ranges, counts, digests.get("scan"), digests.get("labels"), one_label)

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
        label_findings, counts = self.check.look_at_labels(labels, os.fspath(path))
        findings += label_findings
        return counts, bool((labels == labels[0]).all())


def read_frames(
    reader: FrameReader, frames: Sequence[FrameFiles], processes: int | None = None
) -> Iterator[FrameResult]:
    """The result of each frame, in order, with a bounded number in flight.

    Args:
        processes: None uses all cores, with threads if processes are not worth starting; 1 works in this thread.
    """
    workers = usable_cores() if processes is None else max(1, processes)
    if processes is None and (len(frames) < WORTH_PROCESSES or is_worker()):
        yield from in_order(lambda number: reader(frames[number]), len(frames), workers)
    else:
        yield from in_processes(reader, frames, workers, finish_here=True)
