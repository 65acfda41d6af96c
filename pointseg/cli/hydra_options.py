"""Hydra's own options on a command line (`--cfg`, `--info`, `--config-dir`, completion), and its composition with them."""

from __future__ import annotations

import argparse
import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import yaml
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from pointseg.cli.schema import GROUP as SCHEMA
from pointseg.cli.schema import register_schema
from pointseg.core.errors import ConfigError
from pointseg.core.package import shipped_folder

__all__ = [
    "PLAIN",
    "Composer",
    "HydraOptions",
    "completing_modules",
    "composer",
    "config_folder",
    "groups",
    "parse_arguments",
]

SEARCHPATH = "hydra.searchpath"
REMARKS = "the command line"
# Hydra completes the commands of files and of programs; the lines of its script that modules need beside those.
COMPLETION_BRANCH = "        file_path=$(pwd)/${words[1]}\n"
COMPLETION_END = '        helper="${words[0]} ${words[1]}"\n'
COMPLETION_OF_MODULES = """        if [[ "${words[1]}" == "-m" && "${words[2]}" == pointseg.* ]]; then
            helper="${words[0]} -m ${words[2]}"
        else
"""
MODULE_LINE = re.compile(r"^\s*(\S*python3?)\s+-m\s+(pointseg\.\w+)")


@lru_cache(maxsize=1)
def config_folder() -> Path:
    """The shipped configs: `pointseg/configs` in an installed wheel, `configs` in a checkout."""
    return shipped_folder("configs")


@dataclass(frozen=True)
class HydraOptions:
    """What a command line says to Hydra itself.

    Attributes:
        flags: its words, as Hydra shall get them.
        multirun: `-m`.
        asks: it asks Hydra something (`--cfg`, `--info`, `--hydra-help`, `--shell-completion`) and runs nothing.
        config_name: of a configuration to begin with in place of the verb's.
        config_dir: a folder of the user's, in which configurations and options of groups are looked for as well.
    """

    flags: tuple[str, ...] = ()
    multirun: bool = False
    asks: bool = False
    config_name: str | None = None
    config_dir: str | None = None


PLAIN = HydraOptions()


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message, where=REMARKS, remedy="See --hydra-help.")


def parse_arguments(arguments: Sequence[str]) -> tuple[HydraOptions, list[str]]:
    """The words of a command line -> what they say to Hydra, and the overrides.

    Raises:
        ConfigError: for an option that Hydra does not have, or a word that is no NAME=VALUE.

    Example:
        >>> parse_arguments(["--config-dir", "conf", "seed=1"])[1]
        ['seed=1']
    """
    parser = get_args_parser()
    parser.__class__ = _Parser
    for word in arguments:
        if word.startswith("-") and not parser._get_option_tuples(word) and word.split("=")[0] not in _options(parser):
            raise ConfigError(f"there is no option {word}", where=REMARKS, remedy="See --help; -m sweeps.")
    args = parser.parse_intermixed_args(list(arguments))
    overrides = list(args.overrides)
    asks = bool(args.cfg or args.info or args.hydra_help or args.shell_completion)
    if not asks:
        for word in overrides:
            if "=" not in word and not word.startswith("~"):
                raise ConfigError(
                    f"{word!r} is not NAME=VALUE", where=REMARKS, remedy="See --help for worked examples."
                )
    for name in ("experimental_rerun", "config_path"):
        if getattr(args, name):
            what, remedy = {
                "experimental_rerun": ("runs are repeated from their folder", "Use rerun=RUN_FOLDER."),
                "config_path": ("the shipped configurations are always there", "Add yours by --config-dir DIR."),
            }[name]
            raise ConfigError(what, where=f"--{name.replace('_', '-')}", remedy=remedy)
    left = list(overrides)
    flags = []
    for word in arguments:  # what is not an override, in the order in which it was given
        if left and word == left[0]:
            left.pop(0)
        else:
            flags.append(word)
    return HydraOptions(tuple(flags), bool(args.multirun), asks, args.config_name, args.config_dir), overrides


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {name for action in parser._actions for name in action.option_strings}


@dataclass
class Composer:
    """Hydra set up for one composition after the other, with the folders that a command line adds.

    Attributes:
        name: of the configuration that it begins with.
        searchpath: overrides of hydra.searchpath, of which groups and options may come.
    """

    hydra: Hydra
    name: str
    searchpath: list[str] = field(default_factory=list)

    def compose(self, overrides: Sequence[str], *, multirun: bool = False) -> DictConfig:
        """A configuration, everything in it resolved once; without Hydra's own section.

        Raises:
            HydraException, OmegaConfBaseException: as Hydra does.
        """
        mode = RunMode.MULTIRUN if multirun else RunMode.RUN
        config = self.hydra.compose_config(self.name, [*self.searchpath, *overrides], mode, from_shell=False)
        with open_dict(config):
            del config["hydra"]
        OmegaConf.to_container(config, resolve=True)  # refuses what cannot be resolved
        return config

    def composed(self, overrides: Sequence[str]) -> DictConfig:
        """The same, with an error of ours.

        Raises:
            ConfigError: with what Hydra says.
        """
        try:
            return self.compose(overrides)
        except yaml.MarkedYAMLError as error:
            place = error.problem_mark or error.context_mark
            where = f"{place.name}, line {place.line + 1}" if place else "the configuration"
            raise ConfigError(f"not valid YAML ({error.problem or error.context})", where=where) from error
        except (HydraException, OmegaConfBaseException) as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            text = lines[0].rstrip(".") if lines else type(error).__name__
            raise ConfigError(text, where="the configuration") from error

    def is_group(self, name: str) -> bool:
        """Whether options are chosen by NAME=OPTION."""
        return "." not in name and bool(self._repository.group_exists(name.split("@")[0]))

    def in_defaults(self, group: str) -> bool:
        """Whether what it begins with takes an option of a group, so that another may be taken instead."""
        return any(path.startswith(f"{group.split('@')[0]}/") for path in self._defaults)

    @cached_property
    def _defaults(self) -> list[str]:
        """The options that it begins with, each as GROUP/OPTION."""
        loader: Any = self.hydra.config_loader
        defaults = loader.compute_defaults_list(self.name, self.searchpath, RunMode.RUN).defaults
        return [str(one.config_path) for one in defaults]

    def options(self, group: str) -> list[str]:
        """The options of a group, shipped ones and the user's."""
        return sorted(set(self._repository.get_group_options(group.split("@")[0], ObjectType.CONFIG)))

    def groups(self) -> dict[str, list[str]]:
        """Config group -> its options; without Hydra's own, and the schema."""
        names = self._repository.get_group_options("", ObjectType.GROUP)
        return {name: self.options(name) for name in sorted(set(names)) if name not in ("hydra", SCHEMA)}

    @cached_property
    def _repository(self) -> Any:
        """Hydra's own, made once: each new one reads the configurations again."""
        loader: Any = self.hydra.config_loader
        return loader._parse_overrides_and_create_caching_repo(self.name, self.searchpath)[1]


@contextmanager
def composer(verb: str, options: HydraOptions = PLAIN, searchpath: Sequence[str] = ()) -> Iterator[Composer]:
    """Hydra for composing what a verb would get. One that is running is set aside meanwhile: there is one a process.

    Raises:
        ConfigError: if `--config-dir` names no folder.

    Example:
        >>> with composer("train") as composing:
        ...     composing.compose(["seed=1"]).seed
        1
    """
    register_schema()
    version.setbase("1.3")
    path = create_config_search_path(str(config_folder()))
    if options.config_dir is not None:
        folder = Path(options.config_dir).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError("there is no such folder", where=f"--config-dir {options.config_dir}")
        path.prepend("command-line", f"file://{folder}", SearchPathQuery(provider="schema"))
    instance = GlobalHydra.instance()
    running, instance.hydra = instance.hydra, None
    try:
        hydra = Hydra.create_main_hydra2(task_name=verb, config_search_path=path)
        yield Composer(hydra, options.config_name or verb, list(searchpath))
    finally:
        instance.hydra = running


def groups() -> dict[str, list[str]]:
    """Config group -> its shipped options."""
    with composer("train") as composing:
        return composing.groups()


@contextmanager
def completing_modules() -> Iterator[None]:
    """Around Hydra's answer to `--shell-completion`: what is asked names a module, and so may what is printed."""
    line = os.environ.get("COMP_LINE")
    if line is not None:
        os.environ["COMP_LINE"] = MODULE_LINE.sub(r"python \2", line)
    script_text = io.StringIO()
    try:
        with redirect_stdout(script_text):
            yield
    finally:
        if line is not None:
            os.environ["COMP_LINE"] = line
        script = script_text.getvalue()
        if COMPLETION_BRANCH in script and COMPLETION_END in script:
            script = script.replace(COMPLETION_BRANCH, COMPLETION_OF_MODULES + COMPLETION_BRANCH)
            script = script.replace(COMPLETION_END, f"{COMPLETION_END}        fi\n")
        print(script, end="")
