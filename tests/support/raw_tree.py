"""A raw data set in SemanticKITTI's layout that nothing is wrong with, and every way in which a test damages it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TRANSFORM = "0 -1 0 0.1 0 0 -1 -0.2 1 0 0 0.3"
IDS = np.array([0, 10, 40, 48, 50, 70, 72, 252], np.uint32)
# points of each frame; frames 1 and 2 of sequence 00 are equally long
LENGTHS = {"00": {0: 520, 1: 480, 2: 480, 3: 505, 4: 498, 5: 511}, "08": {0: 530, 5: 541, 10: 500, 15: 489}}


@dataclass(frozen=True)
class RawTree:
    """A data set and its files."""

    root: Path

    def sequence(self, name: str) -> Path:
        return self.root / "sequences" / name

    def scan(self, frame: int, sequence: str = "00") -> Path:
        return self.sequence(sequence) / "velodyne" / f"{frame:06d}.bin"

    def labels(self, frame: int, sequence: str = "00") -> Path:
        return self.sequence(sequence) / "labels" / f"{frame:06d}.label"

    def points(self, frame: int, sequence: str = "00") -> NDArray[np.float32]:
        return np.fromfile(self.scan(frame, sequence), "<f4").reshape(-1, 4)


def write_raw_tree(root: Path) -> RawTree:
    """Two sequences, frames 0 to 5 and 0, 5, 10, 15, with labels, poses of more frames, calibration and times."""
    tree = RawTree(root)
    for sequence, lengths in LENGTHS.items():
        (tree.sequence(sequence) / "velodyne").mkdir(parents=True)
        (tree.sequence(sequence) / "labels").mkdir()
        for frame, count in lengths.items():
            random = np.random.default_rng(1000 * int(sequence) + frame)
            points = random.uniform([2, 2, 0.5, 0], [40, 40, 3, 1], (count, 4)).astype("<f4")
            points[:, :3] *= random.choice([-1, 1], (count, 3))
            points[:, 3] = random.integers(10, 90, count).astype("<f4") / np.float32(100)
            labels = random.choice(IDS, count).astype("<u4")
            labels[labels == 10] |= np.uint32(7 << 16)  # objects have a number
            points.tofile(tree.scan(frame, sequence))
            labels.tofile(tree.labels(frame, sequence))
        folder, frames = tree.sequence(sequence), range(20)
        (folder / "poses.txt").write_text("".join(f"1 0 0 0 0 1 0 0.1 0 0 1 {frame}\n" for frame in frames))
        (folder / "times.txt").write_text("".join(f"{0.1 * frame:.6e}\n" for frame in frames))
        (folder / "calib.txt").write_text(f"P0: 7 0 6 0 0 7 2 0 0 0 1 0\nTr: {TRANSFORM}\n")
    return tree


# ---- damages ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """One kind of damage.

    Attributes:
        name: of its row in docs/data_checks.md.
        apply: damages a tree and gives the files that are damaged.
        bare: what the files show without a manifest: "yes" (an error that names those files and no other), "pair" (an
            error that names two files, one of them damaged), "warning", or "no".
        named: what bare files name, if that is not all that is damaged.
    """

    name: str
    apply: Callable[[RawTree], set[Path]]
    bare: str = "yes"
    named: Callable[[RawTree], set[Path]] | None = None


def cut(path: Callable[[RawTree], Path], size: Callable[[int], int]) -> Callable[[RawTree], set[Path]]:
    """Keep the first `size(bytes)` bytes; zero bytes follow where that is more than there are."""

    def apply(tree: RawTree) -> set[Path]:
        file = path(tree)
        os.truncate(file, size(file.stat().st_size))
        return {file}

    return apply


def scan(tree: RawTree) -> Path:
    return tree.scan(3)


def label(tree: RawTree) -> Path:
    return tree.labels(3)


def flip(column: int, bit: int, least: float = 0.0) -> Callable[[RawTree], set[Path]]:
    """Flip a bit of one value, of at least this size, in a scan."""

    def apply(tree: RawTree) -> set[Path]:
        values = np.fromfile(scan(tree), "<u4").reshape(-1, 4)
        row = int(np.flatnonzero(np.abs(values.view("<f4")[:, column]) >= least)[100])
        values[row, column] ^= np.uint32(1 << bit)
        values.tofile(scan(tree))
        return {scan(tree)}

    return apply


def points(change: Callable[[NDArray[np.float32]], NDArray[np.generic]]) -> Callable[[RawTree], set[Path]]:
    """Write what `change` makes of the points of a scan."""

    def apply(tree: RawTree) -> set[Path]:
        change(tree.points(3)).tofile(scan(tree))
        return {scan(tree)}

    return apply


def put(value: float, rows: slice = slice(100, 101), columns: slice = slice(0, 1)) -> Callable[[RawTree], set[Path]]:
    """Put a value into some rows and columns of a scan."""

    def change(values: NDArray[np.float32]) -> NDArray[np.float32]:
        values[rows, columns] = value
        return values

    return points(change)


def labels(change: Callable[[NDArray[np.uint32]], NDArray[np.generic]]) -> Callable[[RawTree], set[Path]]:
    """Write what `change` makes of the labels of a scan."""

    def apply(tree: RawTree) -> set[Path]:
        change(np.fromfile(label(tree), "<u4")).tofile(label(tree))
        return {label(tree)}

    return apply


def put_label(value: int) -> Callable[[RawTree], set[Path]]:
    def change(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        at = int(np.flatnonzero(values == 40)[0])
        values[at] = value
        return values

    return labels(change)


def swap(kind: str, one: int, other: int) -> Callable[[RawTree], set[Path]]:
    def apply(tree: RawTree) -> set[Path]:
        first, second = getattr(tree, kind)(one), getattr(tree, kind)(other)
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)
        return {first, second}

    return apply


def copy(kind: str, source: int, target: int) -> Callable[[RawTree], set[Path]]:
    def apply(tree: RawTree) -> set[Path]:
        file: Path = getattr(tree, kind)(target)
        file.write_bytes(getattr(tree, kind)(source).read_bytes())
        return {file}

    return apply


def remove(*paths: Callable[[RawTree], Path]) -> Callable[[RawTree], set[Path]]:
    def apply(tree: RawTree) -> set[Path]:
        files = {path(tree) for path in paths}
        for file in files:
            file.unlink()
        return files

    return apply


def create(path: Callable[[RawTree], Path], content: bytes) -> Callable[[RawTree], set[Path]]:
    def apply(tree: RawTree) -> set[Path]:
        path(tree).write_bytes(content)
        return {path(tree)}

    return apply


def folder(path: Callable[[RawTree], Path]) -> Callable[[RawTree], set[Path]]:
    def apply(tree: RawTree) -> set[Path]:
        path(tree).unlink()
        path(tree).mkdir()
        return {path(tree)}

    return apply


def dangling(tree: RawTree) -> set[Path]:
    scan(tree).unlink()
    scan(tree).symlink_to(tree.root / "gone")
    return {scan(tree)}


def renamed(tree: RawTree) -> set[Path]:
    new = scan(tree).with_name("00000x.bin")
    scan(tree).rename(new)
    return {scan(tree), new}


def strange_name(tree: RawTree) -> set[Path]:
    path = os.fsencode(scan(tree).parent) + b"/0000\xff\n.bin"
    with open(path, "wb") as file:
        file.write(bytes(160))
    return {Path(os.fsdecode(path))}


def extra_frame(sequence: str, frame: int) -> Callable[[RawTree], set[Path]]:
    """A scan and its labels, as good as the others."""

    def apply(tree: RawTree) -> set[Path]:
        values, ids = tree.points(0, sequence), np.fromfile(tree.labels(0, sequence), "<u4")
        values[:, :2] *= np.float32(0.9)
        values.tofile(tree.scan(frame, sequence))
        ids[::-1].tofile(tree.labels(frame, sequence))
        return {tree.scan(frame, sequence), tree.labels(frame, sequence)}

    return apply


def text(name: str, change: Callable[[list[str]], list[str]]) -> Callable[[RawTree], set[Path]]:
    """Change the lines of a text file of sequence 00."""

    def apply(tree: RawTree) -> set[Path]:
        path = tree.sequence("00") / name
        path.write_text("".join(f"{line}\n" for line in change(path.read_text().splitlines())))
        return {path}

    return apply


def line(number: int, content: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:number], content, *lines[number + 1 :]]


DAMAGES = [
    Damage("scan: its last byte is missing", cut(scan, lambda size: size - 1)),
    Damage("scan: cut off after 1 byte", cut(scan, lambda size: 1)),
    Damage("scan: cut off after 15 bytes", cut(scan, lambda size: 15)),
    Damage("scan: cut off within a record in the middle", cut(scan, lambda size: size // 32 * 16 + 7)),
    Damage("scan: one whole record less", cut(scan, lambda size: size - 16)),
    Damage("scan: cut off after whole records in the middle", cut(scan, lambda size: size // 48 * 16)),
    Damage("scan: one record left", cut(scan, lambda size: 16)),
    Damage("scan: empty", cut(scan, lambda size: 0)),
    Damage("scan: goes on with zero bytes", cut(scan, lambda size: size + 4096)),
    Damage("scan: a lost block of 1,024 zero bytes", put(0, slice(100, 164), slice(0, 4))),
    Damage("scan: all bytes zero", put(0, slice(None), slice(0, 4))),
    Damage("scan: all points the same", put(5, slice(None), slice(0, 3))),
    Damage("scan: NaN", put(np.nan)),
    Damage("scan: infinite", put(-np.inf, columns=slice(3, 4))),
    Damage("scan: x beyond every sensor", put(4000)),
    Damage("scan: highest exponent bit of x flipped", flip(0, 30, 2)),
    Damage("scan: an upper exponent bit of x flipped", flip(0, 27, 2)),
    Damage("scan: lowest exponent bit of x flipped (x doubled or halved)", flip(0, 23), "no"),
    Damage("scan: sign of x flipped", flip(0, 31), "no"),
    Damage("scan: lowest bit of x flipped", flip(0, 0), "no"),
    Damage("scan: highest exponent bit of z flipped", flip(2, 30, 2)),
    Damage("scan: sign of z flipped", flip(2, 31), "no"),
    Damage("scan: lowest bit of z flipped", flip(2, 0), "no"),
    Damage("scan: sign of remission flipped", flip(3, 31)),
    Damage("scan: an exponent bit of remission flipped", flip(3, 26)),
    Damage("scan: lowest bit of remission flipped", flip(3, 0)),
    Damage("scan: remission in 0 to 255", points(lambda p: p * np.array([1, 1, 1, 255], "<f4"))),
    Damage("scan: written as 64-bit floats", points(lambda p: p.astype("<f8"))),
    Damage("scan: written big-endian", points(lambda p: p.astype(">f4"))),
    Damage("scan: written as whole millimetres", points(lambda p: (1000 * np.abs(p)).astype("<i4"))),
    Damage("scan: without remission", points(lambda p: p[:-1, :3])),
    Damage("scan: a web page in its place", create(scan, b"<html><body>404 Not Found</body></html>\n" * 202)),
    Damage("scan: that of another frame, of another length", copy("scan", 0, 3)),
    Damage("scan: that of another frame, equally long", copy("scan", 1, 2), "pair"),
    Damage("scan: two of different lengths swapped", swap("scan", 3, 4), "pair"),
    Damage("scan: two of equal length swapped", swap("scan", 1, 2), "no"),
    Damage("scan: missing", remove(scan)),
    Damage("scan: the last one missing", remove(lambda tree: tree.scan(5)), "pair"),
    Damage("scan: a folder in its place", folder(scan)),
    Damage("scan: a link to nothing in its place", dangling),
    Damage("scan: renamed to 00000x.bin", renamed),
    Damage("scan: a further one whose name is no UTF-8", strange_name),
    Damage("labels: the last byte is missing", cut(label, lambda size: size - 1)),
    Damage("labels: one label less", cut(label, lambda size: size - 4)),
    Damage("labels: half of them", cut(label, lambda size: size // 8 * 4)),
    Damage("labels: one label left", cut(label, lambda size: 4)),
    Damage("labels: empty", cut(label, lambda size: 0)),
    Damage("labels: going on with zero bytes", cut(label, lambda size: size + 512)),
    Damage("labels: a bit flipped, to an unknown id", put_label(40 ^ 1 << 13)),
    Damage("labels: a bit flipped, to a known id", put_label(40 ^ 1 << 3 ^ 1 << 4), "no"),
    Damage("labels: a bit of an instance id flipped", put_label(40 | 1 << 20), "no"),
    Damage("labels: an id that is not in the map", put_label(7777)),
    Damage("labels: written as 16-bit numbers", labels(lambda ids: ids.astype("<u2")[: len(ids) // 2 * 2])),
    Damage("labels: written as 8-bit numbers", labels(lambda ids: ids.astype("u1")[: len(ids) // 4 * 4])),
    Damage("labels: written as 64-bit numbers", labels(lambda ids: ids.astype("<u8"))),
    Damage("labels: written as 32-bit floats", labels(lambda ids: (ids & 0xFFFF).astype("<f4"))),
    Damage("labels: written big-endian", labels(lambda ids: ids.astype(">u4"))),
    Damage("labels: those of another scan, of another length", copy("labels", 0, 3)),
    Damage("labels: those of another scan, equally long", copy("labels", 1, 2), "warning"),
    Damage("labels: two files of different lengths swapped", swap("labels", 3, 4), "pair"),
    Damage("labels: two files of equal length swapped", swap("labels", 1, 2), "no"),
    Damage("labels: missing", remove(label)),
    Damage("labels: one too many", create(lambda tree: tree.labels(90), bytes(400))),
    Damage("labels: a folder in place of the file", folder(label)),
    Damage("frame: missing, scan and labels", remove(scan, label), named=lambda tree: {scan(tree)}),
    Damage("frame: the last one missing", remove(lambda t: t.scan(5), lambda t: t.labels(5)), "no"),
    Damage("frame: one too many, between two", extra_frame("08", 7), named=lambda tree: {tree.scan(7, "08")}),
    Damage("frame: one too many, at the end", extra_frame("00", 6), "no"),
    Damage("poses: too short for the frames", text("poses.txt", lambda lines: lines[:4])),
    Damage("poses: fewer than times", text("poses.txt", lambda lines: lines[:-1])),
    Damage("poses: the last line cut off", cut(lambda tree: tree.sequence("00") / "poses.txt", lambda size: size - 8)),
    Damage("poses: NaN", text("poses.txt", line(3, "1 0 0 nan 0 1 0 0.1 0 0 1 3"))),
    Damage("poses: a jump", text("poses.txt", line(3, "1 0 0 0 0 1 0 0.1 0 0 1 33"))),
    Damage("poses: a low digit changed", text("poses.txt", line(3, "1 0 0 0 0 1 0 0.1 0 0 1 3.01")), "no"),
    Damage("poses: a rotation that is none", text("poses.txt", line(3, "1.1 0 0 0 0 1 0 0.1 0 0 1 3"))),
    Damage("poses: no text", create(lambda tree: tree.sequence("00") / "poses.txt", b"\xff\xfe\x00" * 99)),
    Damage("poses: missing", remove(lambda tree: tree.sequence("00") / "poses.txt"), "no"),
    Damage("calib: no line Tr", text("calib.txt", lambda lines: lines[:1])),
    Damage(
        "calib: Tr is no rotation and shift",
        text("calib.txt", line(1, TRANSFORM.replace("-1", "-2").join(["Tr: ", ""]))),
    ),
    Damage("calib: Tr of 11 numbers", text("calib.txt", line(1, "Tr: " + TRANSFORM[:-4]))),
    Damage("calib: missing", remove(lambda tree: tree.sequence("00") / "calib.txt"), "warning"),
    Damage("times: not ascending", text("times.txt", lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]])),
    Damage("times: too short for the frames", text("times.txt", lambda lines: lines[:3])),
    Damage("times: not numbers", text("times.txt", line(2, "0.2s"))),
]
