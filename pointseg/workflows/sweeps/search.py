"""Search the best values of some keys: trials one after another on this machine, or one sweep job in Azure ML."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pointseg.core.config_values import to_plain
from pointseg.core.errors import ConfigError, JobFailed, PointsegError
from pointseg.core.optional_packages import needed
from pointseg.core.progress import Ask, Progress, nobody, silent
from pointseg.core.saved_configuration import read_saved
from pointseg.engine.training.callbacks import EndEarly
from pointseg.engine.training.run_folder import RunFolder
from pointseg.jobs.backend import Backend, SearchBackend, backend_of
from pointseg.jobs.context import SweepMember
from pointseg.jobs.search_space import OBJECTIVE, Dimension, SearchSpace, SweepSettings, as_word
from pointseg.jobs.study import Study, Trial
from pointseg.workflows.job_specs.places import value_of
from pointseg.workflows.job_specs.spec import job_of
from pointseg.workflows.settings.sweep import SearchConfig
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.sweeps.runs import (
    Outcome,
    check_register,
    conclude,
    finish,
    miou_of,
    new_sweep_folder,
    run_training,
    with_values,
)
from pointseg.workflows.training.earlier_run import RESUME_AUTO
from pointseg.workflows.training.renamed_keys import renamed

__all__ = ["SearchResult", "pruning_of", "search"]

log = logging.getLogger(__name__)

STOPPED = 130  # the exit code after Ctrl-C
DEFAULT_SAMPLING = {"local": "tpe", "azure": "random"}

Configured = Callable[[Mapping[str, Any]], TrainConfig]
Around = Callable[[Path], AbstractContextManager[Any]]


@dataclass(frozen=True)
class SearchResult:
    """What a search came to.

    Attributes:
        folder: of the search; of one in Azure ML the run folder of the best trial, where it was waited for.
        trials: how each came out, by number; of a search in Azure ML the best alone.
        best: the one with the highest score; None where none has one (yet).
        registered: the version that the best trial has become.
    """

    folder: Path
    trials: tuple[Outcome, ...] = ()
    best: Outcome | None = None
    registered: str | None = None


def search(
    config: SearchConfig,
    *,
    progress: Progress = silent,
    ask: Ask = nobody,
    configured: Configured | None = None,
    around: Around = lambda folder: nullcontext(),
) -> SearchResult:
    """Run trials for the highest `val/miou`. The same again in the same folder goes on: what has ended is not run again.

    A trial that fails while it trains is noted, and the others go on; what is wrong before that would be wrong in every
    trial, and ends the search.

    Args:
        progress: makes a callback for each piece of work.
        ask: whether a job in Azure ML is cancelled after Ctrl-C.
        configured: makes the configuration of a trial of its values; None: `base` with the values set.
        around: entered around each trial in this process, with the trial's folder, such as what logs into it.

    Raises:
        ConfigError: for whatever cannot be searched, or not there.
        JobFailed: at the end, if trials have failed.

    Example:
        >>> lr = Real("optimizer.lr", 1e-4, 1e-2, log=True)
        >>> search(SearchConfig(TrainConfig(), space=[lr], trials=8, folder="search")).best.values
        {'optimizer.lr': 0.0031}
    """
    backend = backend_of(config.compute, azure=asdict(config.azure), ask=ask)
    there = isinstance(backend, SearchBackend)
    place = "azure" if there else "local"
    given = {one.name: getattr(config, one.name) for one in fields(SweepSettings) if one.name != "place"}
    settings = SweepSettings(place, **{**given, "sampling": config.sampling or DEFAULT_SAMPLING[place]})
    space = _space(config)
    settings.check(space)
    check_register(config.register, config.base.tracking, backend)
    configured = configured or (lambda values: with_values(config.base, values))
    folder = Path(config.folder).expanduser().resolve() if config.folder else new_sweep_folder()
    if isinstance(backend, SearchBackend):
        backend.check_search(space, settings)
        return _search_there(config, space, settings, folder, backend, configured)
    needed("optuna", "sweep", "a search for settings")
    return _Trials(config, space, settings, folder, backend, configured, around, progress).run()


def _space(config: SearchConfig) -> SearchSpace:
    """The dimensions, beside what all trials have in common, by which a search that goes on is known."""
    if isinstance(config.space, SearchSpace):
        return config.space
    dimensions: tuple[Dimension, ...] = tuple(config.space)
    if not dimensions:
        raise ConfigError("there is nothing to search", where="space", remedy="Give a dimension, such as Real.")
    words = {key: f"{key}={value}" for key, value in _leaves(to_plain(config.base)) if not key.startswith("tracking.")}
    words |= {d.key: f"{d.key}={d}" for d in dimensions}
    with_values(config.base, SearchSpace(dimensions, words).first())  # refuses a key that there is not
    return SearchSpace(dimensions, words)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def pruning_of(sweep: SweepMember | None) -> EndEarly | None:
    """What ends the training of a trial that falls behind; None where the run is no trial of a search here."""
    if sweep is None or not Study.is_in(sweep.folder):
        return None
    folder, number = sweep
    opened: list[Study] = []

    def falls_behind(validation: int, score: float) -> bool:  # asked of the first of several processes only
        if not opened:
            opened.append(Study(folder))
        return opened[0].report(number, validation, score)

    return EndEarly(falls_behind, OBJECTIVE)


# ---- here --------------------------------------------------------------------------------------------------------


@dataclass
class _Trials:
    """The trials on this machine, or at a place that runs one after another."""

    config: SearchConfig
    space: SearchSpace
    settings: SweepSettings
    folder: Path
    backend: Backend | None
    configured: Configured
    around: Around
    progress: Progress

    def run(self) -> SearchResult:
        store, trials = self.config.base.tracking, self.settings.trials
        with _alone(self.folder):
            study, succeeded = Study.begin(self.folder, self.space, self.settings), False
            try:
                if before := sum(trial.state != "running" for trial in study.trials()):
                    going_on = "Going on with the sweep in %s: %d of %d trials have been run."
                    log.info(going_on, self.folder, before, max(trials, before))
                while (trial := study.next(self.space)) is not None:
                    log.info("\nTrial %d (%d of %d): %s", trial.number, trial.number + 1, trials, _chosen(trial))
                    self._one(study, trial)
                result = self._concluded(study)
                self._refuse_failed(study)
                succeeded = True
                return result
            finally:
                finish(self.folder, self._outcomes(study), store, succeeded=succeeded)

    def _one(self, study: Study, trial: Trial) -> None:
        """Run a trial; one that was interrupted goes on."""
        run = RunFolder(self.folder / str(trial.number))
        training = self.configured(trial.values)
        if run.begun:
            training = replace(training, resume=RESUME_AUTO)
        else:
            run.config.unlink(missing_ok=True)
        member, compute = SweepMember(self.folder, trial.number), self.config.compute
        pruning = pruning_of(member) if self.backend is None else None
        try:
            with self.around(run.path):
                run_training(training, member, run.path, self.backend, compute, pruning=pruning, progress=self.progress)
        except KeyboardInterrupt:
            self._say_how_to_go_on()
            raise
        except PointsegError as error:
            stopped = getattr(error, "exit_code", 1) == STOPPED
            if stopped:
                self._say_how_to_go_on()
            if stopped or not run.config.is_file():  # it never began to train
                raise
            log.warning("Trial %d failed: %s", trial.number, error)
            study.fail(trial.number, error.what)
            return
        study.complete(trial.number, float(json.loads(run.metrics.read_text(encoding="utf-8"))["miou"]))

    def _say_how_to_go_on(self) -> None:
        log.info("The same command goes on with the search in its folder: hydra.sweep.dir=%s", self.folder)

    def _outcomes(self, study: Study) -> list[Outcome]:
        return [Outcome(t.values, self.folder / str(t.number), t.score, _note(t)) for t in study.trials()]

    def _concluded(self, study: Study) -> SearchResult:
        outcomes, best = self._outcomes(study), study.best()
        if best is None:
            return SearchResult(self.folder, tuple(outcomes))
        settings = self.settings
        about = {"sampling": settings.sampling, "trials": settings.trials, "seed": settings.seed}
        found = outcomes[best.number]
        version = conclude(self.folder, found, about, self.config.base.tracking, settings.register)
        return SearchResult(self.folder, tuple(outcomes), found, version)

    def _refuse_failed(self, study: Study) -> None:
        failed = [str(trial.number) for trial in study.trials() if trial.state == "failed"]
        if failed:
            raise JobFailed(
                f"{len(failed)} of {self.settings.trials} trials failed ({', '.join(failed)})",
                where=self.folder,
                remedy="Their logs say why.",
            )


def _chosen(trial: Trial) -> str:
    return " ".join(f"{key}={as_word(value)}" for key, value in trial.values.items())


def _note(trial: Trial) -> str:
    return (
        "not ended" if trial.state == "running" else f"failed: {trial.note}" if trial.state == "failed" else trial.note
    )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Refuse a second command on the same sweep."""
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            "another command is at work on this sweep", where=folder, remedy="Wait for its end."
        ) from error
    try:
        yield
    finally:
        lock.release()


# ---- where the trials are drawn there ------------------------------------------------------------------------------


def _search_there(
    config: SearchConfig,
    space: SearchSpace,
    settings: SweepSettings,
    folder: Path,
    backend: Any,
    configured: Configured,
) -> SearchResult:
    """One job of all trials; the best one's run folder comes here, where somebody waits."""
    training = configured(space.first())
    job = job_of("train", training, folder, backend, config.compute)
    job = replace(job, outputs={**job.outputs, "run": replace(job.outputs["run"], path="")})  # each trial has its own
    best = backend.search(job, space, settings, folder)
    if best is None:
        return SearchResult(folder)
    values = renamed(read_saved(RunFolder(folder).config))
    chosen = {d.key: value_of(values, d.key) for d in space.dimensions}
    # of a group that was chosen config.yaml has the keys, and not the option's name
    shown = {key: str(value) for key, value in chosen.items() if value is not None and not isinstance(value, dict)}
    found = Outcome(shown, folder, miou_of(folder))
    words = " ".join(f"{key}={value}" for key, value in shown.items())
    miou = 100 * (found.miou or 0.0)
    log.info("The best of %d trials is %s: mIoU %.2f %%  %s", settings.trials, best.trial, miou, words)
    about = {"sampling": settings.sampling, "trials": settings.trials, **best._asdict()}
    version = conclude(folder, found, about, config.base.tracking, settings.register)
    return SearchResult(folder, (found,), found, version)
