"""What the tests share: small hand-made scans, label maps and models; real scans where a folder of them is named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from chromium import headless_chromium
from many_commands import parse_configurations_once, set_levels_where_they_change
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel
from pointseg.models import PointNetSeg

torch.set_num_threads(1)
parse_configurations_once()
set_levels_where_they_change()

RAW_IDS = np.array([0, 10, 40, 48, 50, 70, 252], np.uint32)
FRAMES = (0, 3, 7)  # not consecutive, as in a subset of a data set
TRANSFORM = [[0.0, -1.0, 0.0, 0.1], [0.0, 0.0, -1.0, -0.2], [1.0, 0.0, 0.0, 0.3]]


@dataclass(frozen=True)
class KittiTree:
    """A data set in SemanticKITTI's layout, and what was written to it by "SEQUENCE/FRAME"."""

    root: Path
    points: dict[str, NDArray[np.float32]]
    labels: dict[str, NDArray[np.uint32]]

    def bin(self, name: str) -> Path:
        sequence, frame = name.split("/")
        return self.root / "sequences" / sequence / "velodyne" / f"{frame}.bin"

    def label(self, name: str) -> Path:
        sequence, frame = name.split("/")
        return self.root / "sequences" / sequence / "labels" / f"{frame}.label"


def scan_points(count: int, seed: int = 0) -> NDArray[np.float32]:
    """(N, 4) random points around a sensor 1.7 m above the ground."""
    random = np.random.default_rng(seed)
    low, high = [-40.0, -40.0, -1.8, 0.0], [40.0, 40.0, 3.0, 1.0]
    return random.uniform(low, high, (count, 4)).astype(np.float32)


def write_tree(root: Path, sequences: tuple[str, ...] = ("00", "08")) -> KittiTree:
    """Two sequences of three frames, about 2,000 points each, with instance ids, poses and calibration."""
    points, labels = {}, {}
    for sequence in sequences:
        folder = root / "sequences" / sequence
        (folder / "velodyne").mkdir(parents=True)
        (folder / "labels").mkdir()
        for frame in FRAMES:
            name, seed = f"{sequence}/{frame:06d}", 100 * int(sequence) + frame
            random = np.random.default_rng(seed)
            points[name] = scan_points(2000 + 10 * frame, seed)
            instances = random.integers(0, 1 << 16, len(points[name])).astype(np.uint32)
            labels[name] = random.choice(RAW_IDS, len(points[name])) | (instances << np.uint32(16))
            points[name].tofile(folder / "velodyne" / f"{frame:06d}.bin")
            labels[name].tofile(folder / "labels" / f"{frame:06d}.label")
        poses = [f"1 0 0 {frame} 0 1 0 {2 * frame} 0 0 1 {3 * frame}" for frame in range(FRAMES[-1] + 1)]
        (folder / "poses.txt").write_text("\n".join(poses) + "\n")
        row = " ".join(str(value) for line in TRANSFORM for value in line)
        (folder / "calib.txt").write_text(f"P0: 1 0 0 0 0 1 0 0 0 0 1 0\nTr: {row}\n")
    return KittiTree(root, points, labels)


@pytest.fixture
def tree(tmp_path: Path) -> KittiTree:
    """A tree of its own, which a test may damage."""
    return write_tree(tmp_path / "kitti")


@pytest.fixture(scope="session")
def shared_tree(tmp_path_factory: pytest.TempPathFactory) -> KittiTree:
    """A tree that nobody changes."""
    return write_tree(tmp_path_factory.mktemp("shared") / "kitti")


@pytest.fixture(scope="session")
def real_root() -> Path:
    """The folder of real scans."""
    root = os.environ.get("SEMANTICKITTI_ROOT")
    if not root:
        pytest.skip("SEMANTICKITTI_ROOT names no folder of real scans")
    return Path(root)


@pytest.fixture(scope="session")
def kitti_map() -> LabelMap:
    return LabelMap.load("semantickitti")


@pytest.fixture(scope="session")
def small_map() -> LabelMap:
    """Three classes, one of two raw ids."""
    grey = (9, 9, 9)
    names = {0: "unlabeled", 10: "car", 252: "moving-car", 40: "road", 50: "building"}
    return LabelMap("small", {raw: (name, grey) for raw, name in names.items()}, ((10, 252), (40,), (50,)), (0,))


def small_model(in_features: int = 4, num_classes: int = 19, seed: int = 0) -> PointNetSeg:
    """A PointNet of a few channels whose BatchNorm statistics are not those it begins with."""
    torch.manual_seed(seed)
    model = PointNetSeg(
        in_features,
        num_classes,
        local_widths=(8, 8),
        global_widths=(8, 16),
        head_widths=(16, 8),
        input_transform=False,
        feature_transform=False,
    )
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 64, in_features))
    return model.eval()


@pytest.fixture
def trained(kitti_map: LabelMap) -> TrainedModel:
    """A model with all that prediction needs."""
    features = FeatureSpec(use=("x", "y", "z", "remission", "range", "height", "extent", "count"))
    inference = {"points_per_pass": 700, "votes": 1, "remission_mean": 0.25}
    return TrainedModel(small_model(len(features)), features, kitti_map, inference, {"run": "test"})


@pytest.fixture(scope="session")
def scan() -> NDArray[np.float32]:
    """(2000, 4) points."""
    return scan_points(2000, seed=5)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from headless_chromium()
