"""Matrix products of many rows, by the faster library on this processor, for the parts of the rows that fit its cache.

torch multiplies float32 matrices by MKL, which uses only AVX2 on processors that are not Intel's. oneDNN, which torch has for
other dtypes and layers, uses AVX-512 everywhere: on an AMD processor that has it, 2.2 times the speed (docs/speed.md). The
choice depends on the processor and the number of rows alone, so the same batch gives the same bits at every call; the results
of the two differ by rounding.

On a CPU a part is a piece of one cloud that stays in the cache while everything that needs it is done; on a GPU, which needs
much work at once, it is all rows. Totals may be in a higher precision than the rows.

Legend: M rows, n rows of a part, B clouds, C input channels, O output channels. Per-cloud tensors have B in front: weights
(B, O, C), bias (B, O).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pointseg.models.layers import Rows

__all__ = [
    "ROWS",
    "RowPart",
    "add_outer",
    "channels_first",
    "linear",
    "onednn_is_faster",
    "parts_of",
    "product",
    "rows_at_once",
]

ROWS = 512  # oneDNN compiles a kernel for each number of rows: only multiples of this are worth it
SIZE = 1 << 19  # numbers in the widest rows of a part: 2 MB; smaller parts stay closer, and cost more in calls
LEAST, MOST = ROWS, 8 * ROWS


def linear(
    x_nC: Tensor,
    weight_OC: Tensor,
    bias_O: Tensor | None = None,
    *,
    relu: bool = False,
    out: Tensor | None = None,
    room: Tensor | None = None,
) -> Tensor:
    """x W^T + b (n, O), followed by a ReLU with `relu`.

    Args:
        out: where the result must be written.
        room: where it may be written, if that saves memory.
    """
    if _by_onednn(x_nC):
        kind = "relu" if relu else "none"
        y_nO: Tensor = torch.ops.mkldnn._linear_pointwise(x_nC, weight_OC, bias_O, kind, [], "")
        return y_nO if out is None else out.copy_(y_nO)
    place = room if out is None else out
    weight_CO = weight_OC.mT
    y_nO = torch.mm(x_nC, weight_CO, out=place) if bias_O is None else torch.addmm(bias_O, x_nC, weight_CO, out=place)
    return y_nO.relu_() if relu else y_nO


def channels_first(weight_OC: Tensor, x_nC: Tensor, *, room: Tensor | None = None) -> Tensor:
    """W x^T (O, n)."""
    if _by_onednn(x_nC):
        return torch.ops.mkldnn._linear_pointwise(weight_OC, x_nC, None, "none", [], "")  # type: ignore[no-any-return]
    return torch.mm(weight_OC, x_nC.mT, out=room)


def product(x_nO: Tensor, weight_OC: Tensor, *, out: Tensor | None = None, room: Tensor | None = None) -> Tensor:
    """x W (n, C)."""
    return linear(x_nO, weight_OC.mT, out=out, room=room)


def add_outer(total_OC: Tensor, y_nO: Tensor, x_nC: Tensor) -> None:
    """Add y^T x."""
    if not _by_onednn(x_nC):
        total_OC.addmm_(y_nO.mT, x_nC)
    elif y_nO.shape[1] > x_nC.shape[1]:  # it copies its first argument to transpose it: the smaller one
        total_OC += torch.ops.mkldnn._linear_pointwise(x_nC.mT, y_nO.mT, None, "none", [], "").mT
    else:
        total_OC += torch.ops.mkldnn._linear_pointwise(y_nO.mT, x_nC.mT, None, "none", [], "")


def _by_onednn(x_nC: Tensor) -> bool:
    rows = len(x_nC)
    fits = rows > 0 and rows % ROWS == 0 and x_nC.dtype == torch.float32 and x_nC.device.type == "cpu"
    return fits and onednn_is_faster()


@cache
def onednn_is_faster() -> bool:
    """On AMD's processors with AVX-512."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return False
    processor = Path("/proc/cpuinfo")
    known = processor.read_text(errors="replace")[:1000] if processor.is_file() else ""
    # the operation is not part of torch's public interface: a version without it uses MKL
    return "AuthenticAMD" in known and hasattr(torch.ops.mkldnn, "_linear_pointwise")


@dataclass(frozen=True)
class RowPart:
    """Rows `place` of `rows`; those of one `cloud`, or of all clouds (None)."""

    rows: Rows
    place: slice
    cloud: int | None

    def of(self, x_MC: Tensor) -> Tensor:
        """The part's rows (n, C): a view."""
        return x_MC[self.place]

    def __len__(self) -> int:
        return self.place.stop - self.place.start

    def linear(
        self,
        x_nC: Tensor,
        weight: Tensor,
        bias: Tensor,
        *,
        relu: bool = False,
        out: Tensor | None = None,
        room: Tensor | None = None,
    ) -> Tensor:
        """x W^T + b (n, O), with weights (O, C) or (B, O, C) and bias (O) or (B, O); the rest as in `products.linear`."""
        if self.cloud is not None:
            return linear(x_nC, self._own(weight, 3), self._own(bias, 2), relu=relu, out=out, room=room)
        result = self._all_linear(x_nC, weight, bias)
        if relu:
            result.relu_()
        return result if out is None else out.copy_(result)

    def product(self, grad_nO: Tensor, weight: Tensor, out: Tensor) -> Tensor:
        """grad W (n, C) into `out`: the gradient of a linear layer's input."""
        if self.cloud is not None or weight.ndim == 2:
            return product(grad_nO, self._own(weight, 3), out=out)
        return out.copy_(self._all_linear(grad_nO, weight.mT, grad_nO.new_zeros(weight.shape[2])))

    def add_outer(self, total: Tensor, y_nO: Tensor, x_nC: Tensor) -> None:
        """Add y^T x to a total (O, C), or to that of each cloud (B, O, C)."""
        if total.dtype != y_nO.dtype:
            half = torch.zeros_like(total, dtype=y_nO.dtype)
            self.add_outer(half, y_nO, x_nC)
            total += half
        elif self.cloud is not None or total.ndim == 2:
            add_outer(self._own(total, 3), y_nO, x_nC)
        elif self.rows.cloud_M is None:
            shape = self.rows.clouds, self.rows.points, -1
            total.baddbmm_(y_nO.view(shape).mT, x_nC.view(shape))
        else:
            counts = self.rows.counts
            for own_OC, y, x in zip(total, y_nO.split(counts), x_nC.split(counts), strict=True):
                add_outer(own_OC, y, x)

    def add_sum(self, total: Tensor, x_nC: Tensor) -> None:
        """Add the sum of rows to a total (C), or to that of each cloud (B, C)."""
        if self.cloud is not None or total.ndim == 1:
            self._own(total, 2).add_(x_nC.sum(dim=0, dtype=total.dtype))
        else:
            total.add_(self.rows.sum(x_nC.to(total.dtype)))

    def _own(self, t: Tensor, dimensions: int) -> Tensor:
        """The cloud's slice of a tensor of `dimensions`, which has one slice a cloud."""
        return t[self.cloud] if self.cloud is not None and t.ndim == dimensions else t

    def _all_linear(self, x_MC: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        rows = self.rows
        if weight.ndim == 2 and bias.ndim == 1:
            return F.linear(x_MC, weight, bias)
        if rows.cloud_M is None:
            x_BNC, bias = x_MC.view(rows.clouds, rows.points, -1), bias.view(-1, 1, bias.shape[-1])
            matrix = weight.mT.expand(rows.clouds, -1, -1)
            return torch.baddbmm(bias.expand(rows.clouds, -1, -1), x_BNC, matrix).view(len(x_MC), -1)
        weights = weight.expand(rows.clouds, *weight.shape[-2:])
        biases = bias.expand(rows.clouds, bias.shape[-1])
        pieces = zip(x_MC.split(rows.counts), weights, biases, strict=True)
        return torch.cat([F.linear(piece, w, b) for piece, w, b in pieces])


def rows_at_once(device: torch.device, channels: int) -> int:
    """Rows of a part whose widest activation has so many channels; all rows on a GPU."""
    return max(LEAST, min(MOST, SIZE // channels // LEAST * LEAST)) if device.type == "cpu" else sys.maxsize


def parts_of(rows: Rows, device: torch.device, channels: int) -> list[RowPart]:
    """All parts of the rows, in order; on a CPU, none spans two clouds."""
    if device.type != "cpu":
        return [RowPart(rows, slice(0, rows.total), None)]
    size = rows_at_once(device, channels)
    parts, start = [], 0
    for cloud, count in enumerate(rows.counts):
        end = start + count
        parts += [RowPart(rows, slice(first, min(first + size, end)), cloud) for first in range(start, end, size)]
        start = end
    return parts
