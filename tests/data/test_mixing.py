"""PolarMix and LaserMix against their definitions by angles."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pointseg.core.errors import ConfigError
from pointseg.core.randomness import Purpose, below, random_key, unit
from pointseg.data.augmentation.lasermix import LaserMix
from pointseg.data.augmentation.polarmix import COPIES, PolarMix
from pointseg.data.batches import PointBatch


def batch(seed: int, clouds: int = 4, points: int = 400, mask: bool = False) -> PointBatch:
    random = np.random.default_rng(seed)
    xyz = np.rint(random.uniform(-40, 40, (clouds, points, 3)) * 1000) / 1000
    others = random.random((clouds, points, 2))
    tensor = torch.from_numpy(np.concatenate([xyz, others], axis=2).astype(np.float32))
    labels = torch.from_numpy(random.integers(0, 5, (clouds, points)))
    real = torch.from_numpy(random.random((clouds, points)) < 0.8) if mask else None
    keys = torch.tensor([random_key(seed, index) for index in range(clouds)])
    return PointBatch(tensor, labels, real, keys, torch.full((clouds,), 0.5))


def rows_of(mixed: PointBatch, cloud: int) -> set[tuple[float, ...]]:
    real = slice(None) if mixed.mask is None else mixed.mask[cloud]
    return {tuple(row) for row in mixed.points[cloud, real].tolist()}


@pytest.mark.parametrize("mask", [False, True])
def test_swap_takes_half_a_turn_of_the_partner(mask: bool) -> None:
    one, other = batch(1, mask=mask), batch(2, mask=mask)
    mixed = PolarMix(swap=1.0)(one, other, things=())
    for cloud in range(4):
        angle = 2 * math.pi * unit(random_key(int(one.keys[cloud]), Purpose.MIX, 2))

        def inside(points: Tensor, angle: float = angle) -> list[bool]:
            around = np.arctan2(points[:, 1].double(), points[:, 0].double()) - angle
            return (np.abs((around + math.pi) % (2 * math.pi) - math.pi) < math.pi / 2).tolist()

        expected = set()
        for source, wanted in ((one, False), (other, True)):
            real = source.mask[cloud].tolist() if source.mask is not None else [True] * 400
            for row, is_in, is_real in zip(source.points[cloud], inside(source.points[cloud]), real, strict=True):
                if is_in == wanted and is_real:
                    expected.add(tuple(row.tolist()))
        assert rows_of(mixed, cloud) == expected


def test_labels_stay_with_their_points() -> None:
    one, other = batch(1), batch(2)
    mixed = PolarMix(swap=1.0, paste=1.0)(one, other, things=(2, 3))
    labels = {tuple(p): int(i) for b in (one, other) for p, i in zip(b.points[0].tolist(), b.labels[0], strict=True)}
    assert mixed.mask is not None
    found = [
        (labels[tuple(point)], int(label))
        for point, label in zip(mixed.points[0, mixed.mask[0]].tolist(), mixed.labels[0, mixed.mask[0]], strict=True)
        if tuple(point) in labels
    ]
    assert len(found) > 300
    assert all(before == after for before, after in found)


def test_paste_adds_the_objects_thrice_at_their_distance() -> None:
    one, other = batch(1), batch(2)
    mixed = PolarMix(paste=1.0)(one, other, things=(2, 3))
    for cloud in range(4):
        things = other.points[cloud][torch.isin(other.labels[cloud], torch.tensor([2, 3]))]
        added = [row for row in rows_of(mixed, cloud) if row not in rows_of(one, cloud)]
        assert len(added) == COPIES * len(things)
        distances = sorted(round(math.hypot(*row[:2]), 2) for row in added)
        expected = sorted(round(math.hypot(*row[:2]), 2) for row in things.tolist() for _ in range(COPIES))
        assert distances == pytest.approx(expected, abs=0.011)
        assert sorted(row[2] for row in added) == sorted(row[2] for row in things.tolist() for _ in range(COPIES))


def test_probability_is_that_of_clouds() -> None:
    one, other = batch(1, clouds=600, points=8), batch(2, clouds=600, points=8)
    mixed = PolarMix(swap=0.3)(one, other, things=())
    changed = sum(rows_of(mixed, cloud) != rows_of(one, cloud) for cloud in range(600))
    assert changed / 600 == pytest.approx(0.3, abs=0.06)


def test_a_cloud_is_mixed_alike_in_any_batch() -> None:
    one, other = batch(1), batch(2)
    mix = PolarMix(swap=0.5, paste=0.5)
    together = mix(one, other, (2,))

    def only(b: PointBatch, row: int) -> PointBatch:
        return PointBatch(*(t if t is None else t[row : row + 1] for t in b))

    for row in range(4):
        assert rows_of(mix(only(one, row), only(other, row), (2,)), 0) == rows_of(together, row)


def test_off_is_nothing() -> None:
    assert not PolarMix().active
    one = batch(1)
    assert torch.equal(PolarMix()(one, batch(2), (1,)).points, one.points)


@pytest.mark.parametrize("name", ["swap", "paste"])
def test_bad_probability_names_its_key(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.polarmix\.{name}"):
        PolarMix(**{name: 1.5})


# ---- LaserMix ------------------------------------------------------------------------------------------------------


def test_every_second_band_comes_from_the_partner() -> None:
    one, other = batch(1, mask=True), batch(2, mask=True)
    mixed = LaserMix(probability=1.0, bands=(3, 6), field_of_view=(40.0, -40.0))(one, other)
    for cloud in range(4):
        key = int(one.keys[cloud])
        count = 3 + below(4, random_key(key, Purpose.LASER_MIX, 1))
        phase = below(2, random_key(key, Purpose.LASER_MIX, 2))
        expected = set()
        for source, wanted in ((one, 1), (other, 0)):
            assert source.mask is not None
            for row, real in zip(source.points[cloud].tolist(), source.mask[cloud].tolist(), strict=True):
                elevation = math.degrees(math.atan2(row[2], math.hypot(row[0], row[1])))
                band = min(max(math.floor((elevation + 40) / 80 * count), 0), count - 1)
                if real and (band + phase) % 2 == wanted:
                    expected.add(tuple(row))
        assert rows_of(mixed, cloud) == expected


def test_lasermix_mixes_as_many_clouds_as_asked() -> None:
    one, other = batch(1, clouds=600, points=8), batch(2, clouds=600, points=8)
    mixed = LaserMix(probability=0.3, field_of_view=(40.0, -40.0))(one, other)
    changed = sum(rows_of(mixed, cloud) != rows_of(one, cloud) for cloud in range(600))
    assert changed / 600 == pytest.approx(0.3, abs=0.06)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"probability": 2.0}, "probability"),
        ({"bands": (1, 3)}, "bands"),
        ({"bands": (5, 3)}, "bands"),
        ({"field_of_view": (-25.0, 3.0)}, "field_of_view"),
    ],
)
def test_bad_lasermix_names_its_key(settings: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"data\.lasermix\.{key}"):
        LaserMix(**settings)  # type: ignore[arg-type]
