"""Which frames to label next: those that a model is unsure of, that show what is seldom, and that are unlike those chosen.

A frame is described by the model's mean probabilities in three rings of distance, so frames of one place are alike and no
network of its own is needed. Frames are taken one after another: the farthest from all that are chosen, as in k-centre
greedy (Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018), its
distance times what the frame is worth by itself. Needs NumPy only.

Legend: N points, K classes, F frames, D = 3 K.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError

__all__ = ["METHODS", "Chosen", "FrameFacts", "choose_frames", "describe_frame"]

METHODS = ("learn", "diverse", "uncertain", "uniform", "random")
RINGS = (10.0, 25.0)  # metres: near, middle and far count alike, though most points are near
LEAST = 0.25  # what a frame is worth of which the model is sure and that shows nothing rare
EPS = 1e-6


@dataclass(frozen=True)
class FrameFacts:
    """What is known of a frame without a label.

    Attributes:
        descriptor: (D,) square roots of mean probabilities: distances of two are those of Hellinger, 0 to sqrt(2).
        uncertainty: mean entropy of the model's answers over the rings, 0 to 1.
        shares: (K,) expected shares of the classes.
    """

    descriptor: NDArray[np.float64]
    uncertainty: float
    shares: NDArray[np.float64]


@dataclass(frozen=True)
class Chosen:
    """A frame and why it was taken.

    Attributes:
        index: of the frame.
        uncertainty: as of `FrameFacts`.
        rarity: 0 to 1, relative to the other frames.
        distance: to the nearest frame that was chosen before, 0 to sqrt(2); infinite for the first.
    """

    index: int
    uncertainty: float
    rarity: float
    distance: float


def describe_frame(points: NDArray[np.float32], probabilities: NDArray[np.float32]) -> FrameFacts:
    """The facts of a frame.

    Args:
        points: (N, 3 or more), metres around the sensor.
        probabilities: (N, K) of the model, rows adding up to 1; of several views, their mean.

    Example:
        >>> points, even = np.ones((5, 3), np.float32), np.full((5, 2), 0.5, np.float32)
        >>> describe_frame(points, even).uncertainty
        1.0
    """
    ring_N = np.digitize(np.hypot(points[:, 0], points[:, 1]), RINGS)
    classes = probabilities.shape[1]
    entropy_N = -(probabilities * np.log(probabilities + EPS)).sum(axis=1) / np.log(max(classes, 2))
    means, entropies = np.zeros((len(RINGS) + 1, classes)), []
    for ring in range(len(RINGS) + 1):
        inside = ring_N == ring
        if inside.any():
            means[ring] = probabilities[inside].mean(axis=0, dtype=np.float64)
            entropies.append(float(entropy_N[inside].mean(dtype=np.float64)))
    shares = means.sum(axis=0) / max(1, len(entropies))
    descriptor = np.sqrt(means / (len(RINGS) + 1)).reshape(-1)
    return FrameFacts(descriptor, min(1.0, float(np.mean(entropies))) if entropies else 0.0, shares)


def choose_frames(
    frames: Sequence[FrameFacts], count: int, method: str = "learn", *, known: Sequence[int] = (), seed: int = 0
) -> list[Chosen]:
    """The frames to label, the most useful first.

    Args:
        count: how many; all that there are, if they are fewer.
        method: "learn": unlike those chosen, times uncertainty and rarity; "diverse": unlike those chosen; "uncertain": of
            which the model is least sure; "uniform": spread evenly over the order; "random".
        known: indices of frames that have labels already: they are not chosen, and others shall be unlike them.
        seed: of "random".

    Raises:
        ConfigError: for a method that there is not, or a count below 1.

    Example:
        >>> [one.index for one in choose_frames(frames, 2)]  # doctest: +SKIP
        [17, 3]
    """
    if method not in METHODS:
        raise ConfigError(f"there is no method {method!r}", where="method", remedy=f"Use {', '.join(METHODS)}.")
    if count < 1:
        raise ConfigError(f"{count} frames", where="count", remedy="Give 1 or more.")
    taken = set(known)
    free = [index for index in range(len(frames)) if index not in taken]
    rarity = _rarity(frames)
    count = min(count, len(free))
    if method in ("learn", "diverse"):
        order = _farthest(frames, free, list(known), count, _worth(frames, rarity) if method == "learn" else None)
    else:
        order = [(index, np.inf) for index in _listed(frames, free, count, method, seed)]
    return [Chosen(index, frames[index].uncertainty, float(rarity[index]), float(away)) for index, away in order]


def _listed(frames: Sequence[FrameFacts], free: list[int], count: int, method: str, seed: int) -> list[int]:
    if method == "uniform":
        return [free[round(at)] for at in np.linspace(0, len(free) - 1, count)]
    if method == "random":
        return [int(index) for index in np.random.default_rng(seed).permutation(free)[:count]]
    return sorted(free, key=lambda index: -frames[index].uncertainty)[:count]


def _rarity(frames: Sequence[FrameFacts]) -> NDArray[np.float64]:
    """(F,) how much each frame shows of what is seldom in all of them, 0 to 1."""
    shares_FK = np.array([frame.shares for frame in frames])
    weighted_F = (shares_FK / np.sqrt(shares_FK.mean(axis=0) + 1e-4)).sum(axis=1)
    return _ranks(weighted_F)


def _worth(frames: Sequence[FrameFacts], rarity: NDArray[np.float64]) -> NDArray[np.float64]:
    uncertain = _ranks(np.array([frame.uncertainty for frame in frames]))
    return LEAST + (1 - LEAST) * (uncertain + rarity) / 2


def _ranks(values_F: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0 to 1, which no outlier bends; equal values have equal ranks."""
    below = np.searchsorted(np.sort(values_F), values_F)
    return np.asarray(below / max(1, len(values_F) - 1), np.float64)


def _farthest(
    frames: Sequence[FrameFacts], free: list[int], known: list[int], count: int, worth: NDArray[np.float64] | None
) -> list[tuple[int, float]]:
    """Index and distance of each, taken greedily; without a known one the first is the most worth, or the most central."""
    points_FD = np.array([frame.descriptor for frame in frames])
    worth_F = np.ones(len(frames)) if worth is None else worth
    nearest_F = np.full(len(frames), np.inf)
    for index in known:
        nearest_F = np.minimum(nearest_F, np.linalg.norm(points_FD - points_FD[index], axis=1))
    left, order = np.zeros(len(frames), bool), []
    left[free] = True
    for _ in range(count):
        if np.isinf(nearest_F).all():
            from_middle_F = np.linalg.norm(points_FD - points_FD.mean(axis=0), axis=1)
            score_F = worth_F - (1e-3 if worth is not None else 1.0) * from_middle_F
        else:
            score_F = worth_F * nearest_F
        index = int(np.argmax(np.where(left, score_F, -np.inf)))
        order.append((index, float(nearest_F[index])))
        left[index] = False
        nearest_F = np.minimum(nearest_F, np.linalg.norm(points_FD - points_FD[index], axis=1))
    return order
