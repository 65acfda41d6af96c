"""A configuration as plain values, as a YAML file holds them, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pointseg.core.config import FURTHER, keys_of
from pointseg.core.errors import ConfigError
from pointseg.core.targets import nearest

__all__ = ["as_declared", "from_plain", "to_plain"]

Config = TypeVar("Config")

KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "a mapping",
}


def from_plain(kind: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """The configuration that plain values say; what they do not say keeps its default.

    Args:
        kind: a dataclass whose fields are declared by `key` and `section`.
        where: the section's name, for messages.

    Raises:
        ConfigError: for a key that is not declared, with the nearest that is, or a value of another kind.

    Example:
        >>> from_plain(TrainConfig, yaml.safe_load(open("config.yaml"))).seed
    """
    prefix = f"{where}." if where else ""
    hints = typing.get_type_hints(kind)
    further = _further(kind)
    given: dict[str, Any] = {}
    for name, value in values.items():
        if name in hints and name != further:
            given[name] = as_declared(value, hints[name], f"{prefix}{name}")
        elif further is not None:
            given.setdefault(further, {}).update(value if name == further else {name: value})
        else:
            remedy = nearest(f"{prefix}{name}", [f"{prefix}{one.path}" for one in keys_of(kind)]) or "See --help."
            raise ConfigError(f"unknown key {prefix}{name}", where=f"{prefix}{name}", remedy=remedy)
    return kind(**given)


def _further(kind: Any) -> str | None:
    """The field for the keys of a section that have no declaration."""
    return next(
        (declared.path for declared in keys_of(kind) if declared.nature == FURTHER and "." not in declared.path), None
    )


def as_declared(value: Any, hint: Any, where: str) -> Any:
    """A plain value as what a type hint says.

    Raises:
        ConfigError: for a value of another kind.

    Example:
        >>> as_declared("1e-3", float | None, "rate")
        0.001
    """
    if hint is Any:
        return value
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    if type(value) in options:  # a float stays one where a text is allowed too
        return value
    for option in options:
        found = _as_kind(value, option, where)
        if found is not _OTHER:
            return found
    named = " or ".join(_kind_of(option) for option in options)
    shown = "null" if value is None else repr(value)
    raise ConfigError(f"{shown} is not {named}", where=where, remedy="See --help for what the key takes.")


def _kind_of(option: Any) -> str:
    named = dict if dataclasses.is_dataclass(option) else typing.get_origin(option) or option
    return KINDS.get(named, "null")


_OTHER = object()


def _as_kind(value: Any, kind: Any, where: str) -> Any:
    origin: Any = typing.get_origin(kind) or kind
    inner = typing.get_args(kind)
    if isinstance(origin, type) and dataclasses.is_dataclass(origin):
        if isinstance(value, origin):
            return value
        return from_plain(origin, value, where) if isinstance(value, Mapping) else _OTHER
    if origin is dict:
        return dict(value) if isinstance(value, Mapping) else _OTHER
    if origin is list:
        if not isinstance(value, list | tuple):
            return _OTHER
        return (
            [as_declared(one, inner[0], f"{where}.{number}") for number, one in enumerate(value)]
            if inner
            else list(value)
        )
    if origin is bool or isinstance(value, bool):
        return value if origin is bool and isinstance(value, bool) else _OTHER
    if origin is str:
        return str(value) if isinstance(value, str | int | float | Path) else _OTHER
    if origin is int and isinstance(value, int):
        return value
    try:
        return float(value) if origin is float and isinstance(value, int | float | str) else _OTHER
    except ValueError:  # a text that is no number; YAML 1.1 reads 1e-3 as a text, too
        return _OTHER


def to_plain(config: Any) -> dict[str, Any]:
    """A configuration as plain values that YAML can hold; `from_plain` makes an equal one.

    Raises:
        ConfigError: for a value that is none, such as an object in place of its `_target_` section.

    Example:
        >>> yaml.safe_dump(to_plain(TrainConfig(seed=3)))
    """
    plain: dict[str, Any] = _plain(config, "")
    return plain


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        further = _further(type(value))
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
        value = {**{k: v for k, v in fields.items() if k != further}, **(fields[further] if further else {})}
    if isinstance(value, Mapping):
        return {str(key): _plain(one, f"{where}.{key}".lstrip(".")) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{where}.{number}") for number, one in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise ConfigError(
        f"{type(value).__name__} is no plain value",
        where=where,
        remedy="Say what it is by a section with _target_, such as pointseg.core.targets.target(CLASS, ...).",
    )
