"""Sampling: each method against a slow definition of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.randomness import below, random_key
from pointseg.data.sampling import METHODS, Sampling, Window

BANDS = (10.0, 20.0, 30.0, 50.0)


def scan(points: int = 3000, seed: int = 0, reach: float = 60.0) -> Tensor:
    random = np.random.default_rng(seed)
    distance, angle = reach * random.random(points) ** 2, random.uniform(0, 2 * np.pi, points)
    xyz = np.column_stack([distance * np.cos(angle), distance * np.sin(angle), random.uniform(-2, 3, points)])
    return torch.from_numpy(np.rint(xyz * 1000).astype(np.int64))


def bands_of(mm: Tensor) -> list[int]:
    distance = np.hypot(*(mm[:, :2].numpy().T / 1000))
    return [sum(float(d) > band for band in BANDS) for d in distance]


@pytest.mark.parametrize("method", METHODS[1:])
def test_rows_are_distinct_and_no_more_than_asked(method: str) -> None:
    mm = scan()
    for index in range(20):
        rows = Sampling(method).rows(mm.T, 500, random_key(index)).tolist()
        assert len(set(rows)) == len(rows) <= 500
        assert 0 <= min(rows) <= max(rows) < 3000


@pytest.mark.parametrize("method", METHODS[1:])
def test_another_stream_chooses_others(method: str) -> None:
    mm = scan()
    chosen = {tuple(sorted(Sampling(method).rows(mm.T, 100, random_key(index)).tolist())) for index in range(10)}
    assert len(chosen) == 10


@pytest.mark.parametrize("method", METHODS[1:])
def test_small_scan_is_taken_whole(method: str) -> None:
    assert Sampling(method).rows(scan(40).T, 40, random_key(1)).tolist() == list(range(40))


def test_nearest_are_those_of_a_brute_force_search() -> None:
    mm = scan(800)
    for index in range(10):
        centre = mm[below(800, random_key(random_key(index), 0))].tolist()
        squares = [sum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) for point in mm.tolist()]
        expected = sorted(range(800), key=lambda row: (squares[row], row))[:100]
        assert Sampling("nearest").rows(mm.T, 100, random_key(index)).tolist() == sorted(expected)


def test_nearest_takes_the_first_of_equal_points() -> None:
    mm = torch.zeros(50, 3, dtype=torch.int64)
    assert Sampling("nearest").rows(mm.T, 20, random_key(3)).tolist() == list(range(20))


def test_range_takes_equal_shares_of_the_bands() -> None:
    mm = scan()
    there = Counter(bands_of(mm))
    assert min(there.values()) > 100
    taken = Counter(bands_of(mm[Sampling("range", BANDS).rows(mm.T, 500, random_key(1))]))
    assert dict(taken) == dict.fromkeys(range(5), 100)


def test_range_fills_up_what_a_band_cannot_give() -> None:
    mm = scan(reach=35.0)  # nothing in the last band, little in the one before
    there = Counter(bands_of(mm))
    assert 0 < there[3] < 300
    taken = Counter(bands_of(mm[Sampling("range", BANDS).rows(mm.T, 1200, random_key(1))]))
    assert taken[3] == min(there[3], 300)
    assert sum(taken.values()) == 1200
    assert max(taken[b] for b in range(3)) - min(taken[b] for b in range(3)) <= 1


def test_block_is_a_column_around_its_centre() -> None:
    mm = scan()
    for index in range(10):
        centre = mm[below(3000, random_key(random_key(index), 0))]
        inside = [r for r, p in enumerate(mm.tolist()) if all(abs(p[a] - int(centre[a])) <= 5000 for a in (0, 1))]
        rows = Sampling("block", block=10.0).rows(mm.T, 3000 - 1, random_key(index)).tolist()
        assert sorted(rows) == inside


def test_window_goes_around() -> None:
    starts = {Sampling.window(7, 3, random_key(index)).start for index in range(100)}
    assert starts == set(range(7))
    assert Sampling.window(5, 9, random_key(0)).count == 5
    assert isinstance(Sampling.window(5, 9, random_key(0)), Window)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"method": "random"}, "data.sampling.method"),
        ({"bands": [10, 10]}, "data.sampling.bands"),
        ({"bands": [0, 10]}, "data.sampling.bands"),
        ({"block": 0}, "data.sampling.block"),
    ],
)
def test_bad_setting_names_its_key(settings: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        Sampling(**settings)  # type: ignore[arg-type]


def voxel_of(point: list[int], edge: int) -> tuple[int, ...]:
    return tuple(value // edge for value in point)


def one_a_voxel(mm: Tensor, edge: int, stream: int) -> list[int]:
    """The first point of each voxel, going around from a random one."""
    points = mm.tolist()
    start = below(len(points), random_key(stream, 1))
    kept: dict[tuple[int, ...], int] = {}
    for row in [*range(start, len(points)), *range(start)]:
        kept.setdefault(voxel_of(points[row], edge), row)
    return sorted(kept.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_voxel_keeps_one_random_point_before_the_method_chooses(method: str) -> None:
    mm = scan(1500, reach=12.0)
    for index in range(5):
        stream = random_key(index)
        kept = one_a_voxel(mm, 700, stream)
        assert 300 < len(kept) < 1200
        rows = Sampling(method, voxel=0.7).rows(mm.T, 250, stream).tolist()
        if method == "uniform":
            window = Sampling.window(len(kept), 250, stream)
            assert rows == [kept[(window.start + step) % len(kept)] for step in range(250)]
        else:
            among = Sampling(method).rows(mm[kept].T, 250, stream).tolist()
            assert rows == [kept[row] for row in among]


def test_which_point_of_a_voxel_is_random() -> None:
    mm = torch.tensor([[10, 10, 10], [90, 90, 90], [50, 20, 0], [-1, 0, 0]])
    drawn = Counter(
        tuple(Sampling("nearest", voxel=0.1).rows(mm.T, 4, random_key(index)).tolist()) for index in range(200)
    )
    assert set(drawn) == {(0, 3), (1, 3), (2, 3)}
    assert min(drawn.values()) > 20


def test_a_voxel_needs_the_points_of_the_scan() -> None:
    assert Sampling(voxel=0.1).looks_at_points
    assert not Sampling().looks_at_points
    assert Sampling(voxel=0.1).rows(scan(40, reach=500.0).T, 40, 7).tolist() == list(range(40))


@pytest.mark.parametrize("voxel", [-0.1, 0.0001, float("inf")])
def test_an_impossible_voxel_names_its_key(voxel: float) -> None:
    with pytest.raises(ConfigError, match=r"data\.sampling\.voxel"):
        Sampling(voxel=voxel)
