"""What a WaffleIron prepares of a cloud, against brute force."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pointseg.models.waffleiron.preparation import prepared

FIELD = np.array([[-6.0, 6.0], [-5.0, 5.0], [-1.0, 1.0]])
GRID = np.array([12, 20, 4])
VOXEL, NEIGHBOURS = 0.8, 3


def cloud(points: int, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return (random.uniform(-1, 1, (points, 3)) * [8, 6, 1.5]).astype(np.float32)


def seen(point: NDArray[np.float32]) -> bool:
    return all(low < value < high for value, (low, high) in zip(point.tolist(), FIELD.tolist(), strict=True))


def prepare(coords: NDArray[np.float32]) -> dict[str, NDArray[np.int32]]:
    return prepared(coords, voxel=VOXEL, field_of_view=FIELD, grid=GRID, neighbours=NEIGHBOURS)


def test_the_first_point_of_each_voxel_in_view_is_kept_and_answers() -> None:
    coords = cloud(400)
    found = prepare(coords)
    corner, first, voxel_of = coords.min(axis=0).astype(float), {}, []
    for row, point in enumerate(coords.astype(float)):
        voxel = tuple(int(value) for value in (point - corner) / VOXEL)
        voxel_of.append(voxel)
        first.setdefault(voxel, row)
    kept = {row for row in first.values() if seen(coords[row])}
    assert 50 < len(kept) < 350
    assert len(found["kept"]) == len(kept) == found["voxels"]
    assert set(found["kept"].tolist()) == kept
    for row, answer in enumerate(found["kept"][found["answer"]].tolist()):
        own = first[voxel_of[row]]
        if own in kept:
            assert answer == own
        else:
            distances = {other: float(np.square(coords[other] - coords[row]).sum()) for other in kept}
            assert distances[answer] == pytest.approx(min(distances.values()))


def test_cells_lie_on_the_grid_of_the_field_of_view() -> None:
    coords = cloud(300, 1)
    found = prepare(coords)
    for row, cells in zip(found["kept"].tolist(), found["cells"].tolist(), strict=True):
        for axis, (low, high) in enumerate(FIELD.tolist()):
            assert cells[axis] == int((float(coords[row, axis]) - low) / ((high - low) / int(GRID[axis])))
    assert found["extent"].tolist() == [[own.min(), own.max()] for own in found["cells"].T]
    assert found["cells"].tolist() == sorted(found["cells"].tolist())


def test_neighbours_are_those_of_a_brute_force_search() -> None:
    coords = cloud(200, 2)
    found = prepare(coords)
    kept = coords[found["kept"]].astype(float)
    squares = np.square(kept[:, None] - kept[None]).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    wanted = np.sort(squares, axis=1)[:, :NEIGHBOURS]
    assert found["neighbours"].shape == (len(kept), NEIGHBOURS)
    np.testing.assert_allclose(np.take_along_axis(squares, found["neighbours"].astype(int), axis=1), wanted)


@pytest.mark.parametrize("points", [1, 2, 3])
def test_a_cloud_with_fewer_points_than_neighbours_fills_up_with_the_voxel_itself(points: int) -> None:
    coords = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [3.0, 0.0, 0.0]], np.float32)[:points]
    found = prepare(coords)
    for row, neighbours in enumerate(found["neighbours"].tolist()):
        others = [other for other in neighbours if other != row]
        assert sorted(others) == [other for other in range(points) if other != row]
        assert neighbours == others + [row] * (NEIGHBOURS - len(others))


def test_a_cloud_outside_the_field_of_view_keeps_its_voxels_in_the_outermost_cells() -> None:
    coords = cloud(60, 3) + np.float32(100.0)
    found = prepare(coords)
    assert found["voxels"] > 30
    assert np.array_equal(found["cells"], np.broadcast_to(GRID - 1, found["cells"].shape))


def test_a_point_far_away_disturbs_nothing() -> None:
    coords = np.concatenate([cloud(100, 4), np.full((1, 3), 1e9, np.float32)])
    assert set(prepare(coords)["kept"].tolist()) == set(prepare(coords[:100])["kept"].tolist())


def test_points_in_one_place_are_one_voxel() -> None:
    found = prepare(np.zeros((9, 3), np.float32))
    assert found["voxels"] == 1
    assert not found["answer"].any()
    assert found["kept"].tolist() == [0]
