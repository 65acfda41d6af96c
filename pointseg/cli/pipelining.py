"""The `pipeline` verb: steps one after another, each a job of its own; on this machine, or as one job of Azure ML."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pointseg import tracking
from pointseg.cli.dispatch import COMPUTE_VARIABLE
from pointseg.cli.entry import Job
from pointseg.cli.pipeline_record import Record, StepState
from pointseg.cli.pipeline_steps import STORE, build_pipeline
from pointseg.compute import JobSpec, run_locally
from pointseg.compute.pipeline import PipelineSpec, PipelineStep
from pointseg.compute.spec import is_remote
from pointseg.data.store.writer import IN_PROGRESS
from pointseg.errors import BelowGate, ConfigError, OutputError
from pointseg.ranks import ranks_of_environment
from pointseg.training.run_folder import RunFolder
from pointseg.words import duration, listed

__all__ = ["pipeline_job"]

log = logging.getLogger(__name__)

STOPPED = 130  # the exit code of what was asked to stop
AZURE_KEYS = ("light_cluster", "publish", "version", "schedule", "invoke", "enable", "disable", "remove")


def pipeline_job(job: Job) -> None:
    """Run the steps, or what else is asked for of them.

    Raises:
        ConfigError: before anything starts, naming the step and the word.
        SystemExit: with the exit code of the step that failed, which has said why.
    """
    if ranks_of_environment().world > 1:
        raise ConfigError(
            "this process is one of a job already", where="pipeline", remedy="Start one process: the steps take more."
        )
    if job.config.compute.name.startswith("aml_"):
        from pointseg.cli.pipeline_azure import pipeline_in_azure

        pipeline_in_azure(job)
        return
    _refuse_azure_keys(job.config)
    pipeline = build_pipeline(job.config)
    for step in pipeline.steps:
        for name, place in step.spec.inputs.items():
            if is_remote(place.path):
                raise ConfigError(
                    "an address in Azure is read by a job there",
                    where=f"{step.name} {name}={place.path}",
                    remedy="Add compute=aml_cpu, or name a folder of this machine.",
                )
    _LocalRun(job, pipeline).run()


def _refuse_azure_keys(config: DictConfig) -> None:
    given = [key for key in AZURE_KEYS if config[key] is not None] + (["list"] if config.list else [])
    if given:
        raise ConfigError(f"{given[0]} is of pipelines in Azure", where=given[0], remedy="Add compute=aml_cpu.")


class _LocalRun:
    """The steps on this machine."""

    def __init__(self, job: Job, pipeline: PipelineSpec) -> None:
        self.job, self.config, self.pipeline = job, job.config, pipeline
        self.record = Record(job.folder, job.config.compute.name)
        self.parent: str | None = None

    def run(self) -> None:
        job, done, stopped_by_gate = self.job, 0, False
        names = [step.name for step in self.pipeline.steps]
        began = time.perf_counter()
        try:
            for step in self.pipeline.steps:
                state = self.record.look(self.pipeline, step)
                if state.kept and not self.config.force_rerun:
                    log.info("== %s: unchanged, kept", step.name)
                else:
                    self._start_parent()
                    self._one(step, state)
                done += 1
        except SystemExit as end:
            stopped_by_gate = end.code == BelowGate.exit_code
            raise
        finally:
            if self.parent is not None:
                status: Any = "FINISHED" if done == len(names) else "FAILED"
                tracking.finish_parent(self.config.tracking.uri, job.start_dir, job.folder, status)
            if done < len(names):
                kept = f"{listed(names[:done])} need{'s' if done == 1 else ''} not run again; g" if done else "G"
                again = shlex.quote(f"hydra.run.dir={job.folder}")
                how = "other words for the training, or a lower gate," if stopped_by_gate else "the same command"
                log.info("%s did not end well. %so on with %s and %s", names[done], kept, how, again)
        log.info("Done in %s. Results in %s", duration(time.perf_counter() - began), job.folder)
        for name in names:
            log.info("  %s/", name)

    def _one(self, step: PipelineStep, state: StepState) -> None:
        """Run a step to its end, in its folder."""
        folder = self.job.folder / step.name
        spec = self.pipeline.in_folder(step, self.job.folder)
        goes_on = state.same_task and _may_go_on(step, folder) and not self.config.force_rerun
        why = "goes on" if goes_on else self._why(step, state)
        log.info("== %s%s", step.name, f": {why}" if why else "")
        if not goes_on:
            _clear(folder, state)
        spec = replace(spec, arguments=(*spec.arguments, *self._marks(step)))
        self.record.begin(step, state.now)
        began = time.perf_counter()
        code = 1
        try:
            code = self._run(spec, folder)
            if not code and step.name == "train" and not RunFolder(folder).metrics.is_file():
                code = STOPPED  # a training that was stopped has no scores, whatever its exit code
        finally:
            self.record.end(step, time.perf_counter() - began, code)
        if code:
            raise SystemExit(code)

    def _run(self, spec: JobSpec, folder: Path) -> int:
        compute = self.config.compute
        if spec.world > 1:
            section = json.dumps(OmegaConf.to_container(compute, resolve=True))
            spec = replace(spec, variables={**spec.variables, COMPUTE_VARIABLE: section})
        return run_locally(spec, folder / "ranks", threads=compute.get("threads"))

    @staticmethod
    def _why(step: PipelineStep, state: StepState) -> str:
        if not state.before:
            return ""
        if not step.keeps and not state.changed:
            return "on what has come since" if step.name == "drift" else "once more, to see that it is there"
        if state.changed:
            return f"again, {' and '.join(state.changed)} changed"
        return "again" if state.whole else "again, what it wrote is not there any more"

    # ---- tracking --------------------------------------------------------------------------------------------

    def _start_parent(self) -> None:
        """One MLflow run above those of the steps."""
        settings = self.config.tracking
        if self.parent is None:
            self.parent = tracking.start_parent(
                settings.uri, settings.experiment, self._title(), self.job.start_dir, self.job.folder
            )

    def _title(self) -> str:
        return str(self.config.tracking.run_name or f"pipeline {self.job.folder.parent.name}/{self.job.folder.name}")

    def _marks(self, step: PipelineStep) -> list[str]:
        """Words by which the step's run is found below the parent; they are no part of what it does."""
        if self.parent is None or step.name in ("prepare", "deploy") or "tracking=off" in step.spec.arguments:
            return []
        if step.name == "register":
            return [f"tracking.tags.pipeline={self.parent}"]
        return [f"tracking.tags.mlflow.parentRunId={self.parent}"]


def _may_go_on(step: PipelineStep, folder: Path) -> bool:
    """Whether an unfinished run left something to go on from."""
    if step.name == "train":
        run = RunFolder(folder)
        return run.last.is_file() and run.config.is_file()
    return step.name == "prepare" and (folder / STORE / IN_PROGRESS).is_file()


def _clear(folder: Path, state: StepState) -> None:
    """Make room for a run from the beginning; what has cost work is moved aside, and not deleted."""
    if not folder.exists():
        return
    try:
        if state.before.get("outputs") or RunFolder(folder).last.is_file():
            number = next(n for n in range(1, 10_000) if not folder.with_name(f"{folder.name}-{n}").exists())
            aside = folder.with_name(f"{folder.name}-{number}")
            folder.rename(aside)
            log.info("   (what was there is in %s now)", aside)
        elif state.before:
            shutil.rmtree(folder)
        elif any(folder.iterdir()):
            raise OutputError(
                "the folder of the step holds something else",
                where=folder,
                remedy="Name another with hydra.run.dir=DIR.",
            )
    except OSError as error:
        raise OutputError(f"the folder cannot be emptied ({error.strerror})", where=folder) from error
