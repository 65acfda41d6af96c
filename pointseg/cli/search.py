"""A search for settings, `-m compute.sweep.trials=N`: what is refused before it starts, and its trials on this machine."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from pointseg import tracking
from pointseg.cli import checks
from pointseg.cli.overrides import PATH_KEYS, parse, quote
from pointseg.cli.sweeps import Best, Outcome, conclude, say_table
from pointseg.compute.study import Study, Trial
from pointseg.compute.sweep import OBJECTIVE, SearchSpace, SweepSettings, as_word, read_space
from pointseg.errors import ConfigError, JobFailed
from pointseg.extras import needed

if TYPE_CHECKING:
    from pointseg.cli.entry import Job
    from pointseg.training.early import EndEarly
    from pointseg.training.run_folder import RunFolder

__all__ = ["Search", "end_early", "planned", "search_here"]

STOPPED = 130  # the exit code after Ctrl-C
Launch = Callable[[Sequence[str], int], None]


@dataclass(frozen=True)
class Search:
    """A search that may start.

    Attributes:
        config: of a run with the first value of everything.
        folder: of the sweep; None: one is made.
        start_dir: where the command was started.
    """

    space: SearchSpace
    settings: SweepSettings
    config: DictConfig
    folder: Path | None
    start_dir: Path

    @property
    def in_azure(self) -> bool:
        return self.settings.place == "azure"

    def words(self, values: dict[str, object], folder: Path) -> list[str]:
        """The overrides of one run with these values."""
        left_out = ("compute.sweep.", "hydra.sweep.")
        keys = [key for key in self.space.words if not key.startswith(left_out)]
        words = SearchSpace(self.space.dimensions, {key: self.space.words[key] for key in keys}).with_values(values)
        return [*words, f"hydra.run.dir={quote(str(folder), literal=False)}"]


# ---- before it starts --------------------------------------------------------------------------------------------


def planned(verb: str, overrides: Sequence[str], *, multirun: bool) -> Search | None:
    """The search that checked overrides ask for; None where they ask for single runs or a grid.

    Raises:
        ConfigError: for whatever cannot be searched, or not there.
    """
    parsed = parse(overrides)
    intervals = [override for override in parsed if override.is_interval_sweep()]
    if not intervals and not any(override.key_or_group.startswith("compute.sweep.") for override in parsed):
        _refuse_folder_of_search(parsed)
        return None
    config, _ = checks.compose_checked(verb, overrides, multirun=multirun)
    section: dict[str, Any] = {str(key): value for key, value in config.compute.sweep.items()}
    given = [
        o for o in parsed if o.key_or_group.startswith("compute.sweep.") and o.key_or_group != "compute.sweep.register"
    ]
    _check_register(verb, config, section["register"], multirun)
    if section["trials"] is None:
        _refuse_folder_of_search(parsed)
        if intervals or given:
            raise ConfigError(
                "an interval has no end of values" if intervals else "this is about a search, and none is asked for",
                where=(intervals or given)[0].input_line,
                remedy="Say how many to try: -m compute.sweep.trials=N.",
            )
        return None
    if verb != "train":
        raise ConfigError(
            f"{verb} has no {OBJECTIVE} to be better at", where="compute.sweep.trials", remedy="Search with train."
        )
    if not multirun:
        raise ConfigError("a search makes several runs", where="compute.sweep.trials", remedy="Add -m.")
    if config.compute.get("run") is not None:
        raise ConfigError(
            "the trials of a search have folders of their own",
            where=f"compute.run={config.compute.run}",
            remedy="Leave it out.",
        )
    settings = SweepSettings("azure" if config.compute.name.startswith("aml_") else "local", **section)
    space = read_space(parsed, PATH_KEYS)
    settings.check(space)
    if settings.place == "local":
        needed("optuna", "sweep", "a search for settings")
    return Search(space, settings, config, _folder(parsed), Path.cwd())


def _check_register(verb: str, config: DictConfig, name: object, multirun: bool) -> None:
    if name is None:
        return
    from pointseg.tracking.registry import check_name

    where = f"compute.sweep.register={name}"
    check_name(name)
    if verb != "train" or not multirun:
        remedy = "Register a single run with scripts/register_model.py."
        raise ConfigError("this is about the best run of a sweep (train -m)", where=where, remedy=remedy)
    if tracking.resolve_uri(config.tracking.uri, Path.cwd()) is None:
        raise ConfigError(
            "models are registered in a store, but tracking is off", where=where, remedy="Set tracking.uri."
        )
    if config.compute.name.startswith("aml_") and not config.compute.wait:
        raise ConfigError(
            "the best model is known when the jobs have ended",
            where=where,
            remedy="Add compute.wait=true, or register it later with scripts/register_model.py.",
        )


def _refuse_folder_of_search(parsed: Sequence[Any]) -> None:
    """Raises ConfigError for a grid in the folder of a search."""
    given = next((o.value() for o in parsed if o.key_or_group == "hydra.sweep.dir"), None)
    if given is not None and Study.is_in(Path(str(getattr(given, "text", given))).expanduser()):
        raise ConfigError(
            "the folder holds a search",
            where=f"hydra.sweep.dir={getattr(given, 'text', given)}",
            remedy="Go on with it by compute.sweep.trials=N, or name another folder.",
        )


def _folder(parsed: Sequence[Any]) -> Path | None:
    """hydra.sweep.dir, where it is given."""
    given = next((o.value() for o in parsed if o.key_or_group == "hydra.sweep.dir"), None)
    if given is None:
        return None
    text = str(getattr(given, "text", given))
    if "${" in text:
        raise ConfigError(
            "a search that can go on has a folder of a fixed name", where=f"hydra.sweep.dir={text}", remedy="Name it."
        )
    return Path(text).expanduser().resolve()


# ---- its trials on this machine ----------------------------------------------------------------------------------


def search_here(search: Search, launch: Launch, at_end: list[Callable[[bool], None]]) -> None:
    """Run the trials one after the other, those of an earlier command with the same folder not again.

    A trial that fails while it trains is noted, and the others go on; what is wrong before that would be wrong in every
    trial, and ends the search.

    Args:
        launch: runs the overrides of a trial, given its number.
        at_end: called when the whole command ends.

    Raises:
        JobFailed: at the end, if trials have failed.
        SystemExit: if a trial was stopped, or refused before it began.
    """
    folder, trials = search.folder or _new_folder(), search.settings.trials
    with _alone(folder):
        study = Study.begin(folder, search.space, search.settings)
        at_end.append(lambda succeeded: _end(search, study, folder, succeeded))
        if before := sum(trial.state != "running" for trial in study.trials()):
            print(f"Going on with the sweep in {folder}: {before} of {max(trials, before)} trials have been run.")
        while (trial := study.next(search.space)) is not None:
            chosen = " ".join(_chosen(trial))
            print(f"\nTrial {trial.number} ({trial.number + 1} of {trials}): {chosen}", flush=True)
            _run(search, study, trial, folder, launch)
        _conclude(search, study, folder)
        failed = [str(trial.number) for trial in study.trials() if trial.state == "failed"]
        if failed:
            numbers = ", ".join(failed)
            raise JobFailed(
                f"{len(failed)} of {trials} trials failed ({numbers})", where=folder, remedy="Their logs say why."
            )


def _run(search: Search, study: Study, trial: Trial, folder: Path, launch: Launch) -> None:
    run = _run_folder(folder / str(trial.number))
    words = search.words(trial.values, run.path)
    if run.begun:  # and was interrupted
        words.append("resume=auto")
    else:
        run.config.unlink(missing_ok=True)
    try:
        launch(words, trial.number)
    except (KeyboardInterrupt, SystemExit) as end:
        stopped = isinstance(end, KeyboardInterrupt) or end.code == STOPPED
        if stopped:
            print(f"Go on with the sweep by the same command with {shlex.quote(f'hydra.sweep.dir={folder}')}")
        if stopped or not run.config.is_file():  # it never began to train
            raise
        reason = end.__context__
        study.fail(trial.number, str(getattr(reason, "what", None) or "its log says why"))
        return
    import json

    study.complete(trial.number, float(json.loads(run.metrics.read_text(encoding="utf-8"))["miou"]))


def end_early(job: Job) -> EndEarly | None:
    """What ends the training of a trial that falls behind; None where the run is no trial."""
    folder, number = job.sweep_dir, job.number
    if folder is None or not Study.is_in(folder):
        return None
    from pointseg.training.early import EndEarly

    opened: list[Study] = []

    def falls_behind(validation: int, score: float) -> bool:  # asked of the first of several processes only
        if not opened:
            opened.append(Study(folder))
        return opened[0].report(number, validation, score)

    return EndEarly(falls_behind, OBJECTIVE)


def _conclude(search: Search, study: Study, folder: Path) -> None:
    best = study.best()
    if best is None:
        return
    settings = search.settings
    about = {"sampling": settings.sampling, "trials": settings.trials, "seed": settings.seed}
    words = {key: as_word(value) for key, value in best.values.items()}
    conclude(search.config, search.start_dir, folder, Best(folder / str(best.number), best.score or 0.0, words), about)


def _end(search: Search, study: Study, folder: Path, succeeded: bool) -> None:
    tracking.finish_parent(search.config.tracking.uri, search.start_dir, folder, "FINISHED" if succeeded else "FAILED")
    outcomes = [Outcome(_chosen(t), t.score, folder / str(t.number), _note(t)) for t in study.trials()]
    say_table(outcomes)


def _chosen(trial: Trial) -> list[str]:
    return [f"{key}={as_word(value)}" for key, value in trial.values.items()]


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


def _new_folder() -> Path:
    return (Path("multirun") / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")).resolve()


def _run_folder(path: Path) -> RunFolder:
    from pointseg.training.run_folder import RunFolder  # on use: it takes torch along

    return RunFolder(path)
