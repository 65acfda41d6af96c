"""Sampling: each method against a slow definition of it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from pointseg.data.sampling import METHODS, Sampling, Window
from pointseg.errors import ConfigError
from pointseg.randomness import below, key

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
        rows = Sampling(method).rows(mm.T, 500, key(index)).tolist()
        assert len(set(rows)) == len(rows) <= 500
        assert 0 <= min(rows) <= max(rows) < 3000


@pytest.mark.parametrize("method", METHODS[1:])
def test_another_stream_chooses_others(method: str) -> None:
    mm = scan()
    chosen = {tuple(sorted(Sampling(method).rows(mm.T, 100, key(index)).tolist())) for index in range(10)}
    assert len(chosen) == 10


@pytest.mark.parametrize("method", METHODS[1:])
def test_small_scan_is_taken_whole(method: str) -> None:
    assert Sampling(method).rows(scan(40).T, 40, key(1)).tolist() == list(range(40))


def test_nearest_are_those_of_a_brute_force_search() -> None:
    mm = scan(800)
    for index in range(10):
        centre = mm[below(800, key(key(index), 0))].tolist()
        squares = [sum((a - b) ** 2 for a, b in zip(point, centre, strict=True)) for point in mm.tolist()]
        expected = sorted(range(800), key=lambda row: (squares[row], row))[:100]
        assert Sampling("nearest").rows(mm.T, 100, key(index)).tolist() == sorted(expected)


def test_nearest_takes_the_first_of_equal_points() -> None:
    mm = torch.zeros(50, 3, dtype=torch.int64)
    assert Sampling("nearest").rows(mm.T, 20, key(3)).tolist() == list(range(20))


def test_range_takes_equal_shares_of_the_bands() -> None:
    mm = scan()
    there = Counter(bands_of(mm))
    assert min(there.values()) > 100
    taken = Counter(bands_of(mm[Sampling("range", BANDS).rows(mm.T, 500, key(1))]))
    assert dict(taken) == dict.fromkeys(range(5), 100)


def test_range_fills_up_what_a_band_cannot_give() -> None:
    mm = scan(reach=35.0)  # nothing in the last band, little in the one before
    there = Counter(bands_of(mm))
    assert 0 < there[3] < 300
    taken = Counter(bands_of(mm[Sampling("range", BANDS).rows(mm.T, 1200, key(1))]))
    assert taken[3] == min(there[3], 300)
    assert sum(taken.values()) == 1200
    assert max(taken[b] for b in range(3)) - min(taken[b] for b in range(3)) <= 1


def test_block_is_a_column_around_its_centre() -> None:
    mm = scan()
    for index in range(10):
        centre = mm[below(3000, key(key(index), 0))]
        inside = [r for r, p in enumerate(mm.tolist()) if all(abs(p[a] - int(centre[a])) <= 5000 for a in (0, 1))]
        rows = Sampling("block", block=10.0).rows(mm.T, 3000 - 1, key(index)).tolist()
        assert sorted(rows) == inside


def test_window_goes_around() -> None:
    starts = {Sampling.window(7, 3, key(index)).start for index in range(100)}
    assert starts == set(range(7))
    assert Sampling.window(5, 9, key(0)).count == 5
    assert isinstance(Sampling.window(5, 9, key(0)), Window)


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
