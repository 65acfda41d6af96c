"""A scan to try the service with: a synthetic street, made when it is asked for."""

from __future__ import annotations

from functools import cache

import numpy as np

from pointseg.data.synthetic import SyntheticWorld

__all__ = ["sample_scan"]

WORLD, STREET, FRAME = 60, 0, 0  # a street of houses that no default training knows
BEAMS, STEPS = 64, 2000  # a turn of the sensor as in SemanticKITTI


@cache
def sample_scan() -> bytes:
    """The body of a `.bin` file, float32 (N, 4) rows of x, y, z in metres and remission, 1.8 MB: the same at every
    call. Takes a third of a second the first time and needs NumPy only.

    Example:
        >>> len(sample_scan()) // 16
        112656
    """
    points = SyntheticWorld(WORLD, BEAMS, STEPS).scan(STREET, FRAME).points
    return np.ascontiguousarray(points, "<f4").tobytes()
