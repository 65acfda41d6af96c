"""What a configuration that was saved may bring along: values, and classes that are known to be harmless to build.

A run folder may come from somebody else. A class that its config.yaml names by `_target_` is built only if it is one of this
package, an optimizer, schedule or loss of torch, a callback or logger of Lightning, or named by whoever starts the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import yaml

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.plain_yaml import plain_yaml
from pointseg.core.targets import TARGET, find, is_target

__all__ = ["read_saved", "refuse_foreign_classes", "targets_in"]

OWN_ROOMS = ("pointseg.data.", "pointseg.models.", "pointseg.engine.", "pointseg.jobs.")
LIBRARIES = ("torch", "pytorch_lightning", "lightning")
BASES = {
    "torch.optim.optimizer.Optimizer",
    "torch.optim.lr_scheduler.LRScheduler",
    "torch.nn.modules.loss._Loss",
    *(f"{name}.callbacks.callback.Callback" for name in ("pytorch_lightning", "lightning.pytorch")),
    *(f"{name}.loggers.logger.Logger" for name in ("pytorch_lightning", "lightning.pytorch")),
}
ENTRY_POINTS = "pointseg.models"
INTERPOLATION = "${"


def read_saved(path: Path) -> dict[str, Any]:
    """The values of a YAML file that a command wrote.

    Raises:
        CheckpointError: if it cannot be read, is no mapping, or has an interpolation, which could read the environment.
    """
    try:
        content = plain_yaml(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"cannot be read ({type(error).__name__}: {reason})", where=path, remedy="The file is damaged or foreign."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError("not a configuration", where=path, remedy="The file is damaged or foreign.")
    for key, value in _leaves(content, ""):
        if isinstance(value, str) and INTERPOLATION in value:
            raise CheckpointError(
                f"{key}={value} is an interpolation, which a saved configuration never has",
                where=path,
                remedy=f"If you trust the file, write the value itself in its place, or give {key} on the command line.",
            )
    return content


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inner is None:
        yield key, value
        return
    for name, one in inner:
        yield f"{key}.{name}".lstrip("."), str(name)
        yield from _leaves(one, f"{key}.{name}".lstrip("."))


def targets_in(section: Any) -> set[str]:
    """Every class that a configuration names, at any depth."""
    found = {str(section[TARGET])} if is_target(section) else set()
    inner = section.values() if isinstance(section, Mapping) else section if isinstance(section, list | tuple) else ()
    return found.union(*map(targets_in, inner))


def refuse_foreign_classes(section: Any, where: Path, allowed: Collection[str] = ()) -> None:
    """Refuse a saved configuration that names a class which is not known; nothing foreign is imported to find that out.

    Args:
        section: of the configuration, at any depth.
        where: its file.
        allowed: names that whoever starts the command gives.

    Raises:
        CheckpointError: naming the class.
    """
    installed = {point.value.replace(":", ".") for point in entry_points(group=ENTRY_POINTS)}
    for name in sorted(targets_in(section) - set(allowed) - installed):
        if not _is_known(name):
            raise CheckpointError(
                f"the configuration names {name}, which could run any code",
                where=where,
                remedy=f"If you trust it, name it yourself: {_key_of(section, name)}={name}.",
            )


def _is_known(name: str) -> bool:
    top = name.partition(".")[0]
    if top not in ("pointseg", *LIBRARIES):
        return False
    try:
        found = find(name, TARGET)
    except ConfigError:
        return top == "pointseg"  # of another version: refused, with its key, where it would be built
    if not inspect.isclass(found):
        return False
    if found.__module__.startswith(OWN_ROOMS):
        return True
    known = any(f"{base.__module__}.{base.__qualname__}" in BASES for base in found.__mro__)
    return known and found.__module__.partition(".")[0] in LIBRARIES


def _key_of(section: Any, name: str, key: str = "") -> str:
    """Where a configuration names a class, as a key of the command line."""
    if is_target(section) and section[TARGET] == name:
        return f"{key}.{TARGET}".lstrip(".")
    inner = section.items() if isinstance(section, Mapping) else enumerate(section) if isinstance(section, list) else ()
    for one, value in inner:
        if name in targets_in(value):
            return _key_of(value, name, f"{key}.{one}".lstrip("."))
    return key
