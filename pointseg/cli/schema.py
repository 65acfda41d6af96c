"""Hydra's schema, made of the dataclasses that declare each verb's keys; and what these say about single keys."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from pointseg.cli.verbs import VERBS
from pointseg.core.config import (
    FURTHER,
    MAPPING,
    PART,
    PARTS,
    READS,
    SECRET,
    TEXT,
    WORDS,
    WRITES,
    Key,
    entry_keys,
    keys_of,
)
from pointseg.core.config_values import to_plain
from pointseg.core.errors import ConfigError
from pointseg.core.targets import nearest
from pointseg.engine.training.trainer_settings import TrainerSettings
from pointseg.jobs.backend import NO_ARGUMENTS
from pointseg.jobs.context import SECTION
from pointseg.workflows.settings.pipeline_command import PipelineCommand
from pointseg.workflows.settings.shared import DATA_READS, AzureConfig, TrackingConfig, untracked
from pointseg.workflows.settings.train import TrainConfig

__all__ = [
    "DECLARED_OPTIONS",
    "GROUP",
    "declaration",
    "declared_keys",
    "find_key",
    "literal_keys",
    "named_sections",
    "open_keys",
    "open_sections",
    "read_keys",
    "refuse_unknown_keys",
    "register_schema",
    "secret_keys",
    "verbs",
    "word_lists",
]

GROUP = "schema"  # of Hydra, which holds the keys of each verb: configs/VERB.yaml begins with it
# groups whose options are declared; those of all others are files in configs/
DECLARED_OPTIONS: dict[str, dict[str, Callable[[], Any]]] = {
    "trainer": {"default": TrainerSettings},
    "tracking": {"mlflow": TrackingConfig, "off": untracked},
}
SECTIONS: dict[str, Callable[[], Any]] = {"azure": AzureConfig}  # that options of a group take along: schema/NAME
FOLDERS = frozenset({"hydra.run.dir", "hydra.sweep.dir"})
OF_GROUPS = ("compute.env", "compute.tags")  # mappings in files of configs/, which no dataclass declares


def verbs() -> tuple[str, ...]:
    """Every verb and script that has a configuration."""
    return tuple(sorted({*VERBS, "train", "pipeline"}))


def declaration(verb: str) -> Any:
    """The dataclass that declares what a verb can be told."""
    own = {"train": TrainConfig, "pipeline": PipelineCommand}
    return own[verb] if verb in own else VERBS[verb].kind()


# ---- Hydra's ConfigStore -----------------------------------------------------------------------------------------


class _SharedGroup(dict[str, Any]):
    """A group of the ConfigStore, which Hydra copies whole for each composition; a node that is loaded is copied again."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _SharedGroup:
        return self


def register_schema() -> None:
    """Put the keys of each verb and the declared options into Hydra's ConfigStore, once in a process.

    Example:
        >>> register_schema()
        >>> with hydra.initialize_config_dir(str(config_folder())):  # doctest: +SKIP
        ...     hydra.compose("train", ["seed=3"]).seed
        3
    """
    store = ConfigStore.instance()
    if GROUP in store.repo:
        return
    store.repo[GROUP] = _SharedGroup()
    for verb in verbs():
        store.store(verb, _own_keys(verb), group=GROUP, package="_global_", provider="pointseg")
    for name, make in SECTIONS.items():
        store.store(name, to_plain(make()), group=GROUP, package=name, provider="pointseg")
    for group, options in DECLARED_OPTIONS.items():
        for option, make in options.items():
            store.store(option, to_plain(make()), group=group, provider="pointseg")


def _own_keys(verb: str) -> dict[str, Any]:
    """The defaults of a verb; without the sections that options of groups bring."""
    chosen = {key.path for key in declared_keys(verb) if key.nature in (PART, PARTS)} | set(DECLARED_OPTIONS)
    return {name: value for name, value in to_plain(declaration(verb)()).items() if name not in chosen}


# ---- single keys -------------------------------------------------------------------------------------------------


@cache
def declared_keys(verb: str) -> tuple[Key, ...]:
    """What a verb can be told, by its declaration."""
    return tuple(keys_of(declaration(verb)))


def find_key(verb: str, path: str) -> Key | None:
    """The declaration of a key, such as `views.count` or `clusters.mine.vm_size`; None where there is none."""
    for key in declared_keys(verb):
        if key.path == path:
            return key
        parts = path.removeprefix(f"{key.path}.").split(".")
        if key.entry and path.startswith(f"{key.path}.") and len(parts) > 1:
            named = ".".join([key.path, "NAME", *parts[1:]])
            return next((one for one in entry_keys(key) if one.path == named), None)
    return None


def refuse_unknown_keys(verb: str, config: DictConfig) -> None:
    """Refuse keys that the verb does not have, as a user's file may; a key that other values refer to may have any name.

    Raises:
        ConfigError: naming the key and the nearest one that there is.
    """
    known = {key.path.partition(".")[0] for key in declared_keys(verb)} | {"azure", "compute", SECTION}
    text = OmegaConf.to_yaml(config, resolve=False)
    for name in (str(name) for name in config if name not in known):
        if not re.search(rf"\$\{{{re.escape(name)}[.}}]", text):
            remedy = nearest(name, known) or "See --help."
            if name == "experiment":
                remedy = "Begin the experiment's file with the line `# @package _global_`."
            raise ConfigError(f"unknown key {name}", where="the configuration", remedy=remedy)
    compute = config.get("compute") or {}
    if "_target_" not in compute:  # else the class refuses what it does not take
        for name in (str(name) for name in compute if name not in NO_ARGUMENTS):
            remedy = "This machine takes none; compute=local_ddp has compute.processes."
            raise ConfigError(f"unknown key compute.{name}", where="the configuration", remedy=remedy)


def _all() -> Iterator[Key]:
    return (key for verb in verbs() for key in declared_keys(verb))


def _of_nature(*natures: str) -> frozenset[str]:
    return frozenset(key.path for key in _all() if key.nature in natures)


@cache
def literal_keys(verb: str) -> frozenset[str]:
    """Keys of a verb whose value is a path, a URL or a text for people: always taken as it was typed."""
    natures = (READS, WRITES, TEXT, SECRET)
    further = [key for name, make in SECTIONS.items() for key in keys_of(make(), f"{name}.")]
    declared = (*declared_keys(verb), *further)
    literal = {key.path for key in declared if key.nature in natures and "list" not in key.takes}
    return frozenset(literal) | _of_data() | FOLDERS


@cache
def open_keys() -> frozenset[str]:
    """Mappings to which users add names of their own."""
    return _of_nature(MAPPING) | frozenset(OF_GROUPS)


@cache
def open_sections() -> frozenset[str]:
    """Sections that also take options of another library, as `trainer` does."""
    return frozenset(path.rpartition(".")[0] for path in _of_nature(FURTHER))


@cache
def named_sections() -> frozenset[str]:
    """Sections that hold others with a `_target_` each, by names of the user's own."""
    return _of_nature(PARTS)


@cache
def word_lists() -> frozenset[str]:
    """Keys that hold words of another command, in brackets."""
    return _of_nature(WORDS)


@cache
def secret_keys(verb: str) -> tuple[str, ...]:
    """Keys of a verb whose value is never written down."""
    return tuple(key.path for key in declared_keys(verb) if key.nature == SECRET)


@cache
def read_keys(verb: str) -> tuple[str, ...]:
    """Keys of a verb whose value is something to read, wherever it lies."""
    declared = [key.path for key in declared_keys(verb) if key.nature == READS]
    has_data = any(key.path == "data" for key in declared_keys(verb))
    return (*declared, *(sorted(_of_data()) if has_data else ()))


def _of_data() -> frozenset[str]:
    return frozenset(f"data.{name}" for name in DATA_READS)
