"""Test-time augmentation: a scan predicted from several views of it, and the probabilities averaged.

A view is the scan mirrored, turned about the vertical axis through the sensor and scaled: what training's augmentation does,
so that the model knows such scans, and the mean over views is less sensitive to any one of them. Views are spread evenly
(Halton 1960) instead of drawn, so that the same count gives the same labels everywhere. The first one is the scan itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.errors import ConfigError

__all__ = ["Views"]


@dataclass(frozen=True)
class Views:
    """How many views, and how far from the scan they go.

    Args:
        count: 1 predicts the scan as it is; the time grows with it.
        yaw_degrees: turned by at most so much to each side.
        scale: made larger or smaller by at most this share.
        flip: mirror every second one across the driving direction (y -> -y).

    Raises:
        ConfigError: naming the key.

    Example:
        >>> Predictor.load(run_folder, views=Views(4))
    """

    count: int = 1
    yaw_degrees: float = 10.0
    scale: float = 0.03
    flip: bool = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ConfigError(f"{self.count} is less than 1", where="views.count")
        if not 0 <= self.yaw_degrees <= 180:
            raise ConfigError(f"{self.yaw_degrees} is not in 0..180", where="views.yaw_degrees")
        if not 0 <= self.scale < 1:
            raise ConfigError(f"{self.scale} is not in 0..1", where="views.scale")

    def of(self, points_N4: Tensor, number: int) -> Tensor:
        """View `number` (N, 4) of a scan (N, 4): x, y, z in metres and remission, in the same order."""
        if number == 0:
            return points_N4
        yaw = math.radians(self.yaw_degrees) * (2 * _halton(number, 2) - 1)
        scale = 1 + self.scale * (2 * _halton(number, 3) - 1)
        mirror = -1.0 if self.flip and number % 2 else 1.0
        cos, sin = scale * math.cos(yaw), scale * math.sin(yaw)
        # rows: where x, y, z and remission go; float64 for the angle alone, the scan keeps its type
        matrix_44 = torch.tensor(
            [[cos, sin, 0, 0], [-sin * mirror, cos * mirror, 0, 0], [0, 0, scale, 0], [0, 0, 0, 1]],
            dtype=points_N4.dtype,
            device=points_N4.device,
        )
        return points_N4 @ matrix_44


def _halton(number: int, base: int) -> float:
    """Element `number` of Halton's sequence in a base, in 0..1."""
    value, share = 0.0, 1.0
    while number:
        share /= base
        number, digit = divmod(number, base)
        value += share * digit
    return value
