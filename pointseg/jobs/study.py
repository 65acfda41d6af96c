"""The trials of a sweep on this machine: drawn by Optuna, and kept in the sweep's folder so that it can go on."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.files import write_json
from pointseg.core.optional_packages import needed
from pointseg.core.redaction import redact_text
from pointseg.jobs.search_space import OBJECTIVE, Choice, Dimension, Real, SearchSpace, SweepSettings

__all__ = ["Study", "Trial"]

DATABASE, RECORD = "study.db", "sweep.json"
NAME = "sweep"
FREE = ("trials", "register")  # what may differ when a sweep goes on


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep, as the study knows it.

    Attributes:
        number: of the trial, and of its folder.
        values: by key.
        state: "running" (or interrupted), "complete", "pruned" or "failed".
        score: of a trial that is complete or pruned.
        note: why it failed, or after how many validations it was ended.
    """

    number: int
    values: dict[str, object]
    state: str
    score: float | None = None
    note: str = ""


class Study:
    """Every process of a sweep may have one; all of them see the same trials.

    Args:
        folder: of the sweep, with a study in it (see `begin`).

    Raises:
        OutputError: if the study cannot be read.

    Example:
        >>> study = Study.begin(Path("multirun/1"), space, SweepSettings("local", 20, "tpe"))
        >>> trial = study.next()
        >>> study.complete(trial.number, 0.41)
    """

    def __init__(self, folder: Path) -> None:
        optuna = needed("optuna", "sweep", "a search for settings")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._folder = optuna, folder
        self._settings = _settings(folder)
        with _quiet(optuna, folder):
            self._study = optuna.create_study(
                storage=f"sqlite:///{folder / DATABASE}",
                study_name=NAME,
                direction="maximize",
                pruner=_pruner(optuna, self._settings),
                load_if_exists=True,
            )

    @classmethod
    def begin(cls, folder: Path, space: SearchSpace, settings: SweepSettings) -> Study:
        """A new study in a folder, or the one that is there already.

        Raises:
            ConfigError: if Optuna is not installed, or the folder holds a study of something else.
            OutputError: if it cannot be written.
        """
        needed("optuna", "sweep", "a search for settings")
        record = _record(space, settings)
        if (folder / RECORD).is_file():
            _check_same(folder, _read(folder), record)
        write_json(folder / RECORD, record)
        return cls(folder)

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a sweep's folder holds a study; a grid's does not."""
        return (folder / DATABASE).is_file()

    def next(self, space: SearchSpace) -> Trial | None:
        """The next trial to run: first one that was interrupted, else a new one; None when all are done."""
        known = self.trials()
        interrupted = next((trial for trial in known if trial.state == "running"), None)
        if interrupted is not None or len(known) >= self._settings.trials:
            return interrupted
        with _quiet(self._optuna, self._folder):
            self._study.add_trial(self._asked(space, len(known)))
        return self.trials()[len(known)]

    def report(self, number: int, validation: int, score: float) -> bool:
        """Note the score of a trial after one of its validations, counted from 1; True if it falls behind and shall end."""
        with _quiet(self._optuna, self._folder):
            found = self._study.get_trials(deepcopy=False)[number]
            trial = self._optuna.trial.Trial(self._study, found._trial_id)
            trial.report(score, validation)
            behind = bool(trial.should_prune())
            if behind:
                trial.set_user_attr("ended_after", validation)
            return behind

    def complete(self, number: int, score: float) -> Trial:
        """End a trial with the score of its best checkpoint; as pruned, if it was told to end by `report`."""
        with _quiet(self._optuna, self._folder):
            trial = self._trial(number)
            trial.set_user_attr("score", score)
            pruned = "ended_after" in trial.user_attrs
            self._tell(number, None if pruned else score, "PRUNED" if pruned else "COMPLETE")
        return self.trials()[number]

    def fail(self, number: int, why: str) -> None:
        """End a trial that came to no score."""
        with _quiet(self._optuna, self._folder):
            self._trial(number).set_user_attr("why", redact_text(why))
            self._tell(number, None, "FAIL")

    def trials(self) -> list[Trial]:
        """All trials so far, by number."""
        with _quiet(self._optuna, self._folder):
            return [_seen(trial) for trial in self._study.get_trials(deepcopy=False)]

    def best(self) -> Trial | None:
        """The trial with the highest score of those that went to their end; where none did, of those that were ended."""
        for state in ("complete", "pruned"):
            found = [trial for trial in self.trials() if trial.state == state]
            if found:
                return max(found, key=lambda trial: (trial.score or 0.0, -trial.number))
        return None

    def _asked(self, space: SearchSpace, number: int) -> Any:
        """A new trial with all its values, drawn in a copy of the study: the database gets it in one piece, so that
        a kill leaves no trial that lacks some."""
        optuna = self._optuna
        # A sampler with a seed of the trial's own: a sweep that was interrupted draws what it would have drawn.
        copy = optuna.create_study(direction="maximize", sampler=_sampler(optuna, self._settings, number))
        copy.add_trials(self._study.get_trials(deepcopy=False))
        asked = copy.ask()
        for dimension in space.dimensions:
            _draw(asked, dimension)
        state = optuna.trial.TrialState.RUNNING
        return optuna.trial.create_trial(state=state, params=asked.params, distributions=asked.distributions)

    def _trial(self, number: int) -> Any:
        return self._optuna.trial.Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id)

    def _tell(self, number: int, score: float | None, state: str) -> None:
        self._study.tell(number, score, state=getattr(self._optuna.trial.TrialState, state))


def _settings(folder: Path) -> SweepSettings:
    try:
        return SweepSettings(**_read(folder)["settings"])
    except TypeError as error:
        remedy = "Go on with the release that began it, or name another folder."
        raise OutputError("the sweep is of another release", where=folder / RECORD, remedy=remedy) from error


def _sampler(optuna: Any, settings: SweepSettings, number: int) -> Any:
    digest = hashlib.sha256(f"{settings.seed} {number}".encode()).digest()
    kind = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}[settings.sampling]
    return kind(seed=int.from_bytes(digest[:4], "big"))


def _pruner(optuna: Any, settings: SweepSettings) -> Any:
    pruners = optuna.pruners
    if settings.early_termination == "median":
        return pruners.MedianPruner(settings.spared, settings.delay + 1, settings.interval)
    if settings.early_termination == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=settings.delay + 1, reduction_factor=2)
    return pruners.NopPruner()


def _draw(trial: Any, dimension: Dimension) -> None:
    if isinstance(dimension, Choice):
        trial.suggest_categorical(dimension.key, list(dimension.words))
    elif isinstance(dimension, Real):
        trial.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.log)
    else:
        step = {} if dimension.log else {"step": dimension.step}
        trial.suggest_int(dimension.key, dimension.low, dimension.high, log=dimension.log, **step)


def _seen(trial: Any) -> Trial:
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    about = trial.user_attrs
    ended = about.get("ended_after")
    note = about.get("why", "") if ended is None else f"ended after validation {ended}"
    return Trial(trial.number, dict(trial.params), states.get(trial.state.name, "running"), about.get("score"), note)


def _record(space: SearchSpace, settings: SweepSettings) -> dict[str, Any]:
    """What the study is of, without secrets."""
    words = {
        key: redact_text(word) for key, word in space.words.items() if key.split(".")[0] not in ("compute", "hydra")
    }
    searched = [d.key for d in space.dimensions]
    return {"objective": OBJECTIVE, "searched": searched, "words": words, "settings": vars(settings)}


def _check_same(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on with a study of other words or settings."""

    def flat(record: dict[str, Any]) -> dict[str, Any]:
        kept = {f"compute.sweep.{key}": value for key, value in record["settings"].items() if key not in FREE}
        return {"the objective": record["objective"], **kept, **record["words"]}

    old, new = flat(before), flat(now)
    different = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
    if different:
        raise ConfigError(
            f"the folder holds a sweep with other settings ({', '.join(different)})",
            where=f"hydra.sweep.dir={folder}",
            remedy="Give the words that began it, or name another folder.",
        )


def _read(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("objective", "searched", "words", "settings")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise OutputError(
            f"the record of the sweep cannot be read ({type(error).__name__})",
            where=path,
            remedy="Name another folder.",
        ) from error


@contextmanager
def _quiet(optuna: Any, folder: Path) -> Iterator[None]:
    """Without Optuna's remarks on features that it may change; a database that fails is told as one."""
    sql = needed("sqlalchemy.exc", "sweep", "a search for settings")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except (optuna.exceptions.StorageInternalError, sql.SQLAlchemyError) as error:
            raise OutputError(
                "the record of the sweep's trials cannot be used",
                where=folder / DATABASE,
                remedy="Is the disk full, or the folder of another release? Name another with hydra.sweep.dir=DIR.",
            ) from error
