"""Test-time augmentation: predict a scan from several views of it and average the probabilities.

A view is the scan mirrored, rotated about the vertical axis through the sensor and scaled, as in training's augmentation.
Views are spread evenly (Halton 1960) instead of drawn, so the same count gives the same labels everywhere. The first view
is the scan itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.core.errors import ConfigError

__all__ = ["Views"]


@dataclass(frozen=True)
class Views:
    """How many views there are, and how far they differ from the scan.

    Args:
        count: 1 predicts the scan as it is; the time is proportional to it.
        yaw_degrees: largest rotation to either side.
        scale: largest relative change of size.
        flip: mirror every second view across the driving direction (y -> -y).

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

    def of(self, points: Tensor, number: int) -> Tensor:
        """View `number` of a scan (N, 4 + E) of x, y, z in metres, remission and further columns; the order stays."""
        if number == 0:
            return points
        yaw = math.radians(self.yaw_degrees) * (2 * _halton(number, 2) - 1)
        scale = 1 + self.scale * (2 * _halton(number, 3) - 1)
        mirror = -1.0 if self.flip and number % 2 else 1.0
        cos, sin = scale * math.cos(yaw), scale * math.sin(yaw)
        # each row says where x, y, z or remission goes; angles are in float64, and the scan keeps its dtype
        matrix_44 = torch.tensor(
            [[cos, sin, 0, 0], [-sin * mirror, cos * mirror, 0, 0], [0, 0, scale, 0], [0, 0, 0, 1]],
            dtype=points.dtype,
            device=points.device,
        )
        view_N4 = points[:, :4] @ matrix_44
        return torch.cat([view_N4, points[:, 4:]], dim=1) if points.shape[1] > 4 else view_N4


def _halton(number: int, base: int) -> float:
    """Element `number` of the Halton sequence of a base, in 0..1."""
    value, share = 0.0, 1.0
    while number:
        share /= base
        number, digit = divmod(number, base)
        value += share * digit
    return value
