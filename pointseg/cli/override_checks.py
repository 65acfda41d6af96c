"""Refuses unknown keys, options and values before any work starts, naming the nearest one that exists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from hydra.core.override_parser.types import Glob, IntervalSweep, Override, QuotedString, RangeSweep
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from pointseg.cli.hydra_options import PLAIN, Composer, HydraOptions, composer
from pointseg.cli.overrides import parse
from pointseg.cli.schema import find_key, named_sections, open_keys, open_sections, refuse_unknown_keys, secret_keys
from pointseg.core.config import Key, refuse_other_word
from pointseg.core.config_values import as_declared
from pointseg.core.errors import ConfigError
from pointseg.core.redaction import install_log_redaction
from pointseg.core.targets import arguments_of, check_keys, find, nearest

__all__ = ["check_targets", "compose_checked", "given_words", "is_choice", "without_left_keys"]

SEE_HELP = "See --help for what the key takes."


def compose_checked(
    verb: str, overrides: Sequence[str], *, multirun: bool, options: HydraOptions = PLAIN
) -> tuple[DictConfig, list[str]]:
    """Compose the configuration of a verb, with every override checked; of a sweep, with each key's first value.

    Args:
        options: Hydra's own, such as a folder with groups and options of the user's.

    Returns:
        The configuration, and the overrides as Hydra shall get them.

    Raises:
        ConfigError: naming the key, option or value that is wrong.
    """
    parsed = parse([f"+{line}" if line.startswith("experiment=") else line for line in overrides])
    searchpath = [o.input_line or "" for o in parsed if o.key_or_group == "hydra.searchpath"]
    with composer(verb, options, searchpath) as composing:
        config, final = _checked(verb, composing, parsed, multirun=multirun)
    _mask_secrets(verb, config)
    return config, final


def _mask_secrets(verb: str, config: DictConfig) -> None:
    """Nothing that is written from here on shows a value of a key that is declared as a secret."""
    secrets = [OmegaConf.select(config, path) for path in secret_keys(verb)]
    if any(secrets):
        install_log_redaction(str(value) for value in secrets if value)


def _checked(verb: str, composing: Composer, parsed: list[Override], *, multirun: bool) -> tuple[DictConfig, list[str]]:
    for override in parsed:
        _check_sweep(override, multirun)
    hydra_settings = [o for o in parsed if _is_hydra(o)]
    chosen = [o for o in parsed if is_choice(o, composing)]
    for override in chosen:
        _check_option(override, composing.options(override.key_or_group))
    added = {id(o): _added(o, composing) for o in chosen}
    plain = [o for o in parsed if o not in chosen and o not in hydra_settings]
    targets = [o for o in plain if o.key_or_group.endswith("._target_") and not o.is_sweep_override()]
    choices = [_first(o, added[id(o)]) for o in chosen]
    base = composing.composed(choices)
    shipped = base.copy()
    for override in targets:
        OmegaConf.update(base, override.key_or_group, _text(override.value()), force_add=True)
    known = [group for group in composing.groups() if group in base]
    opened = [*open_keys(), *_further_columns(plain)]
    accepted = added | {id(o): _check_key(o, base, shipped, known, opened) for o in plain}
    for override in plain:
        _check_values(override, find_key(verb, override.key_or_group), base)
    final = [accepted.get(id(o), o.input_line or "") for o in parsed]
    first = [_first(o) for o in parse(final) if not _is_hydra(o)]
    config = composing.composed(first) if first != choices else shipped
    for override in plain:
        _check_composed(override, find_key(verb, override.key_or_group), base, config)
    refuse_unknown_keys(verb, config)
    return without_left_keys(config, first), final


def without_left_keys(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The configuration without what belongs to a class that was replaced, by `SECTION._target_=CLASS` or by an option beside
    an experiment: keys that the new class does not take go. What the user gave stays, and is refused later if wrong."""
    parsed = parse(overrides)
    given = {o.key_or_group for o in parsed}
    replaced = [key.removesuffix("._target_") for key in given if key.endswith("._target_")]
    if "experiment" in given:
        replaced += [key for key in given if "." not in key and "_target_" in _section(config, key)]
    for name in replaced:
        if name == "compute":  # what it takes is its backend's to say
            continue
        section = OmegaConf.select(config, name)
        taken = arguments_of(find(str(section["_target_"]), name))
        if taken is None:
            continue
        with open_dict(section):
            for key in [str(key) for key in section if key != "_target_" and key not in taken]:
                if not any(word == f"{name}.{key}" or word.startswith(f"{name}.{key}.") for word in given):
                    del section[key]
    return config


def _section(config: DictConfig, key: str) -> Any:
    value = config.get(key)
    return value if isinstance(value, DictConfig) else {}


def check_targets(config: DictConfig) -> None:
    """Refuse keys of `_target_` sections that the class does not take, e.g. from an experiment file.

    Raises:
        ConfigError: naming the key and the nearest argument.
    """
    for name, section in OmegaConf.to_container(config, resolve=True).items():  # type: ignore[union-attr]
        if name != "compute":  # what it takes is its backend's to say
            check_keys(section, str(name))


def _is_hydra(override: Override) -> bool:
    return override.key_or_group.split(".")[0].split("/")[0] == "hydra"


def _added(override: Override, composing: Composer) -> str:
    """The choice of an option as Hydra takes it: with a plus where there is none to be replaced."""
    line, group = (override.input_line or "").lstrip("+"), override.key_or_group
    if override.is_delete() or composing.in_defaults(group):
        return line
    return f"+{line}" if group in open_keys() else override.input_line or ""


def is_choice(override: Override, composing: Composer) -> bool:
    """Whether an override chooses an option of a group, and sets no key."""
    return not _is_hydra(override) and composing.is_group(override.key_or_group)


def _first(override: Override, line: str | None = None) -> str:
    """The override, or its line, with its first value, if it sweeps."""
    line = line if line is not None else override.input_line or ""
    if not override.is_sweep_override():
        return line
    first = next(iter(given_words(override)), "null")
    prefix = "+" if line.startswith("+") else ""
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
        for option in (one.strip().strip("'\"") for one in value.strip("[]").split(",")):
            if option not in options:
                near = difflib.get_close_matches(option, options, 1)
                raise ConfigError(
                    f"there is no {override.key_or_group} {option!r}",
                    where=override.input_line,
                    remedy=(f"Did you mean {near[0]!r}? " if near else "") + f"There is: {', '.join(options)}.",
                )


def _further_columns(overrides: list[Override]) -> list[str]:
    """Keys that `features.use` opens: how a further column of the sensor is normalised."""
    used = [name for o in overrides if o.key_or_group == "features.use" for name in _values(o)]
    names = [str(name) for value in used for name in (value if isinstance(value, list) else [value])]
    return [f"features.{part}.{name}" for part in ("offset", "scale") for name in names]


def _check_key(
    override: Override, base: DictConfig, shipped: DictConfig, known: Sequence[str], opened: Sequence[str]
) -> str:
    """The override as Hydra shall get it: keys that exist need no +, those of an open mapping get one.

    Args:
        base: with the classes that overrides name.
        shipped: without them.
    """
    key, line = override.key_or_group, override.input_line or ""
    if _exists(shipped, key):
        return line.lstrip("+")
    if key.endswith("._target_") and key.partition(".")[0] in named_sections():
        return "+" + line.lstrip("+")
    if key.partition(".")[0] in open_sections() and key.split(".")[1] in _trainer_options():
        return "+" + line.lstrip("+")
    if key in opened or any(key.startswith(f"{parent}.") and _is_open(base, parent) for parent in opened):
        return "+" + line.lstrip("+")
    if _is_argument(key, base):
        return "+" + line.lstrip("+")
    raise ConfigError(f"unknown key {key}", where=line, remedy=_remedy(key, base, known))


def _is_open(base: DictConfig, key: str) -> bool:
    """Whether users may add names to a mapping; where it says what class it is, that class says what it takes."""
    return _exists(base, key) and "_target_" not in (OmegaConf.select(base, key) or ())


def _trainer_options() -> Iterable[str]:
    """Options of Lightning's Trainer that TrainerSettings does not declare."""
    from pointseg.engine.training.trainer_options import further_options  # on use: Lightning takes seconds

    return further_options()


def _is_argument(key: str, base: DictConfig) -> bool:
    """Whether the class of the section around a key takes it, though no option names it."""
    section = OmegaConf.select(base, key.rpartition(".")[0]) if "." in key else None
    if not isinstance(section, DictConfig) or "_target_" not in section:
        return False
    taken = arguments_of(find(str(section["_target_"]), key.rpartition(".")[0]))
    return taken is None or key.rpartition(".")[2] in taken


def _text(value: Any) -> Any:
    return value.text if isinstance(value, QuotedString) else value


def _check_values(override: Override, declared: Key | None, base: DictConfig) -> None:
    """Refuse a value of another kind than its key's, as declared; of keys that a class takes, than the default's."""
    default = OmegaConf.select(base, override.key_or_group)
    if override.is_delete() or (declared is None and default is None):
        return
    for value in map(_text, _values(override)):
        if "${" not in str(value):
            _check_value(value, override, declared, default)


def _check_value(value: Any, override: Override, declared: Key | None, default: Any) -> None:
    line = str(override.input_line)
    whole = (int in _options(declared)) if declared else isinstance(default, int)
    remedy = "Write int(interval(a,b))." if override.is_interval_sweep() and whole else ""
    if declared is not None:
        try:
            as_declared(value, declared.hint, declared.path)
        except ConfigError as error:
            raise ConfigError(error.what, where=line, remedy=remedy or error.remedy) from error
        refuse_other_word(value, declared, line)
    elif value is not None and not _is_of_kind(value, default, override.key_or_group):
        raise ConfigError(
            f"{value!r} is not of the kind of the default, {default}", where=line, remedy=remedy or SEE_HELP
        )


def _options(declared: Key) -> tuple[Any, ...]:
    return get_args(declared.hint) or (declared.hint,)


def _check_composed(override: Override, declared: Key | None, base: DictConfig, config: DictConfig) -> None:
    """The same for what an interpolation has become."""
    value = OmegaConf.select(config, override.key_or_group)
    if "${" in str(override.input_line) and not override.is_delete():
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        _check_value(value, override, declared, OmegaConf.select(base, override.key_or_group))


def _values(override: Override) -> Iterable[Any]:
    if override.is_interval_sweep():
        return [override._value.start, override._value.end]
    return override.sweep_iterator() if override.is_sweep_override() else [override.value()]


def _is_of_kind(value: Any, default: Any, key: str) -> bool:
    if key == "data.points":  # a number, or [least, most]
        return isinstance(value, int | list) and not isinstance(value, bool)
    if isinstance(default, DictConfig):
        return isinstance(value, dict)
    if isinstance(default, ListConfig):
        return isinstance(value, list)
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(value, bool):
        return isinstance(default, str)
    if isinstance(default, int):
        return isinstance(value, int)
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


def _remedy(key: str, base: DictConfig, known: Sequence[str]) -> str:
    if key == "data.root" and "data" in base:
        return "The synthetic data has no folder; for your own scans add data=semantickitti."
    section = key.partition(".")[0]
    further = [f"{section}.{name}" for name in _trainer_options()] if section in open_sections() else ()
    return nearest(key, [*_leaves(base, ""), *known, *further]) or "See --help."


def _leaves(config: DictConfig, prefix: str) -> Iterable[str]:
    for name in map(str, config):
        node = config._get_node(name)
        yield f"{prefix}{name}"
        if isinstance(node, DictConfig) and not node._is_none():
            yield from _leaves(node, f"{prefix}{name}.")
