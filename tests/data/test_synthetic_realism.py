"""How close the synthetic scans come to real ones, where SEMANTICKITTI_ROOT names a copy of SemanticKITTI."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.data.scan import read_labels, read_points
from pointseg.data.synthetic import SyntheticWorld

ROOT = os.environ.get("SEMANTICKITTI_ROOT")
pytestmark = pytest.mark.skipif(
    not ROOT or not (Path(ROOT) / "sequences").is_dir(),
    reason="SEMANTICKITTI_ROOT does not name a folder that holds SemanticKITTI's sequences/",
)

KITTI = LabelMap.load("semantickitti")
RANGES = (10.0, 20.0, 50.0)
FADING = ((10.0, 20.0), (25.0, 30.0), (30.0, 40.0), (40.0, 50.0))  # metres: far returns read 0
ROUGH = ((3.0, 8.0), (8.0, 15.0), (15.0, 25.0), (25.0, 50.0))  # metres
EVEN, SOFT = ("road", "sidewalk"), ("terrain", "vegetation")
TRAIN = ("00", "01", "02", "03", "04", "05", "06", "07", "09", "10")
Pair = tuple[NDArray[np.float32], NDArray[np.uint32]]


def real_scans() -> Iterable[Pair]:
    for sequence in TRAIN:
        folder = Path(str(ROOT)) / "sequences" / sequence
        files = sorted((folder / "velodyne").glob("*.bin"))
        for path in files[:: max(1, len(files) // 4)]:
            points = read_points(path)
            yield points, read_labels(folder / "labels" / f"{path.stem}.label", len(points))


def synthetic_scans() -> Iterable[Pair]:
    for seed in (101, 202):
        world = SyntheticWorld(seed=seed)
        for sequence in range(25):
            scan = world.scan(sequence, 30)
            assert scan.labels is not None
            yield scan.points, scan.labels


def same_surface(
    points: NDArray[np.float32], train: NDArray[np.uint8]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Of each point but the first and last: whether it and both neighbours lie side by side on one beam and class, and the
    second difference of their ranges in metres."""
    distance = np.linalg.norm(points[:, :3], axis=1)
    turned = np.diff(np.arctan2(points[:, 1], points[:, 0]))
    beside = np.abs((turned + np.pi) % (2 * np.pi) - np.pi) < 0.008
    beside &= np.abs(np.diff(np.arcsin(points[:, 2] / distance))) < 0.003
    alike = (train[:-2] == train[1:-1]) & (train[2:] == train[1:-1])
    return beside[1:] & beside[:-1] & alike, np.abs(distance[:-2] - 2 * distance[1:-1] + distance[2:])


class Summary:
    """Shares of classes and ranges, mean remission per class, heights of the ground, how uneven surfaces are."""

    def __init__(self, scans: Iterable[Pair]) -> None:
        counts, remission = np.zeros(KITTI.num_classes + 1), np.zeros(KITTI.num_classes + 1)
        within: list[list[float]] = []
        heights: list[NDArray[np.float32]] = []
        bumps: dict[tuple[str, int], list[NDArray[np.float32]]] = {}
        dark, seen = np.zeros((2, len(counts), len(FADING)))
        steps: list[list[NDArray[np.float32]]] = [[] for _ in counts]
        road = KITTI.class_names.index("road") + 1
        for points, raw in scans:
            train = KITTI.to_train(raw)
            counts += np.bincount(train, minlength=len(counts))
            remission += np.bincount(train, weights=points[:, 3], minlength=len(counts))
            distance = np.linalg.norm(points[:, :3], axis=1)
            within.append([float((distance < limit).mean()) for limit in RANGES])
            heights.append(points[(train == road) & (distance < 15), 2])
            for ring, (near, far) in enumerate(FADING):
                there = (distance >= near) & (distance < far)
                seen[:, ring] += np.bincount(train[there], minlength=len(counts))
                dark[:, ring] += np.bincount(train[there & (points[:, 3] == 0)], minlength=len(counts))
            along = (train[:-2] == train[1:-1]) & (train[1:-1] == train[2:]) & (distance[1:-1] < 15)
            curvature = np.abs(points[:-2, 3] - 2 * points[1:-1, 3] + points[2:, 3]) / 2
            for k in range(1, len(counts)):
                steps[k].append(curvature[along & (train[1:-1] == k)])
            inner, uneven = same_surface(points, train)
            for ring, (near, far) in enumerate(ROUGH):
                there = inner & (distance[1:-1] >= near) & (distance[1:-1] < far)
                for name in (*EVEN, *SOFT, "building"):
                    chosen = uneven[there & (train[1:-1] == KITTI.class_names.index(name) + 1)]
                    bumps.setdefault((name, ring), []).append(chosen)
        self.unlabelled = counts[0] / counts.sum()
        self.shares = counts[1:] / counts[1:].sum()
        self.remission = remission[1:] / np.maximum(counts[1:], 1)
        self.within = np.mean(within, axis=0)
        self.dark = dark / np.maximum(seen, 1)
        self.grain = np.array([np.median(np.concatenate(part)) if part else 0.0 for part in steps])
        self.bumps = {place: np.concatenate(parts) for place, parts in bumps.items()}
        self.road = float(np.median(np.concatenate(heights)))


@pytest.fixture(scope="module")
def real() -> Summary:
    return Summary(real_scans())


@pytest.fixture(scope="module")
def synthetic() -> Summary:
    return Summary(synthetic_scans())


@pytest.mark.slow
def test_shares_of_the_common_classes(real: Summary, synthetic: Summary) -> None:
    common = np.argsort(-real.shares)[:8]
    ratio = synthetic.shares[common] / real.shares[common]
    names = [KITTI.class_names[i] for i in common]
    assert (ratio < 3).all() and (ratio > 1 / 3).all(), dict(zip(names, ratio.round(2), strict=True))


def test_shares_within_10_20_and_50_metres(real: Summary, synthetic: Summary) -> None:
    assert (np.abs(real.within - synthetic.within) < 0.10).all(), (real.within, synthetic.within)


def test_share_without_a_label(real: Summary, synthetic: Summary) -> None:
    assert abs(real.unlabelled - synthetic.unlabelled) < 0.05


def test_remission_of_the_common_classes(real: Summary, synthetic: Summary) -> None:
    common = np.argsort(-real.shares)[:8]
    assert (np.abs(real.remission[common] - synthetic.remission[common]) < 0.08).all()


def test_the_sensor_is_as_high_above_the_road(real: Summary, synthetic: Summary) -> None:
    assert abs(real.road - synthetic.road) < 0.08


@pytest.mark.parametrize("name", ["road", "sidewalk", "terrain", "vegetation"])
def test_far_returns_read_0_as_often(real: Summary, synthetic: Summary, name: str) -> None:
    k = KITTI.class_names.index(name) + 1
    assert (np.abs(real.dark[k] - synthetic.dark[k]) < 0.12).all(), (real.dark[k], synthetic.dark[k])


@pytest.mark.parametrize("name", ["road", "sidewalk", "building", "vegetation", "terrain"])
def test_remission_of_neighbouring_points_differs_as_much(real: Summary, synthetic: Summary, name: str) -> None:
    k = KITTI.class_names.index(name) + 1
    assert 0.5 < synthetic.grain[k] / real.grain[k] < 2, (real.grain[k], synthetic.grain[k])


@pytest.mark.parametrize("ring", range(len(ROUGH)))
@pytest.mark.parametrize("name", [*EVEN, *SOFT])
def test_surfaces_are_as_uneven(real: Summary, synthetic: Summary, name: str, ring: int) -> None:
    ours, theirs = (np.percentile(summary.bumps[name, ring], [25, 50, 75]) for summary in (synthetic, real))
    limit = 1.6 if name in EVEN else 2.0
    assert (ours / theirs < limit).all(), (ours, theirs)
    assert (theirs / ours < limit).all(), (ours, theirs)


def test_far_walls_are_broken_by_windows_and_edges(real: Summary, synthetic: Summary) -> None:
    for ring in (2, 3):
        ours, theirs = (float((summary.bumps["building", ring] > 0.1).mean()) for summary in (synthetic, real))
        assert 0.5 < ours / theirs < 2, (ROUGH[ring], ours, theirs)
