"""Sections of a configuration that name what they are by `_target_`, built; what the class does not take is refused.

The notation is Hydra's: `_target_` is the dotted name of a class (or a function), `_args_` its positional arguments,
`_partial_: true` asks for a `functools.partial` instead of an object, all other keys are keyword arguments, and sections
within are built before the section around them.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from pointseg.core.errors import ConfigError, PointsegError

__all__ = ["arguments_of", "build", "check_keys", "find", "is_target", "nearest", "target"]

TARGET, ARGS, PARTIAL = "_target_", "_args_", "_partial_"
OWN = (TARGET, ARGS, PARTIAL, "_recursive_", "_convert_")
# keys of a section that its class is not told, for they say how it is used: section -> names
BESIDE = {"optimizer": ("decay", "rates"), "scheduler": ("interval", "monitor")}


def target(what: Callable[..., Any], /, **arguments: Any) -> dict[str, Any]:
    """A section for a class of one's own: plain values that can be written to a file and built again.

    Example:
        >>> target(PointNetSeg, dropout=0.3)
        {'_target_': 'pointseg.models.pointnet.network.PointNetSeg', 'dropout': 0.3}
    """
    return {TARGET: f"{what.__module__}.{what.__qualname__}", **arguments}


def is_target(section: Any) -> bool:
    """Whether a section says what it is."""
    return isinstance(section, Mapping) and TARGET in section


def find(name: str, where: str) -> Any:
    """The class or function of a dotted name.

    Raises:
        ConfigError: if there is none, or importing it fails.

    Example:
        >>> find("torch.optim.AdamW", "optimizer")
        <class 'torch.optim.adamw.AdamW'>
    """
    parts = str(name).split(".")
    for number in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:number])
        try:
            found = import_module(module)
        except ModuleNotFoundError as error:
            if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
                continue  # a shorter name may be the module, and the rest classes in it
            raise _missing(name, where, f"importing it needs {error.name}, which is not installed") from error
        except Exception as error:
            raise _missing(name, where, f"importing {module} fails ({type(error).__name__}: {error})") from error
        try:
            for part in parts[number:]:
                found = getattr(found, part)
        except AttributeError as error:
            known = [one for one in dir(found) if not one.startswith("_")]
            raise _missing(name, where, f"{module} has no {part}", nearest(part, known)) from error
        if not callable(found):
            raise _missing(name, where, "it is neither a class nor a function")
        return found
    raise _missing(name, where, "no such module can be imported")


def _missing(name: str, where: str, why: str, remedy: str = "") -> ConfigError:
    text = remedy or "Is the package installed, and its folder on PYTHONPATH?"
    return ConfigError(f"{name} cannot be used: {why}", where=f"{where}.{TARGET}", remedy=text)


def arguments_of(what: Any) -> set[str] | None:
    """Names of the keyword arguments that a class or function takes; None where it takes any."""
    found: set[str] = set()
    for one in what.__mro__ if inspect.isclass(what) else [what]:
        call = vars(one).get("__init__") if inspect.isclass(one) else one
        if call is None:
            continue
        try:
            parameters = inspect.signature(call).parameters.values()
        except (TypeError, ValueError):  # of C
            return None
        found |= {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return found - {"self"}
    return None


def check_keys(section: Any, where: str) -> None:
    """Refuse keys that a section's class does not take, also those of the sections within.

    Raises:
        ConfigError: naming the key and the nearest argument.
    """
    if not isinstance(section, Mapping):
        return
    if is_target(section):
        taken = arguments_of(find(section[TARGET], where))
        for key in section:
            if key not in (*OWN, *BESIDE.get(where, ())) and taken is not None and key not in taken:
                raise ConfigError(
                    f"unknown key {where}.{key}", where=f"{where}.{key}", remedy=nearest(str(key), taken, where)
                )
    for key, value in section.items():
        check_keys(value, f"{where}.{key}")


def build(section: Mapping[str, Any], where: str, /, *, of: type | None = None, **arguments: Any) -> Any:
    """The object that a section describes.

    Args:
        section: with `_target_`.
        where: the section's name, for messages.
        of: what it must be.
        arguments: given beside those of the section, as they are.

    Raises:
        ConfigError: if there is no such class, it does not take the keys or their values, or is no `of`.

    Example:
        >>> build({"_target_": "pointseg.models.PointNetSeg", "dropout": 0.3}, "model", in_features=4, num_classes=19)
    """
    if not is_target(section):
        raise ConfigError("nothing says what it is", where=where, remedy=f"Give {where}.{TARGET}=PACKAGE.CLASS.")
    what = find(section[TARGET], where)
    taken = arguments_of(what)
    known = None if taken is None else taken - set(arguments)
    for key in section:
        if key not in OWN and known is not None and key not in known:
            raise ConfigError(
                f"unknown key {where}.{key}", where=f"{where}.{key}", remedy=nearest(str(key), known, where)
            )
    inner = {key: _built(value, f"{where}.{key}") for key, value in section.items() if key not in OWN}
    positional = [_built(value, f"{where}.{ARGS}") for value in section.get(ARGS, ())]
    passed = {key: value for key, value in arguments.items() if taken is None or key in taken}
    if section.get(PARTIAL):
        return functools.partial(what, *positional, **inner, **passed)
    try:
        made = what(*positional, **inner, **passed)
    except PointsegError:
        raise
    except ImportError as error:
        reason = " ".join(str(error).split())[:240]
        remedy = "Install what it needs."
        raise ConfigError(f"a package is not installed ({reason})", where=where, remedy=remedy) from error
    except (TypeError, ValueError, IndexError, KeyError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:240]
        raise ConfigError(f"cannot be built ({reason})", where=where, remedy=f"Check the values of {where}.") from error
    if of is not None and not isinstance(made, of):
        raise ConfigError(
            f"{section[TARGET]} is not a {of.__module__}.{of.__qualname__}",
            where=f"{where}.{TARGET}",
            remedy="Name a subclass of it.",
        )
    return made


def _built(value: Any, where: str) -> Any:
    if is_target(value):
        return build(value, where)
    if isinstance(value, Mapping):
        return {key: _built(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_built(one, f"{where}.{number}") for number, one in enumerate(value)]
    return value


def nearest(key: str, keys: Iterable[str], prefix: str = "") -> str:
    """ "Did you mean ...?", where a key resembles one that there is; "" elsewhere.

    Example:
        >>> nearest("rot", ["root", "split"], "data")
        'Did you mean data.root?'
    """
    keys = sorted(keys)
    last: dict[str, str] = {}
    for candidate in keys:
        last.setdefault(candidate.rsplit(".", 1)[-1], candidate)
    near = difflib.get_close_matches(key, keys, 1, cutoff=0.6)
    if not near:
        near = [last[name] for name in difflib.get_close_matches(key.rsplit(".", 1)[-1], list(last), 1, cutoff=0.6)]
    return f"Did you mean {prefix}{'.' if prefix else ''}{near[0]}?" if near else ""
