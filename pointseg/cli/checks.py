"""Refuses unknown keys, options and values before any work starts, naming the nearest one that exists."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString, RangeSweep
from hydra.errors import HydraException
from hydra.utils import get_class
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

import pointseg
from pointseg.cli.overrides import parse
from pointseg.errors import ConfigError

__all__ = ["check_targets", "compose_checked", "config_folder", "given_words", "groups"]

# mappings to which users add keys of their own
OPEN_KEYS = ("aci.environment", "clusters", "compute.tags", "environments", "tags", "tracking.tags")


@lru_cache(maxsize=1)
def config_folder() -> Path:
    """The shipped configs: `pointseg/configs` in an installed wheel, `configs` in a checkout."""
    package = Path(pointseg.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def groups() -> dict[str, list[str]]:
    """Config group -> its options."""
    return {
        folder.name: sorted(option.stem for option in folder.glob("*.yaml"))
        for folder in sorted(config_folder().iterdir())
        if folder.is_dir() and folder.name != "hydra"
    }


def compose_checked(verb: str, overrides: Sequence[str], *, multirun: bool) -> tuple[DictConfig, list[str]]:
    """Compose the configuration of a verb, with every override checked; of a sweep, with each key's first value.

    Returns:
        The configuration, and the overrides as Hydra shall get them.

    Raises:
        ConfigError: naming the key, option or value that is wrong.
    """
    parsed = parse([f"+{line}" if line.startswith("experiment=") else line for line in overrides])
    known = groups()
    for override in parsed:
        _check_sweep(override, multirun)
    chosen = [o for o in parsed if o.key_or_group in known]
    for override in chosen:
        _check_option(override, known[override.key_or_group])
    hydra_settings = [o for o in parsed if o.key_or_group.split(".")[0].split("/")[0] == "hydra"]
    plain = [o for o in parsed if o not in chosen and o not in hydra_settings]
    base = _compose(verb, [_first(o) for o in chosen])
    accepted = {id(o): _check_key(o, base, known) for o in plain}
    for override in plain:
        _check_kind(override, base)
    final = [accepted.get(id(o), o.input_line or "") for o in parsed]
    config = _compose(verb, [_first(o) for o in parse(final) if o not in hydra_settings and not _is_hydra(o)])
    _check_kinds(plain, base, config)
    return config, final


def check_targets(config: DictConfig) -> None:
    """Refuse keys of `_target_` sections that the class does not take, e.g. from an experiment file.

    Raises:
        ConfigError: naming the key and the nearest argument.
    """
    for name, section in ((str(key), value) for key, value in config.items()):
        if isinstance(section, DictConfig) and "_target_" in section:
            taken = _arguments(get_class(section["_target_"]))
            for key in map(str, section):
                if key != "_target_" and key not in taken:
                    raise ConfigError(
                        f"unknown key {name}.{key}", where=f"{name}.{key}", remedy=_nearest(key, taken, name)
                    )


def _arguments(kind: Any) -> set[str]:
    found: set[str] = set()
    for parent in kind.__mro__:
        if "__init__" in vars(parent):
            parameters = inspect.signature(parent.__init__).parameters.values()
            found |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return found - {"self"}


def _check_kinds(overrides: list[Override], base: DictConfig, config: DictConfig) -> None:
    """A number stays a number, and a switch a switch."""
    for override in overrides:
        before, now = (OmegaConf.select(c, override.key_or_group) for c in (base, config))
        kinds = {bool: "true or false", int: "a number", float: "a number"}
        if type(before) in kinds and now is not None:
            fits = isinstance(now, bool) if isinstance(before, bool) else isinstance(now, (int, float))
            if not fits and not (override.key_or_group == "data.points" and OmegaConf.is_list(now)):
                raise ConfigError(f"{now!r} is not {kinds[type(before)]}", where=override.input_line)


def _is_hydra(override: Override) -> bool:
    return override.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _first(override: Override) -> str:
    """The override with its first value, if it sweeps."""
    if not override.is_sweep_override():
        return override.input_line or ""
    first = next(iter(given_words(override)), "null")
    prefix = "+" if (override.input_line or "").startswith("+") else ""
    return f"{prefix}{override.key_or_group}={first}"


def given_words(override: Override) -> list[str]:
    """The values of an override that sweeps, as words; of an interval its ends."""
    value = override._value
    if isinstance(value, IntervalSweep):
        return [str(value.start), str(value.end)]
    return list(override.sweep_string_iterator())


def _check_sweep(override: Override, multirun: bool) -> None:
    if override.is_sweep_override() and not multirun:
        raise ConfigError(
            "several values are given for one run",
            where=override.input_line,
            remedy="Add -m to run them all, or put the value in quotes.",
        )
    if isinstance(override._value, Glob):
        raise ConfigError(
            "glob() finds nothing here", where=override.input_line, remedy="List the values: choice(a,b)."
        )
    if isinstance(override._value, RangeSweep) and not override._value.step:
        raise ConfigError("a range with steps of 0 has no end", where=override.input_line, remedy="Give another step.")


def _check_option(override: Override, options: list[str]) -> None:
    if override.is_delete():
        return
    values = (
        [str(v).strip("'\"") for v in given_words(override)]
        if override.is_sweep_override()
        else [str(override.value())]
    )
    for value in values:
        for option in value.strip("[]").split(","):
            if option.strip() not in options:
                near = difflib.get_close_matches(option, options, 1)
                raise ConfigError(
                    f"there is no {override.key_or_group} {option!r}",
                    where=override.input_line,
                    remedy=(f"Did you mean {near[0]!r}? " if near else "") + f"There is: {', '.join(options)}.",
                )


def _check_key(override: Override, base: DictConfig, known: dict[str, list[str]]) -> str:
    """The override as Hydra shall get it: keys that exist need no +, those of an open mapping get one."""
    key, line = override.key_or_group, override.input_line or ""
    exists = _exists(base, key)
    if exists:
        return line.lstrip("+")
    if any(key.startswith(f"{parent}.") and _exists(base, parent) for parent in OPEN_KEYS):
        return "+" + line.lstrip("+")
    raise ConfigError(f"unknown key {key}", where=line, remedy=_remedy(key, base, known))


def _check_kind(override: Override, base: DictConfig) -> None:
    """Refuse a word where the default is a number, and the like."""
    default = OmegaConf.select(base, override.key_or_group)
    if override.is_delete() or default is None:
        return
    for value in _values(override):
        value = value.text if isinstance(value, QuotedString) else value
        if value is not None and "${" not in str(value) and not _is_of_kind(value, default):
            raise ConfigError(
                f"{value!r} is not of the kind of the default, {default}",
                where=override.input_line,
                remedy="Write int(interval(a,b))."
                if override.is_interval_sweep() and isinstance(default, int)
                else "See --help for what the key takes.",
            )


def _values(override: Override) -> Iterable[Any]:
    if override.is_interval_sweep():
        return [override._value.start, override._value.end]
    return override.sweep_iterator() if override.is_sweep_override() else [override.value()]


def _is_of_kind(value: Any, default: Any) -> bool:
    if isinstance(default, DictConfig):
        return isinstance(value, dict)
    if isinstance(default, ListConfig):
        return isinstance(value, list)
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return isinstance(default, str)
    if isinstance(default, int):
        return isinstance(value, int | list)  # data.points takes [least, most] as well
    if isinstance(default, float):
        return isinstance(value, int | float)
    return not isinstance(value, dict | list)


def _exists(config: DictConfig, key: str) -> bool:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = node._get_node(part)
        if isinstance(node, DictConfig) and node._is_none():
            return False
    return True


def _remedy(key: str, base: DictConfig, known: dict[str, list[str]]) -> str:
    if key == "data.root" and "data" in base:
        return "The synthetic data has no folder; for your own scans add data=semantickitti."
    keys = list(_leaves(base, "")) + [group for group in known if group in base]
    return _nearest(key, keys) or "See --help."


def _nearest(key: str, keys: Iterable[str], prefix: str = "") -> str:
    keys = list(keys)
    last: dict[str, str] = {}
    for candidate in keys:
        last.setdefault(candidate.rsplit(".", 1)[-1], candidate)
    near = difflib.get_close_matches(key, keys, 1, cutoff=0.6)
    if not near:
        near = [last[name] for name in difflib.get_close_matches(key.rsplit(".", 1)[-1], list(last), 1, cutoff=0.6)]
    if not near:
        return ""
    return f"Did you mean {prefix}{'.' if prefix else ''}{near[0]}?"


def _leaves(config: DictConfig, prefix: str) -> Iterable[str]:
    for name in map(str, config):
        node = config._get_node(name)
        yield f"{prefix}{name}"
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _leaves(node, f"{prefix}{name}.")


@contextmanager
def _aside() -> Iterator[None]:
    """Hydra is one for the whole process: within a verb that it runs, it is set aside while another is composed."""
    instance = GlobalHydra.instance()
    running, instance.hydra = instance.hydra, None
    try:
        yield
    finally:
        instance.hydra = running


def _compose(verb: str, overrides: list[str]) -> DictConfig:
    try:
        with _aside(), initialize_config_dir(str(config_folder()), version_base="1.3", job_name=verb):
            config = compose(config_name=verb, overrides=overrides)
        OmegaConf.to_container(config, resolve=True)  # refuses what cannot be resolved
        return config
    except (HydraException, OmegaConfBaseException) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ConfigError(lines[0].rstrip(".") if lines else type(error).__name__, where="the configuration") from error
