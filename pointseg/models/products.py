"""Matrix products of many rows, by the library that is the faster one on this processor.

torch multiplies float32 matrices by MKL, which keeps to AVX2 where the processor is not Intel's. oneDNN, which torch has for
other kinds of numbers and layers, uses AVX-512 wherever it is: on an AMD processor that has it, 2.2 times the speed
(docs/speed.md). The choice depends on the processor and on the number of rows alone, so that the same batch has the same bits
at every call; the results differ by rounding.

Legend: n rows, C input channels, O output channels.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["ROWS", "add_outer", "channels_first", "linear", "onednn_is_faster", "product"]

ROWS = 512  # oneDNN compiles a kernel for each number of rows it meets: only multiples of this are worth it


def linear(
    x_nC: Tensor,
    weight_OC: Tensor,
    bias_O: Tensor | None = None,
    *,
    relu: bool = False,
    out: Tensor | None = None,
    room: Tensor | None = None,
) -> Tensor:
    """x W^T + b (n, O), and its ReLU.

    Args:
        relu: take it.
        out: where the result is to be.
        room: where it may be, if that saves memory.
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
    elif y_nO.shape[1] > x_nC.shape[1]:  # it copies its first argument to turn it: the smaller one
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
    # the operation is not a public one of torch: a version without it has MKL
    return "AuthenticAMD" in known and hasattr(torch.ops.mkldnn, "_linear_pointwise")
