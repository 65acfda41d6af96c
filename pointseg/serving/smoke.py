"""A synthetic street to try services with, and the test of a service with it before callers are sent there."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ServiceError
from pointseg.data.synthetic import SyntheticWorld
from pointseg.serving.client import Client

__all__ = ["Passed", "sample_points", "sample_scan", "smoke_test"]

WORLD, STREET, FRAME = 60, 0, 0  # a street of houses that no default training knows
BEAMS, STEPS = 64, 2000  # a turn of the sensor as in SemanticKITTI


@cache
def sample_scan() -> bytes:
    """The body of a `.bin` file, float32 (N, 4) rows of x, y, z in metres and remission, 1.8 MB: the same at every
    call. Takes a third of a second the first time and needs NumPy only.

    Example:
        >>> len(sample_scan()) // 16
        112692
    """
    points = SyntheticWorld(WORLD, BEAMS, STEPS).scan(STREET, FRAME).points
    return np.ascontiguousarray(points, "<f4").tobytes()


LEAST_AGREEMENT = 0.999  # of labels: sums are added in another order on another machine


class Passed(NamedTuple):
    """What a service answered: points, seconds, and how many classes it found."""

    points: int
    seconds: float
    classes: int

    def __str__(self) -> str:
        return f"{self.points:,} points in {self.seconds:.1f} s, {self.classes} classes"


def sample_points() -> NDArray[np.float32]:
    """The scan that services are tried with: (N, 4) x, y, z in metres and remission."""
    return np.frombuffer(sample_scan(), "<f4").reshape(-1, 4).astype(np.float32)


def smoke_test(
    url: str,
    key: str | None,
    *,
    sha256: str | None = None,
    expected: NDArray[np.uint32] | None = None,
    timeout: float = 120.0,
) -> Passed:
    """Have a synthetic street labelled, and look at the answer.

    Args:
        url: of the service, with or without /score.
        key: that it asks for.
        sha256: of the model that it shall serve; None where the service does not say (Azure's inference server).
        expected: labels of `sample_points` by that model, (N,) raw ids; nearly all must be the same.
        timeout: seconds for the whole.

    Raises:
        ServiceError: if it cannot be reached, refuses, or does not answer as that model.

    Example:
        >>> str(smoke_test("http://127.0.0.1:8000", None))
        '112,692 points in 0.8 s, 14 classes'
    """
    points = sample_points()
    with Client(url, key, timeout=timeout, retries=2) as client:
        if sha256 is not None and (served := client.metadata()["model"].get("sha256")) != sha256:
            text = f"it serves the model {str(served)[:12]} and not {sha256[:12]}"
            raise ServiceError(text, where=client.url, remedy="Look whether another service has this address.")
        scored = client.score(points)
    if expected is not None and (share := float(np.mean(scored.labels == expected))) < LEAST_AGREEMENT:
        text = f"only {100 * share:.1f} % of its labels are those of the model that was deployed"
        raise ServiceError(text, where=client.url, remedy="Look which model it holds.")
    return Passed(len(points), scored.seconds, len(np.unique(scored.labels)))
