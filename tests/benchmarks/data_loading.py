"""Reading training samples: raw files, the packed store, resident records, interleaved in one process.

    python tests/benchmarks/data_loading.py DIR [--scans 12] [--points 8192] [--rounds 40] [--json FILE]

DIR holds raw scans in SemanticKITTI's layout. Every way gives what training needs of a scan: x, y, z, remission (float32) and
training ids of `points` of its points, drawn anew each time. The reference is written here: read .bin and .label, map the
labels by a look-up table, draw points by np.random.choice without repetition, as public data loaders do; `raw, Generator` is
the same with NumPy's newer generator, which draws faster. `csv` is the route of many tutorials: the scan as a CSV file, read by pandas. Ratios
are medians over interleaved rounds against the reference; one thread, files in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.data.batches import decode_batch
from pointseg.data.datasets import Draw, TrainingClouds
from pointseg.data.features import FeatureSpec
from pointseg.data.sampling import Sampling
from pointseg.data.semantickitti import SemanticKITTIScans, label_path
from pointseg.data.store import PackedScans, PackSettings, pack
from pointseg.data.store.reader import StoreTable
from pointseg.data.tables import ResidentTable

Sample = Callable[[int, int], Any]
BARE = FeatureSpec(use=("x", "y", "z", "remission"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--points", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--csv-rounds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    label_map = LabelMap.load("semantickitti")
    with tempfile.TemporaryDirectory() as folder:
        ways, rounds = prepare(arguments, label_map, Path(folder))
        seconds = measure(ways, rounds, arguments.scans)
    report(seconds, arguments)


def prepare(
    arguments: argparse.Namespace, label_map: LabelMap, folder: Path
) -> tuple[dict[str, Sample], dict[str, int]]:
    """The ways to a sample, and how often each is timed."""
    source = SemanticKITTIScans(arguments.root, None, labelled=None)
    files, points = source.files[: arguments.scans], arguments.points
    began = time.perf_counter()
    result = pack(source, folder / "store", label_map, PackSettings(), processes=1)
    seconds = time.perf_counter() - began
    assert result.store is not None
    megabytes = sum(path.stat().st_size for path in source.files) / 1e6
    print(f"packing, one process: {len(source) / seconds:.1f} scans/s, {megabytes / seconds:.0f} MB/s of .bin files")
    began = time.perf_counter()
    pack(source, folder / "bare", label_map, PackSettings(features=None), processes=1)
    seconds = time.perf_counter() - began
    print(f"   without surroundings: {len(source) / seconds:.1f} scans/s, {megabytes / seconds:.0f} MB/s")
    for index, file in enumerate(files):
        scan = source[index]
        frame = pd.DataFrame(scan.points, columns=["x", "y", "z", "remission"])
        frame["label"] = np.fromfile(label_path(file), np.uint32) & 0xFFFF
        frame.to_csv(folder / f"{index}.csv", index=False)
    table = label_table(label_map)
    scans = PackedScans(result.store)
    rounds = dict.fromkeys(
        ("raw", "raw, Generator", "csv", "disk", "disk+", "memory", "memory, range", "memory+"), arguments.rounds
    )
    rounds["csv"] = arguments.csv_rounds
    around = FeatureSpec()

    def from_table(features: FeatureSpec, resident: bool, sampling: Sampling) -> Sample:
        records = StoreTable(scans, features)
        clouds = TrainingClouds(ResidentTable(records) if resident else records, sampling, seed=0)
        return lambda index, epoch: decode_batch(
            clouds.__getitems__([Draw(epoch, index, index, points)]), records.format
        )

    ways: dict[str, Sample] = {
        "raw": lambda index, epoch: raw(files[index], table, points),
        "raw, Generator": lambda index, epoch: raw(files[index], table, points, np.random.default_rng(epoch)),
        "csv": lambda index, epoch: csv(folder / f"{index}.csv", table, points, epoch),
        "disk": from_table(BARE, False, Sampling()),
        "disk+": from_table(around, False, Sampling()),
        "memory": from_table(BARE, True, Sampling()),
        "memory, range": from_table(BARE, True, Sampling("range")),
        "memory+": from_table(around, True, Sampling()),
    }
    return ways, rounds


def label_table(label_map: LabelMap) -> NDArray[np.uint8]:
    """Raw id -> training id."""
    table = np.zeros(1 << 16, np.uint8)
    for train_id, group in enumerate(label_map.classes, start=1):
        table[list(group)] = train_id
    return table


def raw(
    path: Path, table: NDArray[np.uint8], points: int, random: Any = np.random
) -> tuple[torch.Tensor, torch.Tensor]:
    """The reference."""
    scan = np.fromfile(path, np.float32).reshape(-1, 4)
    labels = table[np.fromfile(label_path(path), np.uint32) & 0xFFFF]
    rows = random.choice(len(scan), points, replace=False)
    return torch.from_numpy(scan[rows]), torch.from_numpy(labels[rows].astype(np.int64))


def csv(path: Path, table: NDArray[np.uint8], points: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The tutorials' route."""
    frame = pd.read_csv(path).sample(points, random_state=epoch)
    scan = frame[["x", "y", "z", "remission"]].to_numpy(np.float32)
    return torch.from_numpy(scan), torch.from_numpy(table[frame["label"].to_numpy()].astype(np.int64))


def measure(ways: dict[str, Sample], rounds: dict[str, int], scans: int) -> dict[str, list[float]]:
    """Seconds a sample, interleaved: every way once on every scan, then again."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name, sample in ways.items():
        for index in range(scans if name != "csv" else 1):
            sample(index, 0)  # warm
    for epoch in range(1, max(rounds.values()) + 1):
        for index in range(scans):
            for name, sample in ways.items():
                if epoch <= rounds[name]:
                    began = time.perf_counter()
                    sample(index, epoch)
                    seconds[name].append(time.perf_counter() - began)
    return seconds


NAMES = {
    "raw": "raw .bin + .label, look-up table",
    "raw, Generator": "  the same, drawn by np.random.Generator",
    "csv": "CSV by pandas",
    "disk": "store, memory-mapped, slice",
    "disk+": "  the same with 7 measured columns",
    "memory": "store, in memory, slice",
    "memory, range": "store, in memory, as many of each band of range",
    "memory+": "  slice with 7 measured columns",
}


def report(seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    reference = float(np.median(seconds["raw"]))
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, 1 thread, load {load:.1f}")
    print(f"{arguments.points} points of {arguments.scans} scans, median of interleaved rounds")
    figures = {name: float(np.median(values)) for name, values in seconds.items()}
    for name, value in figures.items():
        print(f"{NAMES[name]:<48} {1e3 * value:8.3f} ms   {reference / value:7.2f} x")
    if arguments.json:
        arguments.json.write_text(json.dumps({"load": load, "ms": {k: 1e3 * v for k, v in figures.items()}}, indent=2))


if __name__ == "__main__":
    main()
