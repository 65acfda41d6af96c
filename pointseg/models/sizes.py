"""Sizes that a described model may have, looked at before it is built: a file of somebody else says what it likes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pointseg.core.errors import CheckpointError

__all__ = ["refuse_other_weights", "refuse_outsized"]

LONGEST = 512  # values of a list: layers of a network
LARGEST = 1 << 20  # of a whole number
NAMED = 3


def refuse_outsized(architecture: Mapping[str, Any]) -> None:
    """Refuse a description with a value that no network has.

    Raises:
        CheckpointError: naming the setting.
    """
    for key, value in architecture.items():
        if fault := _fault_of(value):
            raise CheckpointError(f"{key} {fault}", where="architecture", remedy="The file is damaged or foreign.")


def _fault_of(value: Any) -> str:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        if len(value) > LONGEST:
            return f"has {len(value):,} values, more than {LONGEST}"
        return next(filter(None, map(_fault_of, value)), "")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST:
        return f"is {value:,}, beyond {LARGEST:,}"
    return ""


def refuse_other_weights(make: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> None:
    """Refuse weights of other names or shapes than a model has, before any memory is taken for it.

    Args:
        make: makes the model; it is called where tensors have shapes only.

    Raises:
        CheckpointError: naming the first that differ.
    """
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if expected == given:
        return
    names = sorted(name for name in {**expected, **given} if expected.get(name) != given.get(name))
    told = [
        f"{name}: {expected.get(name, 'not there')} in it, {given.get(name, 'none')} given" for name in names[:NAMED]
    ]
    raise CheckpointError(
        f"{len(names)} tensors do not fit the architecture ({'; '.join(told)})",
        where="architecture",
        remedy="The file is damaged or was changed by hand.",
    )
