"""What is measured of scans: quantities, distances, the spread between sequences, and how they are kept."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.labels import LabelMap
from pointseg.data.scan import Scan
from pointseg.data.synthetic import SyntheticScans, SyntheticWorld
from pointseg.quality.input_quantities import QUANTITIES, QuantityKind, class_kind, count_beams, scan_quantities
from pointseg.quality.input_statistics import InputStatistics, Quantity, measure

SCAN = SyntheticWorld(seed=4, beams=32, azimuth_steps=128).scan(0, 0).points


@pytest.mark.parametrize("name", [name for name, kind in QUANTITIES.items() if kind.compare == "wasserstein"])
def test_wasserstein_is_what_it_costs_to_move_the_points(name: str) -> None:
    """In one dimension the cheapest way moves the k-th smallest to the k-th smallest."""
    kind, random = QUANTITIES[name], np.random.default_rng(1)
    first, second = (random.integers(kind.bins, size=500) for _ in range(2))
    moved = np.abs(np.sort(kind.centres[first]) - np.sort(kind.centres[second])).mean()
    histograms = [np.bincount(bins, minlength=kind.bins) / 500 for bins in (first, second)]
    assert kind.distance(*histograms) == pytest.approx(moved, rel=1e-12)


def test_variation_is_the_largest_difference_of_any_set_of_bins() -> None:
    kind = QuantityKind("five", "share", "variation", 1.0, labels=tuple("abcde"))
    first, second = np.random.default_rng(2).dirichlet(np.ones(5), 2)
    sets = (np.array([number >> bit & 1 for bit in range(5)], bool) for number in range(32))
    assert kind.distance(first, second) == pytest.approx(max(abs((first - second)[chosen].sum()) for chosen in sets))


def test_counts_are_compared_by_their_ratio() -> None:
    assert QUANTITIES["density"].distance(np.log([1000.0]), np.log([500.0])) == pytest.approx(np.log(2))


def test_the_quantities_of_a_scan() -> None:
    found = scan_quantities(SCAN)
    assert set(found) == set(QUANTITIES)
    assert all(vector.shape == (QUANTITIES[name].bins,) for name, vector in found.items())
    for name in ("range", "height", "remission", "vertical angle", "azimuth"):
        assert found[name].sum() == pytest.approx(1)
    assert np.exp(found["density"][0]) == pytest.approx(len(SCAN))
    distance = np.linalg.norm(SCAN[:, :3].astype(np.float64), axis=1)
    histogram = np.histogram(distance, QUANTITIES["range"].edges)[0] / len(SCAN)
    np.testing.assert_allclose(found["range"], histogram)


def test_points_that_are_not_finite_are_left_out() -> None:
    holed = np.concatenate([SCAN, np.full((5, 4), np.nan, np.float32)])
    for name, vector in scan_quantities(holed).items():
        np.testing.assert_array_equal(vector, scan_quantities(SCAN)[name])
    assert scan_quantities(holed[-5:]) == {}


@pytest.mark.parametrize("beams", [16, 32, 64, 128])
def test_beams_of_a_scan_are_counted(beams: int) -> None:
    points = SyntheticWorld(seed=4, beams=beams, azimuth_steps=128).scan(0, 0).points.astype(np.float64)
    elevation = np.degrees(np.arctan2(points[:, 2], np.hypot(points[:, 0], points[:, 1])))
    with_returns = len(np.unique(np.round(elevation, 3)))
    assert count_beams(elevation) == pytest.approx(min(beams, with_returns), abs=beams // 16)


def test_beams_that_cannot_be_told_apart_are_not_counted() -> None:
    assert count_beams(np.random.default_rng(0).uniform(-25, 3, 100_000)) is None
    assert count_beams(np.empty(0)) is None


def test_the_spread_of_one_number_is_its_standard_deviation() -> None:
    values = np.array([1.0, 1.4, 0.7, 2.0])
    assert Quantity.of(QUANTITIES["density"], values[:, None]).spread == pytest.approx(np.std(values, ddof=1))
    assert np.isnan(Quantity.of(QUANTITIES["density"], values[:1, None]).spread)


class Counting:
    """Scans of two sequences, the second with one more value a frame; counts what is read."""

    names = [f"00/{n}" for n in range(50)] + [f"01/{n}" for n in range(3)]
    expected_points = 0

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scan:
        self.read.append(index)
        return Scan(SCAN, None, self.names[index])


def test_a_bounded_number_of_scans_spread_over_each_sequence_is_read() -> None:
    source = Counting()
    found = measure(source, scans=4)
    assert (found.sequences, found.scans) == (2, 7)
    assert source.read == [6, 18, 31, 43, 50, 51, 52]
    assert measure(Counting(), scans=1, sequences=1).sequences == 1


class Guess:
    """A classifier that calls everything class 2."""

    label_map = LabelMap.load("semantickitti")

    def train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        return np.full(len(points), 2, np.uint8)


def test_predicted_classes_are_a_quantity_where_a_model_is_given() -> None:
    found = measure(Counting(), scans=1, predictor=Guess())
    assert found.quantities["predicted classes"].mean.tolist() == [0, 1, *[0] * 17]
    assert class_kind(Guess.label_map).bins == 19
    assert "predicted classes" not in found.to_dict()["quantities"]


def test_statistics_survive_being_written_down() -> None:
    found = measure(SyntheticScans(3, beams=16, azimuth_steps=64, scans_per_street=1))
    text = json.dumps(found.to_dict())
    assert len(text) < 12_000
    again = InputStatistics.from_dict(json.loads(text), "here")
    assert set(again.quantities) == set(found.quantities) and again.sequences == 3
    for name, quantity in found.quantities.items():
        np.testing.assert_allclose(again.quantities[name].mean, quantity.mean, atol=6e-6)
        assert again.quantities[name].spread == pytest.approx(quantity.spread, abs=6e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 9},
        {"quantities": {"range": {"mean": [1.0]}}},
        {"quantities": {"density": {"mean": ["x"], "low": [1.0], "high": [1.0], "spread": 1.0, "sequences": 3}}},
        {"quantities": {"density": {"mean": [1.0], "low": [1.0], "high": [1.0], "spread": None, "sequences": 3}}},
        {"sequences": None},
        {"quantities": 3},
    ],
)
def test_damaged_statistics_are_refused(change: dict[str, object]) -> None:
    good = {"format": 1, "sequences": 3, "scans": 3, "quantities": {}}
    with pytest.raises(DataError, match="input statistics"):
        InputStatistics.from_dict({**good, **change}, "here")


def test_no_points_are_refused() -> None:
    class Empty(Counting):
        def __getitem__(self, index: int) -> Scan:
            return Scan(SCAN[:0], None, "empty")

    with pytest.raises(DataError, match="no scan with points"):
        measure(Empty())
