"""Where jobs run: what a place has to offer so that `compute=NAME` may name it.

A new place is two files: a class with `run`, and an option of the group `compute` whose `_target_` is that class. What else
a place can do (`RemoteBackend`, `SearchBackend`, `PipelineBackend`) it says by having these methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from pointseg.core.errors import ConfigError
from pointseg.core.progress import Ask, nobody
from pointseg.core.targets import TARGET, arguments_of, build, find, is_target
from pointseg.jobs.pipeline import PipelineJob, PipelineSpec, Publishing
from pointseg.jobs.search_space import SearchSpace, SweepSettings
from pointseg.jobs.spec import JobSpec, Place

__all__ = [
    "Backend",
    "FoundTrial",
    "NO_ARGUMENTS",
    "PipelineBackend",
    "RemoteBackend",
    "SearchBackend",
    "backend_of",
    "has_own_files",
]

NO_ARGUMENTS = ("name", "sweep")  # of an option: what it is called, and how searches go there


class FoundTrial(NamedTuple):
    """The best trial of a search that ran elsewhere: the name of the search's job, and of the trial's."""

    job: str
    trial: str


class Backend(Protocol):
    """A place where jobs run: processes of this machine, the nodes of a cluster that share its files, or a cloud.

    `nodes` and `processes` say how many processes share the work.

    Example:
        >>> class Slurm:
        ...     def __init__(self, partition: str, nodes: int = 1, processes: int = 1) -> None:
        ...         self.partition, self.nodes, self.processes = partition, nodes, processes
        ...     def run(self, job: JobSpec, folder: Path) -> int:
        ...         job.write_config(folder / "job")
        ...         words = ["python", "-m", job.module, *job.words(folder / "job")]
        ...         return subprocess.call(["srun", "-p", self.partition, "-N", str(job.nodes), *words])
    """

    nodes: int
    processes: int

    def run(self, job: JobSpec, folder: Path) -> int:
        """Run a job to its end, or submit it, and give its exit code.

        Args:
            folder: of the run, in which the place may keep files of its own.

        Raises:
            JobFailed: if it fails without having said why.
        """


@runtime_checkable
class RemoteBackend(Protocol):
    """A place with files of its own: its jobs name what they read and write as inputs and outputs, and go on by themselves.

    Attributes:
        environment: what a job has installed; azureml:NAME:VERSION is trusted to have what it needs.
        data_mode: how a job gets at its inputs.
        wait: whether the command stays until a job ends, and brings back what it wrote.
    """

    environment: str
    data_mode: Literal["mount", "download", "upload"]
    wait: bool

    def training_output(self, number: int | None) -> Place:
        """Where a training keeps its run folder, so that the same again goes on with it.

        Args:
            number: of the run in its sweep.
        """

    def submit(self, job: JobSpec, folder: Path) -> str | None:
        """Submit a job, and give its name; None where it is only written, to be looked at."""

    def collect(self, name: str, job: JobSpec, folder: Path, waiting: tuple[str, ...] = ()) -> None:
        """Stay until a submitted job ends, and bring its run folder and results here.

        Args:
            waiting: jobs that will be collected after it.

        Raises:
            JobFailed: if it did not end well.
        """


@runtime_checkable
class SearchBackend(Protocol):
    """A place that draws and runs the trials of a search itself; elsewhere they are drawn here and run one by one."""

    def check_search(self, space: SearchSpace, settings: SweepSettings) -> None:
        """Raises ConfigError for what cannot be searched there, naming the key."""

    def search(self, job: JobSpec, space: SearchSpace, settings: SweepSettings, folder: Path) -> FoundTrial | None:
        """Run a search whose trials are this job; with `wait` bring the run of the best one into the folder."""


@runtime_checkable
class PipelineBackend(Protocol):
    """A place that runs a pipeline as one job, and may keep one for later; elsewhere its steps are run one by one."""

    def run_pipeline(
        self, pipeline: PipelineSpec, folder: Path, *, light_cluster: str | None, force_rerun: bool
    ) -> PipelineJob | None:
        """Run a pipeline; None where it is only written."""

    def publish(
        self, pipeline: PipelineSpec, folder: Path, wanted: Publishing, *, light_cluster: str | None, force_rerun: bool
    ) -> None:
        """Keep a pipeline under a name, and with a schedule let it run by itself."""

    def invoke(self, pipeline: PipelineSpec, folder: Path, name: str) -> PipelineJob | None:
        """Run what is kept under a name on what this pipeline reads."""

    def switch_schedule(self, name: str, action: Literal["enable", "disable", "remove"]) -> None:
        """Let a schedule run or rest, or delete it."""

    def published(self) -> list[str]:
        """What is kept and scheduled, one line each."""


def backend_of(
    compute: Mapping[str, Any], *, azure: Mapping[str, Any] | None = None, ask: Ask = nobody
) -> Backend | None:
    """The place that a `compute` section names by `_target_`; None where it names none: this process.

    Args:
        azure: the workspace, for a place that takes it.
        ask: for a place that asks the person who waits.

    Raises:
        ConfigError: if there is no such class, it does not take the keys, or is no place.

    Example:
        >>> backend_of({"_target_": "pointseg.jobs.local.LocalProcesses", "processes": 4}).processes
        4
    """
    if not is_target(compute):
        if compute.get("name", "local") != "local":
            raise ConfigError(
                "nothing says what runs there",
                where=f"compute={compute['name']}",
                remedy=f"Give compute.{TARGET}=CLASS.",
            )
        return None
    section = {key: value for key, value in compute.items() if key not in NO_ARGUMENTS}
    kind = find(section[TARGET], "compute")
    if not callable(getattr(kind, "run", None)):
        raise ConfigError(
            f"{section[TARGET]} is no place where jobs run",
            where=f"compute.{TARGET}",
            remedy="It needs nodes, processes and run(job, folder).",
        )
    taken = arguments_of(kind) or set()
    beside: dict[str, Any] = {key: value for key, value in (("azure", azure or {}), ("ask", ask)) if key in taken}
    backend: Backend = build(section, "compute", **beside)
    return backend


def has_own_files(compute: Mapping[str, Any]) -> bool:
    """Whether a `compute` section names a place with files of its own."""
    return is_target(compute) and callable(getattr(find(compute[TARGET], "compute"), "submit", None))
