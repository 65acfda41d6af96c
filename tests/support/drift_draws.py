"""Draws of whole sequences from the synthetic world, as they are and shifted in known ways, to count what drift names."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pointseg.data.scan import Scan
from pointseg.data.synthetic import Sensor, SyntheticWorld
from pointseg.quality.drift import Drift, compare_statistics
from pointseg.quality.input_statistics import InputStatistics, measure

STEPS = 128  # azimuth steps: a small sensor, so that a scan takes 40 ms
FRAMES = (0, 12)
TRAINING, DRAWN = 12, 4  # sequences of a reference and of a draw
FIRST_TRAINING, FIRST_DRAW = 90_000, 50_000  # world seeds; the limit was chosen on 1000 and 2000 to 2079

#: kind of shift -> the quantities that must be among those named
SHIFTS = {
    "none": set[str](),
    "rain": {"density"},
    "remission": {"remission"},
    "32 beams": {"beams", "vertical angle"},
    "other angles": {"vertical angle"},
}


class Sequences:
    """Scans in memory, by sequence."""

    def __init__(self, sequences: Sequence[Sequence[NDArray[np.float32]]]) -> None:
        self._points = [points for scans in sequences for points in scans]
        self.names = [f"{s:02d}/{f:06d}" for s, scans in enumerate(sequences) for f in range(len(scans))]

    def __len__(self) -> int:
        return len(self._points)

    @property
    def expected_points(self) -> int:
        return sum(map(len, self._points))

    def __getitem__(self, index: int) -> Scan:
        return Scan(self._points[index], None, self.names[index])


@lru_cache(maxsize=8)
def reference(number: int) -> InputStatistics:
    """A training set of its own streets."""
    return measure(Sequences(streets(FIRST_TRAINING + number, TRAINING, Sensor(64, STEPS))))


def draw(number: int, kind: str, *, strength: float | None = None) -> Drift:
    """Judge fresh sequences, shifted, by one of the references, ten draws each."""
    return compare_statistics(measure(Sequences(shifted(number, kind, strength))), reference(number // 10))


def shifted(number: int, kind: str, strength: float | None = None) -> list[list[NDArray[np.float32]]]:
    """The scans of a draw; all kinds see the same streets."""
    sensors = {"32 beams": "half", "other angles": "even"}
    scans = drawn(number, sensors.get(kind, "same"))
    random = np.random.default_rng(number)
    if kind == "rain":
        return [[rain(points, random, strength or 0.012) for points in sequence] for sequence in scans]
    if kind == "remission":
        factor = np.array([1, 1, 1, strength or 0.6], np.float32)
        return [[points * factor for points in sequence] for sequence in scans]
    return scans


@lru_cache(maxsize=2)
def drawn(number: int, sensor: str) -> list[list[NDArray[np.float32]]]:
    """The scans of a draw, seen by the reference's sensor, one of half the beams, or one with beams spaced evenly."""
    seen_by = Sensor(32 if sensor == "half" else 64, STEPS)
    if sensor == "even":
        seen_by.__dict__["elevations"] = np.radians(np.linspace(5.0, -25.0, 64))
    return streets(FIRST_DRAW + number, DRAWN, seen_by)


def streets(seed: int, count: int, sensor: Sensor) -> list[list[NDArray[np.float32]]]:
    world = _world(seed)
    world.sensor = sensor
    return [[world.scan(sequence, frame).points for frame in FRAMES] for sequence in range(count)]


@lru_cache(maxsize=2)
def _world(seed: int) -> SyntheticWorld:
    return SyntheticWorld(seed)  # keeps its streets for the next kind of shift


def rain(points: NDArray[np.float32], random: np.random.Generator, loss: float) -> NDArray[np.float32]:
    """A return at r metres is lost with probability 1 - exp(-loss * r); one in fifty others comes from a drop nearby."""
    distance = np.linalg.norm(points[:, :3], axis=1)
    points = points[random.random(len(points)) < np.exp(-loss * distance)]
    drops = random.integers(len(points), size=len(points) // 50)
    distance = np.linalg.norm(points[drops, :3], axis=1)
    near = np.minimum(random.uniform(1.5, 8.0, len(drops)), distance)
    points[drops, :3] *= (near / distance)[:, None].astype(np.float32)
    points[drops, 3] = random.uniform(0, 0.05, len(drops))
    return points
