"""Random numbers as a function of their purpose: an integer counter hash of (seed, epoch, index, purpose).

There is no generator state, so a draw does not depend on earlier draws, nor on the worker, rank or process.
The hash is SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) in wrapping
64-bit integer arithmetic. Every function takes NumPy arrays or torch tensors of int64, on any device, and gives the
same bits for both.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Purpose", "below", "derive", "hash_counter", "normal", "permutation", "random_key", "uniform", "unit"]

Integers = TypeVar("Integers", NDArray[np.int64], Tensor)

GOLDEN = 0x9E3779B97F4A7C15
MULTIPLIERS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
BITS_64 = (1 << 64) - 1


class Purpose(IntEnum):
    """What a draw is for. Numbers are never reused: a new purpose takes the next one."""

    ORDER = 1
    POINTS = 2
    CLOUD_SIZE = 3
    AUGMENTATION = 4
    JITTER = 5
    POINT_DROPOUT = 6
    INFERENCE = 7
    NETWORK_DROPOUT = 8
    SHUFFLE = 9
    SCAN_CHOICE = 10
    REMISSION_NOISE = 11
    MIX = 12
    MIX_PARTNER = 13
    PASTE = 14
    COLLECTION = 15
    TRAINED_POINTS = 16
    LASER_MIX = 17
    REMISSION = 18


def _signed(value: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit value."""
    return value - (1 << 64) if value >> 63 else value


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * MULTIPLIERS[0]) & BITS_64
    x = ((x ^ (x >> 27)) * MULTIPLIERS[1]) & BITS_64
    return x ^ (x >> 31)


def random_key(*counters: int) -> int:
    """Hash (seed, epoch, index, purpose, ...) into one int64, as a Python int."""
    state = 0
    for counter in counters:
        state = _mix_int((state + GOLDEN + (int(counter) & BITS_64) * MULTIPLIERS[1]) & BITS_64)
    return _signed(state)


def below(count: int, stream: int) -> int:
    """A random whole number of 0..count-1."""
    return (stream & BITS_64) % count


def unit(stream: int) -> float:
    """A random number in [0, 1)."""
    return ((stream & BITS_64) >> 11) / (1 << 53)


def _shift(x: Integers, bits: int) -> Integers:
    """Logical (not sign-extending) right shift of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def hash_counter(keys: Integers) -> Integers:
    """SplitMix64's finaliser on int64 arrays or tensors of any shape."""
    x = (keys ^ _shift(keys, 30)) * _signed(MULTIPLIERS[0])
    x = (x ^ _shift(x, 27)) * _signed(MULTIPLIERS[1])
    return x ^ _shift(x, 31)


def derive(keys: Integers, counters: Integers) -> Integers:
    """Independent sub-streams: hash of each key with a counter, broadcast together."""
    return hash_counter(keys + (counters + 1) * _signed(GOLDEN))


def uniform(hashes: Tensor) -> Tensor:
    """Hashes -> float32 in [0, 1), multiples of 2^-24: the same numbers on every device."""
    return _shift(hashes, 40).to(torch.float32) * (1.0 / (1 << 24))


def normal(hashes: Tensor) -> Tensor:
    """Hashes -> float32 standard normal numbers (Box and Muller 1958)."""
    radius = torch.sqrt(-2.0 * torch.log1p(-uniform(hashes)))
    return radius * torch.cos(2.0 * math.pi * uniform(hash_counter(hashes)))


def permutation(count: int, stream: int) -> NDArray[np.int64]:
    """A random order of 0..count-1."""
    # argsort has no ties to break: the hashes of different counters differ
    return np.argsort(derive(np.full(1, stream, np.int64), np.arange(count, dtype=np.int64)))
