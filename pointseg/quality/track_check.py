"""Check a sequence's poses.txt, calib.txt and times.txt.

poses.txt: the camera's pose of each frame, 3 x 4 row by row, metres. calib.txt: "NAME: 12 numbers", Tr from the sensor to
the camera. times.txt: seconds, one a frame. A selection of frames usually has more poses than scans.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.data.checks.findings import Finding, shown

__all__ = ["TRACKS", "check_tracks"]

TRACKS = ("poses", "calib", "times")
COPY_AGAIN = "Copy the file again from its source."
RIGID = 1e-3  # how far R R^T may be from the identity
FASTEST = 100.0  # metres a second: 10 m between frames of a sensor that rotates ten times a second
FRAME_SECONDS = 0.1  # unless times.txt says otherwise


class _Fault(Exception):
    """What is wrong with a file: kind, sentence."""


@np.errstate(all="ignore")  # a file may hold any number; the results are compared, and NaN fails
def check_tracks(files: Mapping[str, Path], folder: Path, last_frame: int) -> list[Finding]:
    """What is wrong with the text files of a sequence.

    Args:
        files: "poses", "calib", "times" -> path, of those that exist.
        folder: of the sequence.
        last_frame: the highest frame number of its scans; -1 if there is none.
    """
    findings: list[Finding] = []
    values: dict[str, NDArray[np.float64]] = {}
    step = FRAME_SECONDS
    for kind in ("times", "calib", "poses"):
        if kind not in files:
            continue
        try:
            if kind == "times":
                times = values[kind] = _rows(files[kind], 1)[:, 0]
                ascending = np.diff(times)
                if (ascending > 0).any():
                    step = float(np.median(ascending[ascending > 0]))
                _check_times(times)
            elif kind == "calib":
                _check_calibration(files[kind])
            else:
                values[kind] = _rows(files[kind], 12)
                _check_poses(values[kind].reshape(-1, 3, 4), step)
            if kind in values and len(values[kind]) <= last_frame:
                raise _Fault("too short", f"{len(values[kind])} lines, but frame {last_frame} needs {last_frame + 1}")
        except _Fault as fault:
            findings.append(Finding("error", fault.args[0], shown(files[kind]), fault.args[1], COPY_AGAIN))
            values.pop(kind, None)
    if len(values.get("poses", ())) != len(values.get("times", ())) and {"poses", "times"} <= set(values):
        shorter, longer = sorted(("poses", "times"), key=lambda kind: len(values[kind]))
        what, other = f"{len(values[shorter])} lines, but {longer}.txt has {len(values[longer])}", shown(files[longer])
        findings.append(Finding("error", "too short", shown(files[shorter]), what, "Copy both files again.", other))
    if "poses" in files and not os.path.lexists(folder / "calib.txt"):
        what = "there are poses but no calibration: they are used as the sensor's own"
        remedy = "Copy calib.txt, unless poses.txt really holds the sensor's poses."
        findings.append(Finding("warning", "missing file", shown(folder / "calib.txt"), what, remedy))
    return findings


def _text(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise _Fault("not text", f"not a text file (byte {error.start})") from error
    except OSError as error:
        raise _Fault("unreadable", f"cannot be read ({error.strerror})") from error


def _numbers(words: list[str], line: int, count: int) -> list[float]:
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count:
        wanted = "one number" if count == 1 else f"{count} numbers"
        raise _Fault("not numbers", f"line {line} is not {wanted} ({' '.join(words)[:40]!r})")
    return values


def _finite(rows: NDArray[np.float64], lines: list[int]) -> NDArray[np.float64]:
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise _Fault("not finite", f"line {lines[bad[0]]} holds a value that is NaN or infinite")
    return rows


def _rows(path: Path, count: int) -> NDArray[np.float64]:
    """(lines, count) numbers; empty lines are left out."""
    lines = [(number, words) for number, line in enumerate(_text(path), start=1) if (words := line.split())]
    if not lines:
        raise _Fault("empty file", "the file is empty")
    rows = np.array([_numbers(words, number, count) for number, words in lines], np.float64)
    return _finite(rows, [number for number, _ in lines])


def _check_times(times: NDArray[np.float64]) -> None:
    back = np.flatnonzero(~(np.diff(times) > 0))
    if len(back):
        line = int(back[0]) + 2
        what = f"times do not ascend at line {line} ({times[line - 2]:g}, then {times[line - 1]:g})"
        raise _Fault("not ascending", what)


def _not_rigid(rotations: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(n,) which of (n, 3, 3) are not rotations."""
    off = np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    return ~((off <= RIGID) & (np.linalg.det(rotations) > 0))


def _check_poses(poses: NDArray[np.float64], step: float) -> None:
    """poses (n, 3, 4), `step` seconds apart."""
    bent = np.flatnonzero(_not_rigid(poses[:, :, :3]))
    if len(bent):
        raise _Fault("not rigid", f"line {bent[0] + 1} is not a rotation and a shift ({len(bent)} such lines)")
    moved = np.linalg.norm(np.diff(poses[:, :, 3], axis=0), axis=1)
    jumps = np.flatnonzero(~(moved <= FASTEST * step))
    if len(jumps):
        line = int(jumps[0]) + 2
        raise _Fault("jump", f"the pose jumps by {moved[line - 2]:.4g} m to line {line}, in {step:.3g} s")


def _check_calibration(path: Path) -> None:
    found = False
    for number, line in enumerate(_text(path), start=1):
        name, colon, rest = line.partition(":")
        name = name.strip()
        if not colon or not (name == "Tr" or (len(name) == 2 and name[0] == "P" and name[1].isdigit())):
            continue  # other lines are not read
        values = _finite(np.array([_numbers(rest.split(), number, 12)]), [number])
        if name == "Tr":
            found = True
            if _not_rigid(values.reshape(1, 3, 4)[:, :, :3])[0]:
                raise _Fault("not rigid", f"Tr in line {number} is not a rotation and a shift")
    if not found:
        raise _Fault("no Tr", "there is no line Tr, from the sensor to the camera")
