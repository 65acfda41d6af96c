"""Counter-based random numbers: the right bits, on NumPy and torch alike, and with the right distribution."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from pointseg.core.randomness import Purpose, below, derive, hash_counter, normal, permutation, random_key, uniform

# The first outputs of SplitMix64 from state 0 and state 1234567, as published with its reference implementation.
FROM_0 = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
FROM_1234567 = (6457827717110365317, 3203168211198807973, 9817491932198370423)


def splitmix(state: int, count: int) -> list[int]:
    """Plain SplitMix64 (Steele, Lea, Flood 2014) on Python integers."""
    outputs = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        outputs.append(z ^ (z >> 31))
    return outputs


def derived(state: int, count: int) -> list[int]:
    hashes = derive(np.array([state], np.uint64).view(np.int64), np.arange(count, dtype=np.int64))
    return hashes.view(np.uint64).tolist()


@pytest.mark.parametrize(("state", "expected"), [(0, FROM_0), (1234567, FROM_1234567)])
def test_streams_are_splitmix64(state: int, expected: tuple[int, ...]) -> None:
    assert derived(state, 3) == list(expected)


def test_streams_from_states_with_the_top_bit_are_splitmix64() -> None:
    assert derived(2**64 - 5, 100) == splitmix(2**64 - 5, 100)


def test_key_of_0_is_the_first_output() -> None:
    assert random_key(0) % 2**64 == FROM_0[0]


def test_numpy_and_torch_give_the_same_bits() -> None:
    keys = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 1000)
    assert np.array_equal(hash_counter(keys), hash_counter(torch.from_numpy(keys)).numpy())


def test_derived_streams_are_the_same_for_numpy_and_torch() -> None:
    keys = np.random.default_rng(1).integers(-(2**63), 2**63 - 1, (50, 1))
    counters = np.arange(40)
    expected = derive(keys, counters)
    assert np.array_equal(expected, derive(torch.from_numpy(keys), torch.from_numpy(counters)).numpy())


def test_keys_depend_on_the_order_of_counters() -> None:
    keys = {random_key(*counters) for counters in ((1, 2, 3), (1, 3, 2), (2, 1, 3), (3, 2, 1), (1, 2), (1, 2, 3, 0))}
    assert len(keys) == 6


def test_keys_of_a_grid_of_counters_are_distinct() -> None:
    keys = {random_key(seed, epoch, index) for seed in range(20) for epoch in range(20) for index in range(50)}
    assert len(keys) == 20 * 20 * 50


def test_purposes_are_distinct() -> None:
    assert len({random_key(0, int(purpose)) for purpose in Purpose}) == len(Purpose.__members__)


def test_below_is_within_and_uniform() -> None:
    draws = np.array([below(10, random_key(index)) for index in range(5000)])
    counts = np.bincount(draws, minlength=10)
    assert len(counts) == 10
    assert ((counts - 500) ** 2 / 450).sum() < 30  # chi-square of 9 degrees of freedom


def test_orders_of_neighbouring_keys_are_independent() -> None:
    # the first 100 of two orders of 1000 share 10 on average, with a variance of 10 * 0.9 * 0.9 * 1000 / 999
    first = [permutation(1000, random_key(0, 0, index))[:100] for index in range(501)]
    shared = [len(np.intersect1d(a, b)) for a, b in pairwise(first)]
    assert abs(np.mean(shared) - 10) < 4 * np.sqrt(8.1 / 500)


def test_permutation_holds_each_number_once() -> None:
    assert np.sort(permutation(777, random_key(3))).tolist() == list(range(777))


def test_permutations_put_each_number_everywhere_equally_often() -> None:
    rounds, size = 3000, 8
    counts = np.zeros((size, size))
    for index in range(rounds):
        counts[np.arange(size), permutation(size, random_key(0, index, Purpose.ORDER))] += 1
    chi_square = ((counts - rounds / size) ** 2 / (rounds / size)).sum()
    freedom = (size - 1) ** 2
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom) + 4


def test_uniform_numbers_lie_in_the_half_open_interval() -> None:
    extremes = uniform(torch.tensor([0, -1, 2**63 - 1, -(2**63)]))
    assert extremes.tolist() == [0.0, 1 - 2**-24, 0.5 - 2**-24, 0.5]


def test_uniform_numbers_are_uniform() -> None:
    values = uniform(derive(torch.tensor([random_key(5)]), torch.arange(100_000))).double()
    counts = torch.histc(values, bins=100, min=0, max=1)
    chi_square = float(((counts - 1000) ** 2 / 1000).sum())
    assert abs(chi_square - 99) < 4 * np.sqrt(2 * 99)


def test_normal_numbers_have_the_moments_of_a_normal_distribution() -> None:
    count = 200_000
    values = normal(derive(torch.tensor([random_key(6)]), torch.arange(count))).double()
    moments = [float((values**power).mean()) for power in (1, 2, 3, 4)]
    # the standard error of the k-th moment is sqrt((E x^2k - (E x^k)^2) / count)
    errors = np.sqrt(np.array([1, 2, 15, 96]) / count)
    assert (np.abs(np.array(moments) - [0, 1, 0, 3]) < 4 * errors).all()


def test_normal_numbers_are_finite_for_every_hash() -> None:
    assert torch.isfinite(normal(torch.tensor([0, -1, 2**63 - 1, -(2**63)]))).all()
