"""Configurations that a command begins with instead of the verb's own: of an earlier run, of a job.

A job carries `config.yaml`, and its command is the same verb on that file: `python -m pointseg.VERB --config-dir FOLDER
--config-name config`. A run that is resumed or repeated is composed of its own config.yaml in the same way. Overrides of a
command line come on top, as everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from pointseg.cli.hydra_options import PLAIN, HydraOptions, composer
from pointseg.cli.override_checks import is_choice
from pointseg.cli.overrides import parse
from pointseg.core.errors import ConfigError
from pointseg.core.redaction import MASK
from pointseg.core.saved_configuration import targets_in
from pointseg.core.targets import TARGET
from pointseg.workflows.job_specs.config_file import job_config
from pointseg.workflows.run_config import read_run_config
from pointseg.workflows.training.renamed_keys import renamed

__all__ = ["AUTO", "content_of_run", "earlier_run", "load_config", "resumed_run", "store"]

STORED = "{verb}_as_it_was"
AUTO = "auto"  # resume=auto: the run in hydra.run.dir, if one has begun there
OWN_KEYS = ("resume", "rerun")  # say where to start from; they are not part of what is configured


def load_config(path: Path, allowed: Collection[str] = ()) -> DictConfig:
    """A run's config.yaml.

    Args:
        allowed: classes of your own that it may name.

    Raises:
        CheckpointError: if it cannot be read, or names other classes.
    """
    return OmegaConf.create(renamed(read_run_config(path, allowed)))


# ---- of an earlier run -------------------------------------------------------------------------------------------


def earlier_run(given: Mapping[str, str]) -> tuple[str, Path] | None:
    """The key that names an earlier run whose configuration is begun with, and that configuration's file.

    Args:
        given: words of the command line by key.

    Raises:
        CheckpointError: if there is no such run, or none that can go on.
    """
    named = {key: given.get(key, "null").strip("'\"") for key in OWN_KEYS}
    key = next((key for key in OWN_KEYS if named[key] not in ("", "null")), None)
    if key is None:
        return None
    from pointseg.engine.training.run_folder import RunFolder  # on use: --help does not need it

    automatic = named[key] == AUTO
    path = given["hydra.run.dir"].strip("'\"") if automatic else named[key]
    return key, RunFolder.existing(path, key, resumable=key == "resume" and not automatic).config


def resumed_run(config: DictConfig, folder: Path) -> Path | None:
    """The run to go on with, if that is what a configuration asks for.

    Args:
        folder: where the present command works.
    """
    named = config.get("resume")
    return None if named is None else folder if named == AUTO else Path(str(named))


def content_of_run(
    verb: str, path: Path, words: Sequence[str], key: str, options: HydraOptions = PLAIN, *, again: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """What a run was configured with, as what a command begins with; and the words that come on top.

    Values that were masked when it was saved (passwords), and keys that it does not have, are those of today's configuration.
    Options of groups that are named now replace the run's.

    Args:
        path: the run's config.yaml.
        words: of the command line, quoted for Hydra.
        key: resume or rerun, for messages.
        again: whether the words that began the run are given once more, with its experiment among them.

    Raises:
        CheckpointError: if the run's configuration cannot be read.
        ConfigError: for an experiment, which would replace what the run was.
    """
    parsed = parse(words)
    experiments = [o for o in parsed if o.key_or_group == "experiment"]
    if experiments and not again:
        raise ConfigError(
            f"{key} goes on with the run's own settings",
            where=experiments[0].input_line,
            remedy="Leave the experiment out, or start a new run without it.",
        )
    searchpath = [o.input_line or "" for o in parsed if o.key_or_group == "hydra.searchpath"]
    with composer(verb, options, searchpath) as composing:
        chosen = [o for o in parsed if o not in experiments and is_choice(o, composing)]
        today = composing.composed([])
        before = load_config(path, _named(today, parsed, [composing.composed([o.input_line or ""]) for o in chosen]))
        if (
            OmegaConf.select(before, "compute.name") != "local_ddp"
        ):  # where it ran does not matter, how many processes does
            before.pop("compute", None)
        merged = _filled(today, before)
        if chosen:
            with_choices = composing.composed([o.input_line or "" for o in chosen])
            for override in chosen:
                name = override.key_or_group.split("@")[0].replace("/", ".")
                OmegaConf.update(merged, name, OmegaConf.select(with_choices, name), merge=False, force_add=True)
    left_out = {id(o) for o in (*chosen, *experiments)}
    values: Any = OmegaConf.to_container(merged, resolve=True)
    return values, [o.input_line or "" for o in parsed if id(o) not in left_out]


def _named(today: DictConfig, parsed: Sequence[Override], composed: Sequence[DictConfig]) -> set[str]:
    """Classes that today's configuration or the words of the command line name."""
    sections = [OmegaConf.to_container(config) for config in (today, *composed)]
    given = [override.value() for override in parsed]
    single = {str(override.value()) for override in parsed if override.key_or_group.endswith(f".{TARGET}")}
    return targets_in([*sections, *given]) | single


def _filled(today: DictConfig, before: DictConfig) -> DictConfig:
    """The values of a run over today's defaults; a section of another class replaces the whole section."""
    target: Any = OmegaConf.create(OmegaConf.to_container(today))
    for name in map(str, before):
        value = before._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none():
            present = target.get(name)
            if isinstance(present, DictConfig) and present.get("_target_") == value.get("_target_"):
                target[name] = _filled(present, value)
            else:
                target[name] = OmegaConf.create(OmegaConf.to_container(value))
        elif not (isinstance(before[name], str) and MASK in before[name]):
            target[name] = before[name]
    filled: DictConfig = target
    return filled


def store(verb: str, content: Mapping[str, Any]) -> str:
    """Make a configuration known to Hydra in this process; gives the name that it is composed by."""
    name = STORED.format(verb=verb)
    ConfigStore.instance().store(name=name, node=OmegaConf.create(job_config(verb, content)))
    return name
