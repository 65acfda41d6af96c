"""Points -> pixels of a range image: a row for each beam of the sensor, a column for each step of azimuth.

A pixel is the region that the sensor sees through one cell of the image (a frustum); many points may share one.
Legend: M points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointseg.core.errors import ConfigError

__all__ = ["Pixels", "RangeImage"]

MOST_PIXELS = 1 << 22


@dataclass(frozen=True)
class RangeImage:
    """The image that a sensor's points are projected to.

    Rows are spaced evenly over the vertical field of view, the highest first, or follow a table of beams. Points beyond the
    field of view go to the first or last row.

    Args:
        height, width: rows and columns.
        field_of_view: upper and lower limit of the elevation, degrees.
        beams: elevation of each beam, degrees, for sensors whose beams are not spaced evenly; a point belongs to the nearest
            one. Then `field_of_view` is not used.

    Raises:
        ConfigError: for a size below 1, limits that do not descend, or beams that do not.

    Example:
        >>> RangeImage(64, 512).rows_and_columns(torch.tensor([[10.0, 0.0, 0.0]]))
        (tensor([6]), tensor([256]))
    """

    height: int = 64
    width: int = 512
    field_of_view: Sequence[float] = (3.0, -25.0)
    beams: Sequence[float] | None = None

    def __post_init__(self) -> None:
        for name, size in (("height", self.height), ("width", self.width)):
            if size < 1:
                raise ConfigError(f"{size} is less than 1", where=f"model.{name}")
        if self.height * self.width > MOST_PIXELS:
            what = f"{self.height:,} x {self.width:,} are more than {MOST_PIXELS:,} pixels"
            raise ConfigError(what, where="model.width", remedy="Give the sensor's beams and steps, or fewer.")
        if len(self.field_of_view) != 2 or not self.field_of_view[0] > self.field_of_view[1]:
            raise ConfigError(
                f"{list(self.field_of_view)} is not an upper and a lower limit",
                where="model.field_of_view",
                remedy="Give degrees, the upper limit first: model.field_of_view=[3,-25].",
            )
        if self.beams is not None and (
            len(self.beams) < 2 or any(not high > low for high, low in pairwise(self.beams))
        ):
            raise ConfigError(
                f"{list(self.beams)} do not descend",
                where="model.beams",
                remedy="Give the elevation of each beam in degrees, the highest first.",
            )

    def rows_and_columns(self, coords_M3: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column (M,) int64 of points in metres; column 0 is behind the sensor, and azimuth falls to the right."""
        x_M, y_M, z_M = coords_M3.float().unbind(1)
        distance_M = coords_M3.float().norm(dim=1).clamp(min=1e-6)  # the origin has no direction
        column_M = (0.5 * (1.0 - torch.atan2(y_M, x_M) / math.pi) * self.width).long()
        return self._rows(torch.asin((z_M / distance_M).clamp(-1.0, 1.0))), column_M.clamp_(0, self.width - 1)

    def _rows(self, elevation_M: Tensor) -> Tensor:
        if self.beams is None:
            upper, lower = (math.radians(limit) for limit in self.field_of_view)
            row_M = ((upper - elevation_M) / (upper - lower) * self.height).floor().long()
            return row_M.clamp_(0, self.height - 1)
        between = [-math.radians((high + low) / 2) for high, low in pairwise(self.beams)]
        edges = torch.tensor(between, dtype=elevation_M.dtype, device=elevation_M.device)
        beam_M = torch.bucketize(-elevation_M, edges)
        return torch.div(beam_M * self.height, len(self.beams), rounding_mode="floor")


class _LargestInPixel(torch.autograd.Function):
    """`scatter_reduce` with "amax", whose own backward takes three times as long on a processor; points that are equally
    large share the gradient, as there."""

    @staticmethod
    def forward(ctx: Any, x_MC: Tensor, index_M: Tensor, pixels: int) -> Tensor:
        image_PC = x_MC.new_zeros(pixels, x_MC.shape[1])
        image_PC.scatter_reduce_(0, index_M[:, None].expand_as(x_MC), x_MC, "amax", include_self=False)
        ctx.save_for_backward(x_MC, index_M, image_PC)
        return image_PC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_PC: Tensor) -> Any:  # type: ignore[override]
        x_MC, index_M, image_PC = ctx.saved_tensors
        largest_MC = (x_MC == image_PC.index_select(0, index_M)).float()
        ties_PC = torch.zeros_like(image_PC, dtype=torch.float32).index_add_(0, index_M, largest_MC)
        share_PC = grad_PC / ties_PC.clamp_(min=1.0)
        return largest_MC.mul_(share_PC.index_select(0, index_M)).to(grad_PC.dtype), None, None


class Pixels:
    """Which pixel each point of a batch belongs to, in the image and in smaller ones.

    Args:
        image: the projection.
        coords_M3: metres, all clouds one after the other.
        cloud_M: the cloud that each point belongs to.
        clouds: how many there are.
    """

    def __init__(self, image: RangeImage, coords_M3: Tensor, cloud_M: Tensor, clouds: int) -> None:
        self.image, self.clouds, self.cloud_M = image, clouds, cloud_M
        self.row_M, self.column_M = image.rows_and_columns(coords_M3)
        self._index: dict[int, Tensor] = {}

    def shape(self, stride: int = 1) -> tuple[int, int, int]:
        """(B, rows, columns) of the image at a stride: what strided 3 x 3 convolutions leave of it."""
        return self.clouds, -(-self.image.height // stride), -(-self.image.width // stride)

    def index(self, stride: int = 1) -> Tensor:
        """(M,) int64: the point's pixel, counted through the images of all clouds."""
        if stride not in self._index:
            _, rows, columns = self.shape(stride)
            within_M = (self.row_M // stride) * columns + self.column_M // stride
            self._index[stride] = self.cloud_M * (rows * columns) + within_M
        return self._index[stride]

    def maximum(self, x_MC: Tensor, stride: int = 1) -> Tensor:
        """(M, C) -> image (B, C, H, W), channels last: the largest value among the pixel's points; 0 where there is none."""
        image_PC: Tensor = _LargestInPixel.apply(x_MC, self.index(stride), math.prod(self.shape(stride)))
        return image_PC.view(*self.shape(stride), -1).permute(0, 3, 1, 2)

    def occupied(self) -> Tensor:
        """(B, H, W, 1) bool: whether a point lies in the pixel."""
        filled_P = torch.zeros(math.prod(self.shape()), dtype=torch.bool, device=self.cloud_M.device)
        filled_P[self.index()] = True
        return filled_P.view(*self.shape(), 1)

    def offsets(self, coords_M3: Tensor) -> Tensor:
        """(M, 3) metres from the mean of the pixel's points."""
        pixels, index_M = math.prod(self.shape()), self.index()
        sums_P4 = coords_M3.new_zeros(pixels, 4).index_add_(
            0, index_M, torch.nn.functional.pad(coords_M3, (0, 1), value=1.0)
        )
        mean_P3 = sums_P4[:, :3] / sums_P4[:, 3:].clamp(min=1.0)
        return coords_M3 - mean_P3.index_select(0, index_M)

    def gather(self, image_BCHW: Tensor, stride: int = 1, points: Tensor | None = None) -> Tensor:
        """Image -> (M, C): the values of each point's pixel.

        Args:
            points: only of these, (n,) indices.
        """
        rows_PC = image_BCHW.permute(0, 2, 3, 1).reshape(-1, image_BCHW.shape[1])
        index_M = self.index(stride)
        return rows_PC.index_select(0, index_M if points is None else index_M.index_select(0, points))
