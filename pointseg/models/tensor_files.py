"""Reads the tensors of a training's file without executing anything that the file names."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pointseg.core.errors import CheckpointError

__all__ = ["read_state_dict"]

# all that tensors need; whatever else a file names becomes an `_Ignored`
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
WHERE_TENSORS_ARE = ("state_dict", "net", "model")  # of what a training wrote


class _Ignored:
    """Takes the place of any other object: takes what it is given, does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """Nothing."""

    def extend(self, values: Any) -> None:
        """Nothing."""


class _TensorUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get((module, name), _Ignored)


def _load(file: Any, **options: Any) -> Any:
    return _TensorUnpickler(file, **options).load()


PICKLE = SimpleNamespace(Unpickler=_TensorUnpickler, load=_load, __name__="pickle")  # as `torch.load` takes it


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The weights in a file of `torch.save`: a state dict, or a dict that has one at state_dict, net or model.

    Raises:
        CheckpointError: if there is none, or the file cannot be read.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=PICKLE)
    except FileNotFoundError as error:
        raise CheckpointError("there is no such file", where=path) from error
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise CheckpointError(f"the file cannot be read ({reason})", where=path, remedy="Download it again.") from error
    for key in WHERE_TENSORS_ARE:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError("there is no state dict in the file", where=path)
    return dict(content)
