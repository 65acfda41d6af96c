"""The kept voxels of a batch as one list of rows, and the three planes that they are projected to.

Each plane keeps a window only, around the occupied cells of the batch: an empty cell more than one away from an occupied one
influences no occupied one through the two convolutions.

Legend: B clouds, N points, V voxels of the batch, C channels, O occupied cells, H, W cells of a window, Q neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pointseg.core.extras import Extras
from pointseg.models.waffleiron.rows import Groups

__all__ = ["PLANES", "Plane", "Voxels"]

PLANES = ((0, 1), (0, 2), (1, 2))  # axes of the planes across z, y and x, in the order in which layers use them


@dataclass(frozen=True)
class Plane:
    """Where the voxels lie on one plane.

    Attributes:
        shape: (B, H, W) of the windows.
        occupied_O: occupied cells, as indices into the flattened windows.
        cloud_O: the cloud of each.
        groups: the voxels of each.
    """

    shape: tuple[int, int, int]
    occupied_O: Tensor
    cloud_O: Tensor
    groups: Groups

    @classmethod
    def of(cls, cloud_V: Tensor, cells_V2: Tensor, extent_B22: Tensor, grid: tuple[int, int]) -> Plane:
        """A plane.

        Args:
            cloud_V: the cloud of each voxel.
            cells_V2: its cell along the two axes of the plane.
            extent_B22: first and last occupied cell of each cloud, along both axes.
            grid: cells of the whole plane, along both axes.
        """
        last_2 = torch.tensor(grid, device=cells_V2.device) - 1
        low_B2 = (extent_B22[:, :, 0] - 1).clamp(min=0)
        high_B2 = torch.minimum(extent_B22[:, :, 1] + 1, last_2)
        size_2 = (high_B2 - low_B2 + 1).amax(dim=0)
        start_B2 = torch.minimum(low_B2, last_2 + 1 - size_2)
        height, width = size_2.tolist()
        place_V2 = cells_V2 - start_B2[cloud_V]
        cell_V = (cloud_V * height + place_V2[:, 0]) * width + place_V2[:, 1]
        occupied_O, group_V, counts_O = torch.unique(cell_V, return_inverse=True, return_counts=True)
        cloud_O = torch.div(occupied_O, height * width, rounding_mode="floor")
        return cls((len(extent_B22), height, width), occupied_O, cloud_O, Groups.of(group_V, counts_O))

    def image(self, x_OC: Tensor) -> Tensor:
        """(B, C, H, W) in channels-last order, zeros in empty cells."""
        clouds, height, width = self.shape
        rows = x_OC.new_zeros(clouds * height * width, x_OC.shape[1]).index_copy(0, self.occupied_O, x_OC)
        return rows.view(clouds, height, width, -1).permute(0, 3, 1, 2)

    def cells(self, image_BCHW: Tensor) -> Tensor:
        """(O, C): what the occupied cells hold."""
        rows = image_BCHW.permute(0, 2, 3, 1).reshape(-1, image_BCHW.shape[1])
        return rows.index_select(0, self.occupied_O)


class Voxels:
    """The kept voxels of all clouds, one after the other, so that padding is in none of the layers.

    Args:
        extras: of the batch, (B, ...), see `preparation.prepared`.
        points: N.
        grid: cells along x, y and z.

    Attributes:
        counts: voxels of each cloud.
        cloud_V: the cloud of each voxel.
        point_V: the point that stands for each, as an index into the flattened batch (B * N).
        neighbours_VQ: rows.
        answer_BN: the row that answers for each point; some row for padded points.
    """

    def __init__(self, extras: Extras, points: int, grid: Sequence[int]) -> None:
        counts_B = extras["voxels"].long()
        clouds, longest = extras["kept"].shape
        device = counts_B.device
        real_BV = torch.arange(longest, device=device) < counts_B[:, None]
        first_B = counts_B.cumsum(0) - counts_B
        self.counts: list[int] = counts_B.tolist()
        self.cloud_V = torch.arange(clouds, device=device).repeat_interleave(counts_B)
        self.point_V = (extras["kept"].long() + points * torch.arange(clouds, device=device)[:, None])[real_BV]
        self.neighbours_VQ = extras["neighbours"][real_BV].long() + first_B[self.cloud_V][:, None]
        self.answer_BN = extras["answer"].long() + first_B[:, None]
        self._cells_V3, self._extent_B32 = extras["cells"][real_BV].long(), extras["extent"].long()
        self._grid = tuple(int(cells) for cells in grid)

    def plane(self, axes: tuple[int, int]) -> Plane:
        """The plane that two axes span."""
        both = list(axes)
        grid = (self._grid[axes[0]], self._grid[axes[1]])
        return Plane.of(self.cloud_V, self._cells_V3[:, both], self._extent_B32[:, both], grid)
