"""Models from plain values, and back: the form in which configurations, checkpoints and bundles hold them.

A name in a file is never imported. It is looked up among the models of this package, the classes that the caller passes,
and the classes that installed packages declare as entry points of the group `pointseg.models`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import numpy as np
from torch import Tensor, nn

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.extras import Extras
from pointseg.core.targets import arguments_of, build, find
from pointseg.models.base import SegmentationModel
from pointseg.models.frnet.network import FRNet
from pointseg.models.pointnet.network import PointNetSeg
from pointseg.models.waffleiron.network import WaffleIron

__all__ = ["MODELS", "ModelClasses", "rebuild_model", "describe_model", "from_section", "name_of"]

MODELS: dict[str, type[SegmentationModel]] = {"FRNet": FRNet, "PointNetSeg": PointNetSeg, "WaffleIron": WaffleIron}
ENTRY_POINTS = "pointseg.models"  # the group of entry points that declare models
ModelClasses = Sequence["type[nn.Module] | str"]  # classes that a caller allows, or their dotted names


class PlainNetwork(SegmentationModel):
    """Wraps an `nn.Module` that knows nothing of this library; its `forward` gets coords and mask if it declares them.

    Args:
        network: (B, N, F) -> (B, N, K).
        arguments: of the network's constructor.
    """

    def __init__(self, network: nn.Module, in_features: int, num_classes: int, arguments: Mapping[str, Any]) -> None:
        super().__init__()
        self.network = network
        self.in_features, self.num_classes = int(in_features), int(num_classes)
        own = {"in_features": self.in_features, "num_classes": self.num_classes}
        self.hyperparameters = {**own, **arguments}

    @property
    def network_called(self) -> nn.Module:
        return self.network

    def forward(
        self,
        features: Tensor,
        coords: Tensor | None = None,
        mask: Tensor | None = None,
        extras: Extras | None = None,
    ) -> Tensor:
        return self.predicted(features, coords, mask, extras)


def name_of(model: SegmentationModel) -> str:
    """The name of the model's class, with its module if it is not of this package, such as my_package.nets.MyNet."""
    kind = type(model.network_called)
    own = kind.__module__.partition(".")[0] == "pointseg"
    return kind.__name__ if own else f"{kind.__module__}.{kind.__qualname__}"


def describe_model(model: SegmentationModel) -> dict[str, Any]:
    """Plain values from which `rebuild_model` makes an equal architecture.

    Raises:
        ConfigError: if an argument of the model's constructor is not a plain value.
    """
    name, values = name_of(model), model.hyperparameters
    for key, value in values.items():
        if key.startswith("*") or not _is_plain(value):
            raise ConfigError(
                "an argument of the model cannot be written to a file and passed again by name",
                where=f"{name}({key})",
                remedy="Take numbers, strings, lists and mappings by name, or set self.hyperparameters in the constructor.",
            )
    return {"name": name, **{key: _plain(value) for key, value in values.items()}}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.number | np.bool_)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def rebuild_model(architecture: Mapping[str, Any], models: ModelClasses = ()) -> SegmentationModel:
    """The model that `describe_model` described, with fresh weights.

    Args:
        models: classes that are allowed in addition to those of this package and of installed ones.

    Raises:
        CheckpointError: if no such model is known, or it does not take these values.

    Example:
        >>> rebuild_model({"name": "PointNetSeg", "in_features": 6, "num_classes": 19})
    """
    values = dict(architecture)
    name = values.pop("name", None)
    kind = _class_of(str(name), models)
    try:
        if issubclass(kind, SegmentationModel):
            return kind(**values)
        accepted = arguments_of(kind)
        own = {key: value for key, value in values.items() if accepted is None or key in accepted}
        return PlainNetwork(kind(**own), values["in_features"], values["num_classes"], values)
    except TypeError as error:
        raise CheckpointError(
            f"model {name} does not take these values ({error})",
            where="architecture",
            remedy="The file was written by another version of pointseg; use that version."
            if name in MODELS
            else "The class has changed since the file was written.",
        ) from error


def _class_of(name: str, models: ModelClasses) -> type[nn.Module]:
    if name in MODELS:
        return MODELS[name]
    given = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in map(_network_class, models)}
    if (match := _matching(name, given)) is not None:
        return given[match]
    installed = {point.value.replace(":", "."): point for point in entry_points(group=ENTRY_POINTS)}
    if (match := _matching(name, installed)) is not None:
        return _network_class(installed[match].load())
    raise CheckpointError(
        f"there is no model {name!r}",
        where="architecture",
        remedy=f"Known: {', '.join(sorted([*MODELS, *given, *installed]))}. Pass a class of your own, as in "
        f"Predictor.load(..., models=[MyNet]), or install a package that declares it as an entry point of {ENTRY_POINTS}.",
    )


def _matching(name: str, known: Iterable[str]) -> str | None:
    """The class of this full name; else the only one with the same last part, which must have moved."""
    if name in known:
        return name
    last = name.rpartition(".")[2]
    same = [other for other in known if other.rpartition(".")[2] == last]
    return same[0] if len(same) == 1 else None


def _network_class(given: type[nn.Module] | str) -> type[nn.Module]:
    try:
        kind = find(given, "models") if isinstance(given, str) else given
    except ConfigError as error:
        raise ConfigError(error.what, where="models", remedy=error.remedy) from error
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)):
        raise ConfigError(f"{given} is not a model class", where="models", remedy="Name subclasses of nn.Module.")
    return kind


def from_section(
    section: Mapping[str, Any], use: Sequence[str], in_features: int, num_classes: int
) -> SegmentationModel:
    """The model of a configuration's `model` section, for given features and classes.

    Args:
        section: `_target_`, any `nn.Module`, and further arguments of its constructor as plain values.
        use: names of the features, which the model may refuse.
        in_features, num_classes: passed to the constructor if it takes them.

    Raises:
        ConfigError: if there is no such class, it does not take the values, or cannot use the features.

    Example:
        >>> from_section({"_target_": "my_package.MyNet", "width": 64}, ("x", "y", "z"), 3, 19)
    """
    model = build(section, "model", of=nn.Module, in_features=in_features, num_classes=num_classes)
    if not isinstance(model, SegmentationModel):
        if find(section["_target_"], "model") is not type(model):
            what = f"a function makes this {type(model).__name__}, so it could not be rebuilt from a file"
            raise ConfigError(what, where="model._target_", remedy="Name the class itself.")
        arguments = {key: value for key, value in section.items() if key != "_target_"}
        model = PlainNetwork(model, in_features, num_classes, arguments)
    model.check(use)
    describe_model(model)  # refuses what could not be saved
    return model
