"""Features against plain float64 NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError
from pointseg.data.features import FEATURES, NORMALISATION, FeatureSpec, ground_height, pillar_extent_and_count

Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def points() -> NDArray[np.float32]:
    """(2500, 4), dense enough for several points in a cell, and some beyond the grid."""
    random = np.random.default_rng(11)
    near = random.uniform([-12, -12, -1.8, 0], [12, 12, 2.5, 1], (2400, 4))
    far = random.uniform([-200, -200, -1.8, 0], [200, 200, 2.5, 1], (100, 4))
    return np.vstack([near, far]).astype(np.float32)


def cells(points: Array, cell: float) -> list[tuple[int, int]]:
    edge = round(160 / cell)
    columns = np.clip(np.floor((points[:, :2] + 80) / cell), 0, edge - 1).astype(int)
    return [(int(i), int(j)) for i, j in columns]


def slow_pillars(points: Array, cell: float) -> tuple[Array, Array]:
    """Extent and count by comparing every point with every other one."""
    where = np.array(cells(points, cell))
    extent, count = np.empty(len(points)), np.empty(len(points))
    for i in range(len(points)):
        z = points[(where == where[i]).all(axis=1), 2]
        extent[i], count[i] = z.max() - z.min(), len(z)
    return extent, count


def slow_ground(points: Array, cell: float) -> Array:
    """The rule of `ground_height`, cell by cell in dictionaries."""
    where = cells(points, cell)
    lowest: dict[tuple[int, int], float] = {}
    for place, z in zip(where, points[:, 2], strict=True):
        lowest[place] = min(z, lowest.get(place, np.inf))

    def around(table: dict[tuple[int, int], float], i: int, j: int) -> list[float]:
        return sorted(table[a, b] for a in (i - 1, i, i + 1) for b in (j - 1, j, j + 1) if (a, b) in table)

    def robust(i: int, j: int) -> float:
        near = around(lowest, i, j)
        median = near[(len(near) - 1) // 2]
        return median if lowest[i, j] < median - 1 else lowest[i, j]

    edge = round(160 / cell)
    mended = {place: robust(*place) for place in lowest}
    neighbours = {(i + a, j + b) for i, j in lowest for a in (-1, 0, 1) for b in (-1, 0, 1)}
    inside = {(i, j) for i, j in neighbours if 0 <= i < edge and 0 <= j < edge}
    lower = {place: around(mended, *place)[0] for place in inside}
    smooth = {place: float(np.mean(around(lower, *place))) for place in lowest}
    return np.array([z - smooth[place] for place, z in zip(where, points[:, 2], strict=True)])


def expected_feature(name: str, points: Array) -> Array:
    plain = {
        "x": lambda: points[:, 0],
        "y": lambda: points[:, 1],
        "z": lambda: points[:, 2],
        "remission": lambda: points[:, 3],
        "range": lambda: np.sqrt(points[:, 0] ** 2 + points[:, 1] ** 2 + points[:, 2] ** 2),
        "height": lambda: slow_ground(points, 1.0),
        "extent": lambda: slow_pillars(points, 1.0)[0],
        "count": lambda: np.log2(slow_pillars(points, 1.0)[1]),
    }
    offset, scale = NORMALISATION[name]
    return (plain[name]() - offset) / scale


@pytest.mark.parametrize("name", FEATURES)
def test_feature_is_that_of_plain_numpy(points: NDArray[np.float32], name: str) -> None:
    spec = FeatureSpec(use=(name,), pillar_cells=(1.0,))
    features = spec(spec.measure(torch.from_numpy(points)))
    assert np.allclose(features[:, 0].numpy(), expected_feature(name, points.astype(np.float64)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cell", [0.5, 2.0])
def test_pillars_are_those_of_brute_force(points: NDArray[np.float32], cell: float) -> None:
    extent, count = pillar_extent_and_count(torch.from_numpy(points[:, :3]).double(), cell)
    expected_extent, expected_count = slow_pillars(points.astype(np.float64), cell)
    assert np.allclose(extent.numpy(), expected_extent, rtol=0, atol=1e-12)
    assert np.array_equal(count.numpy(), expected_count)


def plane() -> Array:
    """Level ground at -1.7 m, four points a metre each way."""
    axis = np.arange(-15, 15, 0.25) + 0.1
    x, y = np.meshgrid(axis, axis)
    return np.column_stack([x.ravel(), y.ravel(), np.full(x.size, -1.7)])


def heights(points: Array) -> Array:
    return ground_height(torch.from_numpy(points), 1.0).numpy()


def test_level_ground_is_at_height_zero() -> None:
    assert np.abs(heights(plane())).max() < 1e-12


def test_box_has_its_height_where_it_hides_the_ground() -> None:
    ground = plane()
    hidden = (np.abs(ground[:, 0] - 5) < 1) & (np.abs(ground[:, 1] - 5) < 1)  # 2 x 2 cells
    ground[hidden, 2] = 0.3
    assert np.abs(heights(ground) - np.where(hidden, 2.0, 0.0)).max() < 1e-12


def test_outlier_below_the_ground_moves_no_ground() -> None:
    points = np.vstack([plane(), [[3.4, 3.4, -6.0]]])
    assert np.abs(heights(points)[:-1]).max() < 1e-12


def test_outlier_below_the_ground_has_a_negative_height() -> None:
    points = np.vstack([plane(), [[3.4, 3.4, -6.0]]])
    assert heights(points)[-1] == pytest.approx(-4.3)


def test_height_does_not_depend_on_the_height_of_the_sensor(points: NDArray[np.float32]) -> None:
    xyz = points[:, :3].astype(np.float64)
    assert np.allclose(heights(xyz), heights(xyz + np.array([0, 0, 7.25])), rtol=0, atol=1e-9)


def test_single_point_is_on_the_ground() -> None:
    assert heights(np.array([[1.0, 2.0, 3.0]])).tolist() == [0.0]


def test_surroundings_are_those_of_the_whole_scan(points: NDArray[np.float32]) -> None:
    spec = FeatureSpec()
    whole = spec.measure(torch.from_numpy(points))
    subset = torch.arange(0, len(points), 7)
    assert torch.equal(spec(whole)[subset], spec(whole[subset]))


def test_surroundings_of_a_subset_alone_are_others(points: NDArray[np.float32]) -> None:
    spec = FeatureSpec(use=("count",))
    subset = torch.from_numpy(points[::7])
    whole = spec.measure(torch.from_numpy(points))[::7]
    assert not torch.equal(spec.measure(subset), whole)


def test_measured_columns_begin_with_the_scan(points: NDArray[np.float32]) -> None:
    measured = FeatureSpec().measure(torch.from_numpy(points))
    assert torch.equal(measured[:, :4], torch.from_numpy(points))


def test_measured_columns_are_named() -> None:
    spec = FeatureSpec(use=("count", "height", "extent"), pillar_cells=(1.0, 2.0))
    assert spec.measured == ("x", "y", "z", "remission", "height", "extent", "extent", "count", "count")


def test_lengths_among_the_measured_columns() -> None:
    assert FeatureSpec(pillar_cells=(1.0, 2.0)).metric_columns == [4, 5, 6]


def test_padded_points_get_zeros() -> None:
    spec = FeatureSpec()
    measured = torch.full((2, 5, len(spec.measured)), 3.0)
    mask = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    assert bool((spec(measured, mask) != 0).any(dim=-1).eq(mask).all())


def test_order_is_the_users(points: NDArray[np.float32]) -> None:
    spec, reverse = FeatureSpec(pillar_cells=(1.0,)), FeatureSpec(use=FEATURES[::-1], pillar_cells=(1.0,))
    tensor = torch.from_numpy(points)
    assert torch.equal(spec(spec.measure(tensor)).flip(1), reverse(reverse.measure(tensor)))


@pytest.mark.parametrize("left_out", FEATURES)
def test_feature_can_be_switched_off(points: NDArray[np.float32], left_out: str) -> None:
    tensor = torch.from_numpy(points)
    every = FeatureSpec(pillar_cells=(1.0,))
    some = FeatureSpec(use=tuple(name for name in FEATURES if name != left_out), pillar_cells=(1.0,))
    kept = [column for column, name in enumerate(FEATURES) if name != left_out]
    assert torch.equal(some(some.measure(tensor)), every(every.measure(tensor))[:, kept])


def test_length_is_the_number_of_features(points: NDArray[np.float32]) -> None:
    spec = FeatureSpec()
    assert spec(spec.measure(torch.from_numpy(points))).shape == (len(points), len(spec))


def test_own_normalisation_is_used() -> None:
    spec = FeatureSpec(use=("x", "y"), offset={"x": 1.0}, scale={"x": 4.0})
    assert spec(torch.tensor([[9.0, 10.0, 0, 0]])).tolist() == [[2.0, 0.5]]


def test_dictionary_round_trip() -> None:
    spec = FeatureSpec(use=("z", "count"), scale={"z": 2.0}, ground_cell=2, pillar_cells=(0.3,))
    assert FeatureSpec(**spec.to_dict()) == spec


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"use": ("x", "colour")}, r"features\.use"),
        ({"use": ()}, r"features\.use"),
        ({"use": ("x", "x")}, r"features\.use"),
        ({"offset": {"colour": 1.0}}, r"features\.offset"),
        ({"scale": {"colour": 1.0}}, r"features\.scale"),
        ({"scale": {"x": 0.0}}, r"features\.scale\.x"),
        ({"scale": {"x": float("nan")}}, r"features\.scale\.x"),
        ({"ground_cell": 0}, r"features\.ground_cell"),
        ({"ground_cell": -1.0}, r"features\.ground_cell"),
        ({"pillar_cells": (0.0,)}, r"features\.pillar_cells"),
        ({"pillar_cells": (0.0, 1.0)}, r"features\.pillar_cells"),
        ({"pillar_cells": ()}, r"features\.pillar_cells"),
        ({"knots": (1.0,)}, r"features\.knots"),
        ({"knots": (0.0, 0.0, 1.0)}, r"features\.knots"),
    ],
)
def test_bad_value_names_its_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        FeatureSpec(**settings)


def test_knots_add_each_interval_as_a_column() -> None:
    spec = FeatureSpec(use=("x", "y"), offset={"x": 0, "y": 0}, scale={"x": 1, "y": 1}, knots=(-1.0, 0.0, 2.0))
    points = torch.tensor([[-3.0, 0.5, 0.0, 0.0], [1.0, -0.25, 0.0, 0.0]])
    pieces = [[[-1, -1], [1, -0.5]], [[1, 0], [0.5, -1]]]  # by hand: -1 below an interval, 1 above
    expected = torch.cat([points[:, :2], torch.tensor(pieces).flatten(1)], dim=1)
    assert torch.equal(spec(spec.measure(points)), expected)
    assert len(spec) == 6
    assert FeatureSpec(**spec.to_dict()) == spec


def test_knots_leave_padding_zero() -> None:
    spec = FeatureSpec(use=("x",), knots=(-1.0, 1.0))
    mask = torch.tensor([[True, False]])
    assert torch.equal(spec(torch.ones(1, 2, 4), mask)[0, 1], torch.zeros(2))
