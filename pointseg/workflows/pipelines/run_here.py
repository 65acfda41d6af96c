"""The steps of a pipeline on this machine: those that must run, in their folders, each going on where it can."""

from __future__ import annotations

import logging
import shlex
import shutil
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pointseg import tracking
from pointseg.core.errors import BelowGate, OutputError, ProcessFailed
from pointseg.core.text import duration, listed
from pointseg.data.store.layout import PACKING
from pointseg.engine.training.run_folder import RunFolder
from pointseg.jobs.backend import Backend
from pointseg.jobs.pipeline import PipelineSpec, PipelineStep
from pointseg.workflows.pipelines.chain import STORE
from pointseg.workflows.pipelines.record import DONE, Record, StepState
from pointseg.workflows.settings.pipeline import PipelineConfig

__all__ = ["StepResult", "StepsHere"]

log = logging.getLogger(__name__)

STOPPED = 130  # the exit code of what was asked to stop
KEPT = "kept"  # the state of a step that did not have to run again


@dataclass(frozen=True)
class StepResult:
    """A step whose results are there.

    Attributes:
        name: of the step.
        state: "done", or "kept" where it did not have to run again.
        folder: of its results.
        seconds: that it took; None where nobody here has counted.
    """

    name: str
    state: str
    folder: Path
    seconds: float | None = None


class StepsHere:
    """The steps on this machine, or at a place that shares its files.

    Args:
        folder: receives a folder for each step, and pipeline.json.
        backend: runs the jobs of the steps.
    """

    def __init__(self, config: PipelineConfig, pipeline: PipelineSpec, folder: Path, backend: Backend) -> None:
        self.config, self.pipeline, self.folder, self.backend = config, pipeline, folder, backend
        self.record = Record(folder, str(config.compute.get("name", "local")))
        self.parent: str | None = None
        self.results: list[StepResult] = []

    def run(self) -> tuple[StepResult, ...]:
        """Run what must run, one step after another.

        Raises:
            ProcessFailed: with the exit code of the step that failed, which has said why.
        """
        done, stopped_by_gate = 0, False
        names = [step.name for step in self.pipeline.steps]
        began = time.perf_counter()
        try:
            for step in self.pipeline.steps:
                state = self.record.look(self.pipeline, step)
                if state.kept and not self.config.force_rerun:
                    log.info("== %s: unchanged, kept", step.name)
                    self.results.append(StepResult(step.name, KEPT, self.folder / step.name))
                else:
                    self._start_parent()
                    self._one(step, state)
                done += 1
        except ProcessFailed as error:
            stopped_by_gate = error.exit_code == BelowGate.exit_code
            raise
        finally:
            if self.parent is not None:
                status: Any = "FINISHED" if done == len(names) else "FAILED"
                tracking.finish_parent(self.config.tracking.uri, Path.cwd(), self.folder, status)
            if done < len(names):
                kept = f"{listed(names[:done])} need{'s' if done == 1 else ''} not run again; g" if done else "G"
                again = shlex.quote(f"hydra.run.dir={self.folder}")
                how = "other words for the training, or a lower gate," if stopped_by_gate else "the same command"
                log.info("%s did not end well. %so on with %s and %s", names[done], kept, how, again)
        log.info("Done in %s. Results in %s", duration(time.perf_counter() - began), self.folder)
        for name in names:
            log.info("  %s/", name)
        return tuple(self.results)

    def _one(self, step: PipelineStep, state: StepState) -> None:
        """Run a step to its end, in its folder."""
        folder = self.folder / step.name
        spec = self.pipeline.in_folder(step, self.folder)
        goes_on = state.same_task and _may_go_on(step, folder) and not self.config.force_rerun
        why = "goes on" if goes_on else self._why(step, state)
        log.info("== %s%s", step.name, f": {why}" if why else "")
        if not goes_on:
            _clear(folder, state)
        spec = replace(spec, arguments=(*spec.placed(), *self._marks(step)))
        self.record.begin(step, state.now)
        began = time.perf_counter()
        code = 1
        try:
            code = self.backend.run(spec, folder)
            if not code and step.name == "train" and not RunFolder(folder).metrics.is_file():
                code = STOPPED  # a training that was stopped has no scores, whatever its exit code
        finally:
            seconds = time.perf_counter() - began
            self.record.end(step, seconds, code)
        if code:
            raise ProcessFailed(f"the step {step.name} did not end well", code, where=folder)
        self.results.append(StepResult(step.name, DONE, folder, seconds))

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
                settings.uri, settings.experiment, self._title(), Path.cwd(), self.folder
            )

    def _title(self) -> str:
        return str(self.config.tracking.run_name or f"pipeline {self.folder.parent.name}/{self.folder.name}")

    def _marks(self, step: PipelineStep) -> list[str]:
        """Words by which the step's run is found below the parent; they are no part of what it does."""
        if self.parent is None or step.name in ("prepare", "deploy") or not _is_tracked(step):
            return []
        if step.name == "register":
            return [f"tracking.tags.pipeline={self.parent}"]
        return [f"tracking.tags.mlflow.parentRunId={self.parent}"]


def _is_tracked(step: PipelineStep) -> bool:
    return (step.spec.config or {}).get("tracking", {}).get("uri") not in ("off", None)


def _may_go_on(step: PipelineStep, folder: Path) -> bool:
    """Whether an unfinished run left something to go on from."""
    if step.name == "train":
        run = RunFolder(folder)
        return run.last.is_file() and run.config.is_file()
    return step.name == "prepare" and (folder / STORE / PACKING).is_file()


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
