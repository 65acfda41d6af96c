"""What a model prepares of a cloud before it sees it, such as a projection: named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

__all__ = ["Extras", "Prepare"]

Extras = Mapping[str, Tensor]
Prepare = Callable[[Tensor, Tensor], Extras]  # coords (n, 3) metres and features (n, F) of one cloud, on the CPU
