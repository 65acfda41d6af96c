"""Configurations of earlier runs: what `resume=`, `rerun=` and `evaluate checkpoint=` go on from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pointseg.cli.checks import config_folder, groups
from pointseg.cli.overrides import parse
from pointseg.errors import CheckpointError, ConfigError
from pointseg.files import expanded, is_file
from pointseg.redact import MASK

__all__ = [
    "AUTO",
    "data_choice",
    "data_word",
    "load_config",
    "names_data",
    "resumed_run",
    "run_config_of",
    "with_overrides",
]

AUTO = "auto"  # resume=auto: the run in hydra.run.dir, if one has begun there
OWN_KEYS = ("resume", "rerun")  # say where to start from; they are not part of what is configured


def load_config(path: Path) -> DictConfig:
    """A run's config.yaml.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        config = OmegaConf.load(path)
    except (OSError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise CheckpointError(f"cannot be read ({type(error).__name__})", where=path) from error
    if not isinstance(config, DictConfig):
        raise CheckpointError("not a configuration", where=path)
    return config


def resumed_run(config: DictConfig, folder: Path) -> Path | None:
    """The run to go on with, if that is what a configuration asks for.

    Args:
        folder: where the present command works.
    """
    named = config.get("resume")
    return None if named is None else folder if named == AUTO else Path(str(named))


def with_overrides(saved: DictConfig, composed: DictConfig, overrides: Sequence[str], key: str) -> DictConfig:
    """The saved configuration plus the overrides given now.

    Values that were masked when it was saved (passwords) are taken from what is composed now. Keys that this version has
    and the saved one has not get their defaults.

    Args:
        saved: of the earlier run.
        composed: the verb's configuration with the same overrides.
        overrides: of the command line.
        key: resume or rerun, for messages.

    Raises:
        ConfigError: for an experiment, which would replace what the run was.
    """
    merged = OmegaConf.create(OmegaConf.to_container(composed))
    assert isinstance(merged, DictConfig)
    _fill(merged, saved)
    again = composed.get("resume") == AUTO  # the words that began the run are given once more
    for override in parse(overrides):
        if again and override.key_or_group == "experiment":
            continue
        _apply(merged, composed, override, key)
    for name in OWN_KEYS:
        if name in composed:
            merged[name] = composed[name]
    return merged


def _fill(target: DictConfig, saved: DictConfig) -> None:
    """Saved values over the defaults; sections with another class replace the whole section."""
    for name in saved:
        value = saved._get_node(name)
        if isinstance(value, DictConfig) and not value._is_none():
            present = target.get(str(name))
            if isinstance(present, DictConfig) and present.get("_target_") == value.get("_target_"):
                _fill(present, value)
                continue
            target[str(name)] = OmegaConf.create(OmegaConf.to_container(value))
        elif not (isinstance(saved[str(name)], str) and MASK in saved[str(name)]):
            target[str(name)] = saved[str(name)]


def _apply(merged: DictConfig, composed: DictConfig, override: Override, key: str) -> None:
    name = override.key_or_group
    if name == "experiment":
        raise ConfigError(
            f"{key} goes on with the run's own settings",
            where=override.input_line,
            remedy="Leave the experiment out, or start a new run without it.",
        )
    if name.split(".")[0].split("/")[0] == "hydra" or name in OWN_KEYS:
        return
    if name in groups():
        merged[name] = composed[name]
    else:
        OmegaConf.update(merged, name, OmegaConf.select(composed, name), merge=False, force_add=True)


def run_config_of(checkpoint: str | None) -> Path | None:
    """The config.yaml of the run folder that a checkpoint lies in or is, if there is one."""
    if not checkpoint or checkpoint.startswith("models:/"):
        return None
    path = expanded(checkpoint).absolute()  # from within a run folder, "best.ckpt" has no parents of its own
    for folder in (path, path.parent, path.parent.parent):
        config = folder / "config.yaml"
        if is_file(config) and is_file(folder / "run.json"):
            return config
    return None


def data_word(choice: str) -> str:
    """The data of a run as a word for Hydra. Quotes, which change nothing for it, tell it from one that a user gave, also
    in a job that is given the words."""
    return f"data='{choice}'"


def names_data(words: Sequence[str]) -> bool:
    """Whether a user named the data, rather than leaving them those of the run."""
    return any(word.startswith("data=") and not word.startswith("data='") for word in words)


def data_choice(saved: DictConfig) -> str | None:
    """Which option of the data group a saved configuration was made from, by its class."""
    target: Any = OmegaConf.select(saved, "data._target_")
    for option in groups()["data"]:
        shipped = yaml.safe_load((config_folder() / "data" / f"{option}.yaml").read_text(encoding="utf-8"))
        if shipped.get("_target_") == target:
            return option
    return None
