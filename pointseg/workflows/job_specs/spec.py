"""A task with its configuration as a job: for a place that shares this machine's files, and for one that has its own."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg.core.config_values import to_plain
from pointseg.core.errors import ConfigError, JobFailed
from pointseg.engine.training.run_folder import RunFolder
from pointseg.jobs.backend import Backend, RemoteBackend
from pointseg.jobs.context import JobContext, SweepMember
from pointseg.jobs.spec import JobSpec, Place
from pointseg.workflows.default_sections import with_default_sections
from pointseg.workflows.job_specs.config_file import in_place, job_config
from pointseg.workflows.job_specs.extras import extras_of
from pointseg.workflows.job_specs.places import data_along, places_read, results_of
from pointseg.workflows.training.earlier_run import RESUME_AUTO

__all__ = ["job_of", "plain_task", "run_as_job"]


def job_of(
    verb: str,
    config: Any,
    folder: Path,
    backend: Backend,
    compute: Mapping[str, Any],
    sweep: SweepMember | None = None,
) -> JobSpec:
    """A run as a job: its configuration goes along as a file.

    Where the place has files of its own, words name the inputs that the job reads and the outputs that it writes. A training
    looks there first whether it has begun in its folder: one whose machine was taken away begins again as a command on
    another machine, and goes on.

    Args:
        config: the dataclass of the verb's task.
        folder: of the run here.
        compute: the section that names the place, to be recorded.
        sweep: that the run belongs to.

    Raises:
        ConfigError: for a pattern of files, which only this machine knows, or a run of this machine to go on with.

    Example:
        >>> job_of("train", TrainConfig(), Path("run"), LocalProcesses(processes=4), {}).world
        4
    """
    if isinstance(backend, RemoteBackend):
        return _with_places(verb, config, folder, backend, compute, sweep)
    member = (None, 0) if sweep is None else (str(sweep.folder), sweep.number)
    context = JobContext(compute=compute, sweep_folder=member[0], number=member[1])
    content = job_config(verb, in_place(plain_task(verb, config), context), folder)
    nodes, processes = backend.nodes, backend.processes
    return JobSpec(_module(verb), config=content, nodes=nodes, processes=processes, sweep=sweep)


def _with_places(
    verb: str,
    config: Any,
    folder: Path,
    backend: Any,
    compute: Mapping[str, Any],
    sweep: SweepMember | None,
) -> JobSpec:
    """The job for a place with files of its own."""
    resume = getattr(config, "resume", None)
    if resume not in (None, RESUME_AUTO):
        raise ConfigError(
            "a job goes on in its own folder, and not in one of this machine",
            where=f"resume={resume}",
            remedy="Name the run of an earlier job by compute.run=NAME, without resume=.",
        )
    values, within = data_along(verb, plain_task(verb, config))
    words, inputs = places_read(type(config), values, backend.data_mode)
    words |= {key: f"{words[key]}/{rest}" for key, rest in within.items()}
    outputs = {"run": Place("")}
    if verb == "train":
        words["resume"] = f"resume={RESUME_AUTO}"
        outputs["run"] = backend.training_output(None if sweep is None else sweep.number)
    words["hydra.run.dir"] = "hydra.run.dir=${{outputs.run}}"
    results = results_of(verb, config, folder)
    for output, result in results.items():
        outputs[output] = Place("")
        words[result.key] = result.word(output)
    spec = JobSpec(
        _module(verb),
        (),
        inputs,
        outputs,
        config=job_config(verb, in_place(values, JobContext(compute=compute))),
        nodes=backend.nodes,
        processes=backend.processes,
        extras=extras_of(verb, config, backend.environment),
        results=results,
        sweep=sweep,
    )
    return spec.told(words).with_assets()


def plain_task(verb: str, config: Any) -> dict[str, Any]:
    """A task's configuration as plain values, its sections whole."""
    return to_plain(with_default_sections(config) if verb == "train" else config)


def run_as_job(job: JobSpec, folder: Path, backend: Backend) -> int:
    """Run a job at its place, and give its exit code.

    Raises:
        JobFailed: if it fails without having said why; of a training that has begun, with how it goes on.
    """
    try:
        return backend.run(job, folder)
    except JobFailed as error:
        goes_on = job.module == "pointseg.train" and not error.remedy and RunFolder(folder).last.is_file()
        remedy = f"Go on with: python -m pointseg.train {shlex.quote(f'resume={folder}')}" if goes_on else error.remedy
        raise JobFailed(error.what, where=error.where, remedy=remedy) from error


def _module(verb: str) -> str:
    return f"pointseg.{verb}"
