"""Sections of a configuration that are missing or given in part: the shipped options fill them in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

import yaml

from pointseg.core.package import shipped_folder
from pointseg.core.targets import is_target

__all__ = ["SHIPPED", "default_section", "merged", "shipped_options", "with_default_sections", "with_defaults"]

Config = TypeVar("Config")

SHIPPED = {
    "data": "synthetic",
    "model": "pointnet",
    "loss": "cross_entropy",
    "optimizer": "adamw",
    "scheduler": "warmup_cosine",
}


def default_section(name: str) -> dict[str, Any]:
    """The shipped option that a section has by default.

    Example:
        >>> default_section("optimizer")["_target_"]
        'torch.optim.AdamW'
    """
    return _option(name, SHIPPED[name])


def shipped_options(name: str) -> dict[str, dict[str, Any]]:
    """Every shipped option of a section, complete.

    Example:
        >>> sorted(shipped_options("model"))[:2]
        ['frnet', 'frnet_small']
    """
    files = sorted((shipped_folder("configs") / name).glob("*.yaml"))
    return {file.stem: _option(name, file.stem) for file in files}


def _option(name: str, option: str) -> dict[str, Any]:
    """An option of a section, upon the options of that section that it names in its `defaults`."""
    path = shipped_folder("configs") / name / f"{option}.yaml"
    own = dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    result: dict[str, Any] = {}
    for one in own.pop("defaults", ["_self_"]):
        result = merged(result, own if one == "_self_" else _option(name, one))
    return result


def with_defaults(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A complete section: one with `_target_` is complete; keys without it change the shipped one. The terms of a loss are
    taken as given.

    Example:
        >>> with_defaults({"lr": 0.1}, "optimizer")
        {'_target_': 'torch.optim.AdamW', 'lr': 0.1, 'weight_decay': 0.01, 'decay': 'matrices'}
    """
    if is_target(given) or (name == "loss" and given):
        return dict(given)
    return merged(default_section(name), given)


def with_default_sections(config: Config) -> Config:
    """A configuration, a dataclass, with each of these sections complete."""
    names = {one.name for one in dataclasses.fields(config)} & set(SHIPPED)  # type: ignore[arg-type]
    sections = {name: with_defaults(getattr(config, name), name) for name in names}
    return dataclasses.replace(config, **sections)  # type: ignore[type-var]


def merged(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A section with some of its keys changed; an inner section with its own `_target_` is replaced."""
    result = dict(before)
    for key, value in given.items():
        present = result.get(key)
        inner = isinstance(present, Mapping) and isinstance(value, Mapping) and not is_target(value)
        result[key] = merged(present, value) if inner else value  # type: ignore[arg-type]
    return result
