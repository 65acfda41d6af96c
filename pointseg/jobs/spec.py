"""A job: what to run on which data, configured how, in how many processes on how many machines."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from pointseg.core.errors import ConfigError
from pointseg.core.files import write_text
from pointseg.jobs.context import SECTION, SweepMember

__all__ = ["CONFIG_FILE", "PLACEHOLDER", "JobSpec", "Place", "Result"]

CONFIG_FILE = "config.yaml"
PLACEHOLDER = re.compile(r"\$\{\{(inputs|outputs|search_space)\.(\w+)\}\}")


@dataclass(frozen=True)
class Place:
    """Where a job reads or writes.

    Attributes:
        path: of this machine, or an address such as azureml:NAME:VERSION; "" leaves the choice to where the job runs.
        kind: a folder, a file, an MLTable, or a model of a workspace; of an input also a number, which `path` is.
        mode: how a machine of Azure gets at it: "mount" as it reads, "download" before it starts; "upload" at its end.
        key: of the configuration whose value it is; "" where none is.
    """

    path: str
    kind: Literal["uri_folder", "uri_file", "mltable", "custom_model", "mlflow_model", "number"] = "uri_folder"
    mode: Literal["mount", "download", "upload"] = "mount"
    key: str = ""


class Result(NamedTuple):
    """Something that a key of the configuration names to be written, beside the run folder.

    Attributes:
        key: of the configuration.
        folder: of this machine, that receives all that the job writes there.
        file: in it; "" where the key names the folder.
    """

    key: str
    folder: Path
    file: str = ""

    def word(self, output: str) -> str:
        """What the job is told instead, whose output of that name it is."""
        return f"{self.key}=${{{{outputs.{output}}}}}" + (f"/{self.file}" if self.file else "")


@dataclass(frozen=True)
class JobSpec:
    """One command, the same wherever it runs.

    Args:
        module: of Python, such as "pointseg.train".
        arguments: its words; ${{inputs.NAME}} and ${{outputs.NAME}} stand for places.
        config: what it is configured with, as the file that it takes along; None: by its words alone.
        inputs, outputs: places by name.
        nodes: machines.
        processes: on each machine; each is told its place by RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK,
            MASTER_ADDR and MASTER_PORT.
        variables: of the environment, beside those.
        searched: names of values that a sweep fills in, as ${{search_space.NAME}}.
        extras: of the package, whose packages it needs as well.
        results: what comes back beside the run folder, by the name of the output.
        sweep: that it belongs to.

    Raises:
        ConfigError: if there would be no process, or an argument names a place that is not given.

    Example:
        >>> JobSpec("pointseg.train", ("+experiment=kitti", "data.root=DIR"), processes=2).world
        2
    """

    module: str
    arguments: tuple[str, ...] = ()
    config: Mapping[str, Any] | None = field(default=None, kw_only=True)
    inputs: Mapping[str, Place] = field(default_factory=dict)
    outputs: Mapping[str, Place] = field(default_factory=dict)
    nodes: int = 1
    processes: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)
    searched: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    results: Mapping[str, Result] = field(default_factory=dict)
    sweep: SweepMember | None = None

    def __post_init__(self) -> None:
        for key, value in (("nodes", self.nodes), ("processes", self.processes)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(
                    f"{key} must be a positive whole number, not {value!r}",
                    where=f"compute.{key}",
                    remedy="Give 1 or more.",
                )
        for argument in self.arguments:
            left = PLACEHOLDER.sub("", argument)
            if "${{" in left:
                raise ConfigError("a placeholder is not understood", where=argument, remedy="Use ${{inputs.NAME}}.")
            known = {"inputs": self.inputs, "outputs": self.outputs, "search_space": self.searched}
            for side, name in PLACEHOLDER.findall(argument):
                if name not in known[side]:
                    raise ConfigError(f"the job has no {side[:-1]} {name!r}", where=argument)

    @property
    def world(self) -> int:
        """Processes on all machines."""
        return self.nodes * self.processes

    def words(self, folder: str | Path) -> tuple[str, ...]:
        """Its words where `write_config` has written into FOLDER, as that is called where the job runs."""
        if self.config is None:
            return self.arguments
        return ("--config-dir", str(folder), "--config-name", CONFIG_FILE.removesuffix(".yaml"), *self.arguments)

    def write_config(self, folder: Path, *, private: bool = False) -> None:
        """Write what it is configured with into a folder, where there is something.

        Args:
            private: nobody but this user may read it.

        Raises:
            OutputError: if it cannot be written.
        """
        if self.config is None:
            return
        write_text(folder / CONFIG_FILE, yaml.safe_dump(dict(self.config), sort_keys=False, allow_unicode=True))
        if private:
            (folder / CONFIG_FILE).chmod(0o600)

    def placed(self) -> tuple[str, ...]:
        """The arguments with the places' own paths, for a run on this machine."""

        def path_of(found: re.Match[str]) -> str:
            return (self.inputs if found[1] == "inputs" else self.outputs)[found[2]].path

        return tuple(PLACEHOLDER.sub(path_of, argument) for argument in self.arguments)

    def told(self, words: Mapping[str, str], *, searched: tuple[str, ...] = ()) -> JobSpec:
        """The job with overrides by key; its file no longer says what these keys are.

        Args:
            searched: names of values that a sweep fills in.
        """
        config = copy.deepcopy(dict(self.config)) if self.config is not None else None
        for key in words if config is not None else ():
            *parents, name = key.split(".")
            section: Any = config
            for parent in parents:
                section = section.get(parent) or {}
            if name in section:
                section[name] = None
        arguments = (*self.arguments, *words.values())
        return replace(self, arguments=arguments, config=config, searched=(*self.searched, *searched))

    def with_assets(self, settled: Callable[[str, Place], Place] | None = None) -> JobSpec:
        """The job, whose processes are told which data asset each key of theirs names.

        Args:
            settled: (key, azureml:NAME@latest) -> azureml:NAME:VERSION, of the kind that it is; None leaves all as it is.
        """
        inputs, told = dict(self.inputs), {}
        for name, place in self.inputs.items():
            if place.key and place.path.startswith("azureml:"):
                inputs[name] = settled(place.key, place) if settled else place
                told[place.key] = inputs[name].path
        return replace(self, inputs=inputs).with_sources(told) if told else self

    def with_sources(self, assets: Mapping[str, str]) -> JobSpec:
        """The job, whose processes learn that these keys are about these assets."""
        if self.config is None:
            return self
        context = {**self.config.get(SECTION, {}), "inputs": dict(assets)}
        return replace(self, config={**self.config, SECTION: context})
