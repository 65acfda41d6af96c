"""Prepare, train, evaluate, register and deploy as one: here, or as one job of Azure ML; or what is kept there of it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from pointseg.core.addresses import is_remote
from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable, new_run_folder
from pointseg.core.progress import Ask, nobody
from pointseg.core.ranks import ranks_of_environment
from pointseg.jobs.backend import PipelineBackend, backend_of
from pointseg.jobs.local import LocalProcesses
from pointseg.jobs.pipeline import PipelineJob, PipelineSpec, Publishing
from pointseg.workflows.pipelines.chain import build_pipeline
from pointseg.workflows.pipelines.record import DONE, Record
from pointseg.workflows.pipelines.run_here import StepResult, StepsHere
from pointseg.workflows.settings.pipeline import PipelineConfig

__all__ = ["PipelineResult", "pipeline"]

log = logging.getLogger(__name__)

SCHEDULES = ("enable", "disable", "remove")
KEPT = ("light_cluster", "publish", "version", "schedule", "invoke", *SCHEDULES)  # keys of places that keep pipelines


@dataclass(frozen=True)
class PipelineResult:
    """What a pipeline came to.

    Attributes:
        folder: with a folder for each step.
        steps: those whose results are there.
        job: the name of the job in Azure ML.
        published: what is published and scheduled, one line each, where `list` asks for it.
    """

    folder: Path
    steps: tuple[StepResult, ...] = ()
    job: str | None = None
    published: tuple[str, ...] = ()


def pipeline(
    config: PipelineConfig, *, folder: str | Path | None = None, ask: Ask = nobody, composed: bool = False
) -> PipelineResult:
    """Run the steps, each a process or job of its own; the same in the same folder goes on, and keeps what is unchanged.

    The whole chain is checked before the first step begins.

    Args:
        folder: receives a folder for each step, and pipeline.json; None: outputs/DATE/TIME.
        ask: whether a job in Azure ML is cancelled after Ctrl-C.
        composed: whether the steps say themselves where they are tracked. Otherwise `tracking` is that of every step
            whose own is the default.

    Raises:
        ConfigError: before anything starts, naming the step and the key.
        ProcessFailed: if a step has failed, which has said why; its exit code is 3 where the gate has held a model back.
        JobFailed: if the job in Azure ML was waited for and did not end well.

    Example:
        >>> done = pipeline(PipelineConfig(input="KITTI", gate=GateConfig(miou=0.25)), folder="chain")
        >>> [step.name for step in done.steps]
        ['prepare', 'train', 'evaluate', 'register']
    """
    if ranks_of_environment().world > 1:
        raise ConfigError(
            "this process is one of a job already", where="pipeline", remedy="Start one process: the steps take more."
        )
    backend = backend_of(config.compute, azure=asdict(config.azure), ask=ask)
    if isinstance(backend, PipelineBackend):
        return _as_one_job(config, folder, backend, lambda: build_pipeline(config, backend, composed=composed))
    _refuse_keys_of_kept(config)
    spec = build_pipeline(config, backend, composed=composed)
    _refuse_addresses(spec)
    here = _folder(folder)
    steps = StepsHere(config, spec, here, backend or LocalProcesses(processes=1)).run()
    return PipelineResult(here, steps)


def _folder(folder: str | Path | None) -> Path:
    if folder is None:
        return new_run_folder()
    path = Path(folder).expanduser().resolve()
    check_writable(path, "hydra.run.dir")
    return path


def _refuse_keys_of_kept(config: PipelineConfig) -> None:
    given = [key for key in KEPT if getattr(config, key) is not None] + (["list"] if config.list else [])
    if given:
        raise ConfigError(f"{given[0]} is of pipelines in Azure", where=given[0], remedy="Add compute=aml_cpu.")


def _refuse_addresses(spec: PipelineSpec) -> None:
    for step in spec.steps:
        for name, place in step.spec.inputs.items():
            if is_remote(place.path):
                raise ConfigError(
                    "an address in Azure is read by a job there",
                    where=f"{step.name} {name}={place.path}",
                    remedy="Add compute=aml_cpu, or name a folder of this machine.",
                )


# ---- as one job --------------------------------------------------------------------------------------------------


def _as_one_job(
    config: PipelineConfig, folder: str | Path | None, backend: PipelineBackend, build: Callable[[], PipelineSpec]
) -> PipelineResult:
    asked = [key for key in SCHEDULES if getattr(config, key) is not None]
    chosen = asked + [key for key in ("publish", "invoke") if getattr(config, key) is not None]
    chosen += ["list"] * config.list
    if len(chosen) > 1:
        raise ConfigError(f"{chosen[0]} and {chosen[1]} are two commands", where=chosen[1], remedy="Give one of them.")
    if asked or config.list:
        return _managed(config, folder, backend, asked)
    for key in ("version", "schedule"):
        if getattr(config, key) is not None and config.publish is None:
            raise ConfigError("this is of what is published", where=key, remedy="Add publish=NAME.")
    spec = build()
    here = _folder(folder)
    cluster, again = config.light_cluster, config.force_rerun
    if config.publish is not None:
        wanted = Publishing(config.publish, config.version, config.schedule, config.time_zone)
        backend.publish(spec, here, wanted, light_cluster=cluster, force_rerun=again)
        return PipelineResult(here)
    if config.invoke is not None:
        return _recorded(config, spec, here, backend.invoke(spec, here, config.invoke))
    return _recorded(config, spec, here, backend.run_pipeline(spec, here, light_cluster=cluster, force_rerun=again))


def _managed(
    config: PipelineConfig, folder: str | Path | None, backend: PipelineBackend, asked: list[str]
) -> PipelineResult:
    """Say or change what is scheduled."""
    here = Path(folder or ".").resolve()
    for key in asked:
        backend.switch_schedule(str(getattr(config, key)), cast(Literal["enable", "disable", "remove"], key))
    if not config.list:
        return PipelineResult(here)
    lines = backend.published()
    log.info("%s", "\n".join(lines) or "Nothing is published.")
    return PipelineResult(here, published=tuple(lines))


def _recorded(config: PipelineConfig, spec: PipelineSpec, folder: Path, job: PipelineJob | None) -> PipelineResult:
    """Note the steps whose results were fetched, as those that run here are; None was only written."""
    if job is None:
        return PipelineResult(folder)
    record, steps = Record(folder, str(config.compute.get("name", "local"))), []
    for step in spec.steps:
        if step.name in job.fetched:
            record.begin(step, record.look(spec, step).now)
            record.end(step, None, 0, job=job.name)
            steps.append(StepResult(step.name, DONE, folder / step.name))
    if job.failed is not None:
        raise job.failed
    return PipelineResult(folder, tuple(steps), job.name)
