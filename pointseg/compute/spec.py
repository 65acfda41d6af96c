"""A verb's command line as a job: what to run on which data, in how many processes on how many machines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pointseg.errors import ConfigError

__all__ = ["PLACEHOLDER", "JobSpec", "Place", "is_remote"]

PLACEHOLDER = re.compile(r"\$\{\{(inputs|outputs|search_space)\.(\w+)\}\}")
REMOTE = re.compile(r"(azureml:|https?://|abfss?://|wasbs?://)")


def is_remote(path: str) -> bool:
    """Whether a path is an address in Azure rather than a place on this machine.

    Example:
        >>> [is_remote(path) for path in ("azureml:semantic-kitti:3", "data/kitti")]
        [True, False]
    """
    return REMOTE.match(path) is not None


@dataclass(frozen=True)
class Place:
    """Where a job reads or writes.

    Attributes:
        path: of this machine, or an address such as azureml:NAME:VERSION; "" leaves the choice to where the job runs.
        kind: a folder, a file, an MLTable, or a model of a workspace; of an input also a number, which `path` is.
        mode: how a machine of Azure gets at it: "mount" as it reads, "download" before it starts; "upload" at its end.
    """

    path: str
    kind: Literal["uri_folder", "uri_file", "mltable", "custom_model", "mlflow_model", "number"] = "uri_folder"
    mode: Literal["mount", "download", "upload"] = "mount"


@dataclass(frozen=True)
class JobSpec:
    """One command, the same wherever it runs.

    Args:
        module: of Python, such as "pointseg.train".
        arguments: its words; ${{inputs.NAME}} and ${{outputs.NAME}} stand for places.
        inputs, outputs: places by name.
        nodes: machines.
        processes: on each machine; each is told its place by RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, NODE_RANK,
            MASTER_ADDR and MASTER_PORT.
        variables: of the environment, beside those.
        searched: names of values that a sweep fills in, as ${{search_space.NAME}}.
        extras: of the package, whose packages it needs as well.

    Raises:
        ConfigError: if there would be no process, or an argument names a place that is not given.

    Example:
        >>> JobSpec("pointseg.train", ("+experiment=kitti", "data.root=DIR"), processes=2).world
        2
    """

    module: str
    arguments: tuple[str, ...] = ()
    inputs: Mapping[str, Place] = field(default_factory=dict)
    outputs: Mapping[str, Place] = field(default_factory=dict)
    nodes: int = 1
    processes: int = 1
    variables: Mapping[str, str] = field(default_factory=dict)
    searched: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for key, value in (("nodes", self.nodes), ("processes", self.processes)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigError(f"{value!r} is no number of {key}", where=f"compute.{key}", remedy="Give 1 or more.")
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

    def placed(self) -> tuple[str, ...]:
        """The arguments with the places' own paths, for a run on this machine."""

        def path_of(found: re.Match[str]) -> str:
            return (self.inputs if found[1] == "inputs" else self.outputs)[found[2]].path

        return tuple(PLACEHOLDER.sub(path_of, argument) for argument in self.arguments)
