"""Which frames are chosen, against brute force and made-up answers of a model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError
from pointseg.quality.frame_choice import METHODS, FrameFacts, choose_frames, describe_frame
from pointseg.workflows.settings import select as settings

CLASSES = 5


def answers(random: np.random.Generator, points: int, sharp: float) -> NDArray[np.float32]:
    logits = random.normal(0, sharp, (points, CLASSES))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def made_up(count: int, seed: int = 0) -> list[FrameFacts]:
    random = np.random.default_rng(seed)
    return [
        describe_frame(
            random.uniform(-40, 40, (200, 3)).astype(np.float32), answers(random, 200, random.uniform(0.2, 6))
        )
        for _ in range(count)
    ]


def test_the_facts_of_a_frame_are_those_of_its_rings() -> None:
    random = np.random.default_rng(3)
    points, shares = random.uniform(-40, 40, (500, 3)).astype(np.float32), answers(random, 500, 2.0)
    facts = describe_frame(points, shares)
    away = np.hypot(points[:, 0], points[:, 1])
    rings = [away < 10, (away >= 10) & (away < 25), away >= 25]
    expected, entropies = [], []
    for ring in rings:
        expected.append(shares[ring].astype(np.float64).mean(axis=0))
        own = shares[ring].astype(np.float64)
        entropies.append((-(own * np.log(own)).sum(axis=1) / np.log(CLASSES)).mean())
    assert np.allclose(facts.descriptor, np.sqrt(np.concatenate(expected) / 3), atol=1e-6)
    assert facts.uncertainty == pytest.approx(np.mean(entropies), abs=1e-4)
    assert np.allclose(facts.shares, np.mean(expected, axis=0), atol=1e-6)
    assert (facts.descriptor**2).sum() == pytest.approx(1)


def test_a_ring_without_a_point_counts_for_nothing() -> None:
    near = np.ones((4, 3), np.float32)
    even = np.full((4, CLASSES), 1 / CLASSES, np.float32)
    facts = describe_frame(near, even)
    assert facts.uncertainty == pytest.approx(1.0, abs=1e-4)
    assert facts.shares.sum() == pytest.approx(1.0)


def test_diverse_is_greedy_k_centre() -> None:
    frames = made_up(30)
    chosen = [one.index for one in choose_frames(frames, 6, "diverse", known=[4])]
    points = np.array([frame.descriptor for frame in frames])
    centres, expected = [4], []
    for _ in range(6):  # the farthest point from all centres, by brute force
        away = {
            i: min(float(np.linalg.norm(points[i] - points[c])) for c in centres) for i in range(30) if i not in centres
        }
        expected.append(max(away, key=away.__getitem__))
        centres.append(expected[-1])
    assert chosen == expected


def test_k_centre_covers_within_twice_the_optimum() -> None:
    frames = made_up(12, seed=5)
    points = np.array([frame.descriptor for frame in frames])
    away = np.linalg.norm(points[:, None] - points[None], axis=2)

    def radius(centres: list[int]) -> float:
        return float(away[:, centres].min(axis=1).max())

    best = min(radius(list(centres)) for centres in itertools.combinations(range(12), 3))
    greedy = radius([one.index for one in choose_frames(frames, 3, "diverse")])
    assert greedy <= 2 * best + 1e-9  # Gonzalez 1985


def test_twins_are_not_both_chosen() -> None:
    frames = made_up(10)
    twins = [*frames, *frames]
    chosen = {one.index % 10 for one in choose_frames(twins, 10)}
    assert len(chosen) == 10


def test_of_equally_distant_frames_the_unsure_and_rare_come_first() -> None:
    def frame(which: int, uncertainty: float, rare: float) -> FrameFacts:
        descriptor = np.zeros(8)
        descriptor[which] = 1.0  # all as far from each other
        return FrameFacts(descriptor, uncertainty, np.array([1 - rare, rare]))

    frames = [frame(0, 0.1, 0.0), frame(1, 0.9, 0.0), frame(2, 0.1, 0.3), frame(3, 0.9, 0.3)]
    order = [one.index for one in choose_frames(frames, 4)]
    assert order[0] == 3
    assert order[-1] == 0


def test_known_frames_are_left_out_and_kept_away_from() -> None:
    frames = made_up(20)
    twin = FrameFacts(frames[2].descriptor, 1.0, frames[2].shares)  # most uncertain, but already labelled
    chosen = choose_frames([*frames, twin], 20, known=[2])
    assert 2 not in {one.index for one in chosen}
    assert chosen[-1].index == 20
    assert chosen[-1].distance == 0


def test_the_command_knows_the_methods() -> None:
    assert settings.METHODS == METHODS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [1, 7, 50])
def test_each_frame_once_and_no_more_than_there_are(method: str, count: int) -> None:
    frames = made_up(11)
    chosen = [one.index for one in choose_frames(frames, count, method, known=[3])]
    assert len(chosen) == len(set(chosen)) == min(count, 10)
    assert 3 not in chosen
    assert chosen == [one.index for one in choose_frames(frames, count, method, known=[3])]


def test_uniform_is_spread_and_random_follows_its_seed() -> None:
    frames = made_up(9)
    assert [one.index for one in choose_frames(frames, 3, "uniform")] == [0, 4, 8]
    draws = {tuple(one.index for one in choose_frames(frames, 3, "random", seed=seed)) for seed in range(6)}
    assert len(draws) > 1


def test_uncertain_is_in_order_of_uncertainty() -> None:
    frames = made_up(15)
    values = [one.uncertainty for one in choose_frames(frames, 15, "uncertain")]
    assert values == sorted(values, reverse=True)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="no method 'best'"):
        choose_frames(made_up(2), 1, "best")
    with pytest.raises(ConfigError, match="count"):
        choose_frames(made_up(2), 0)
