"""The runs of a sweep: each one run and noted in the sweep's folder, all compared at the end, the best one registered."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointseg import tracking
from pointseg.core.config_values import from_plain, to_plain
from pointseg.core.errors import ConfigError, JobFailed, ProcessFailed
from pointseg.core.files import write_json
from pointseg.core.progress import Progress
from pointseg.core.redaction import redact_text
from pointseg.engine.training.callbacks import EndEarly
from pointseg.engine.training.run_folder import RunFolder
from pointseg.jobs.backend import Backend, RemoteBackend
from pointseg.jobs.context import SweepMember
from pointseg.jobs.search_space import as_word
from pointseg.jobs.spec import JobSpec
from pointseg.jobs.study import Study
from pointseg.tracking.model_registry import check_name
from pointseg.workflows.job_specs.spec import job_of, run_as_job
from pointseg.workflows.settings.register_model import RegisterConfig
from pointseg.workflows.settings.shared import TrackingConfig
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.trained_models.register import register
from pointseg.workflows.training.train import train

__all__ = [
    "Outcome",
    "Submissions",
    "best_of",
    "check_register",
    "conclude",
    "finish",
    "keep_outcome",
    "miou_of",
    "new_sweep_folder",
    "outcomes_of",
    "refuse_folder_of_search",
    "run_training",
    "with_values",
]

log = logging.getLogger(__name__)

RUNS = ".runs"  # in a grid's folder: how each run came out
REGISTERED = "registered.json"  # in a sweep's folder: the version that its best run has become


@dataclass(frozen=True)
class Outcome:
    """How one run of a sweep came out.

    Attributes:
        values: what it was told, by key.
        folder: of the run.
        miou: of its best checkpoint on the validation split; None where it came to none.
        note: what is to be said of it, such as why it failed.
    """

    values: Mapping[str, Any]
    folder: Path
    miou: float | None = None
    note: str = ""


def new_sweep_folder() -> Path:
    """Where the runs of a sweep lie if nothing else is said."""
    return (Path("multirun") / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")).resolve()


def with_values(base: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """A training with other values of some keys.

    Raises:
        ConfigError: for a key that there is not, naming the nearest.

    Example:
        >>> with_values(TrainConfig(), {"optimizer.lr": 0.01}).optimizer
        {'lr': 0.01}
    """
    plain = to_plain(base)
    for key, value in values.items():
        *parents, name = key.split(".")
        section = plain
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[name] = value
    return from_plain(TrainConfig, plain)


def check_register(name: str | None, store: TrackingConfig, backend: Backend | None) -> None:
    """Refuse to register the best run where that cannot be.

    Raises:
        ConfigError: naming what is missing.
    """
    if name is None:
        return
    check_name(name)
    where = f"compute.sweep.register={name}"
    if tracking.resolve_uri(store.uri, Path.cwd()) is None:
        raise ConfigError(
            "models are registered in a store, but tracking is off", where=where, remedy="Set tracking.uri."
        )
    if isinstance(backend, RemoteBackend) and not backend.wait:
        raise ConfigError(
            "the best model is known when the jobs have ended",
            where=where,
            remedy="Add compute.wait=true, or register it later with scripts/register_model.py.",
        )


def refuse_folder_of_search(folder: Path, where: str = "hydra.sweep.dir") -> None:
    """Raises ConfigError for a grid in the folder of a search."""
    if Study.is_in(folder):
        raise ConfigError(
            "the folder holds a search",
            where=f"{where}={folder}",
            remedy="Go on with it by compute.sweep.trials=N, or name another folder.",
        )


# ---- one run -----------------------------------------------------------------------------------------------------


def run_training(
    config: TrainConfig,
    sweep: SweepMember,
    folder: Path,
    backend: Backend | None,
    compute: Mapping[str, Any],
    *,
    pruning: EndEarly | None = None,
    progress: Progress,
) -> float | None:
    """One training of a sweep, in this process or as a job, and its mIoU.

    Raises:
        ProcessFailed: if its process has failed and has said why.
        PointsegError: what `train` raises, and `run_as_job`.
    """
    if backend is None:
        run = train(
            config, folder=folder, progress=progress, composed=True, sweep=sweep, pruning=pruning, compute=compute
        )
        return None if run.scores is None else run.scores.miou
    code = run_as_job(job_of("train", config, folder, backend, compute, sweep), folder, backend)
    if code:
        raise ProcessFailed("the training did not end well", code, where=folder, remedy="Its log says why.")
    return miou_of(folder)


def miou_of(folder: Path) -> float | None:
    """The mIoU of a run folder; None where it has none."""
    metrics = RunFolder(folder).metrics
    return float(json.loads(metrics.read_text(encoding="utf-8"))["miou"]) if metrics.is_file() else None


def keep_outcome(sweep: SweepMember, values: Mapping[str, Any], miou: float, folder: Path) -> None:
    """Note in the sweep's folder how a run came out, whichever process it was."""
    told = {"values": dict(values), "miou": miou, "folder": str(folder)}
    write_json(sweep.folder / RUNS / f"{sweep.number}.json", told)


def outcomes_of(sweep_folder: Path) -> list[Outcome]:
    """How the runs of a grid came out so far, by number."""
    files = sorted((sweep_folder / RUNS).glob("*.json"), key=lambda file: int(file.stem))
    told = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [Outcome(one["values"], Path(one["folder"]), one["miou"]) for one in told]


# ---- runs that were submitted --------------------------------------------------------------------------------------


@dataclass
class Submissions:
    """The runs of a grid that were submitted as jobs, which run at the same time."""

    jobs: list[tuple[str, JobSpec, Mapping[str, Any], Path]] = field(default_factory=list)
    backend: RemoteBackend | None = None

    def submit(self, job: JobSpec, values: Mapping[str, Any], folder: Path, backend: RemoteBackend) -> None:
        """Submit the job of a run, which was told these values and whose folder here this is."""
        name = backend.submit(job, folder)
        if name is not None:
            self.jobs.append((name, job, values, folder))
            self.backend = backend

    def say(self) -> None:
        """Name them all."""
        outcomes = [Outcome(values, folder) for _, _, values, folder in self.jobs]
        lines = [
            f"  {name}  {_words(_distinct(outcomes, one))}  {one.folder}"
            for (name, *_), one in zip(self.jobs, outcomes, strict=True)
        ]
        if lines:
            log.info("%s", redact_text("\nThe jobs of this sweep:\n" + "\n".join(lines)))

    def collect(self) -> list[Outcome]:
        """Stay until every job has ended, whatever became of the others, and bring what they wrote."""
        assert self.backend is not None
        outcomes = []
        for number, (name, job, values, folder) in enumerate(self.jobs):
            log.info("\nFollowing %s", name)
            waiting = tuple(later[0] for later in self.jobs[number + 1 :])
            try:
                self.backend.collect(name, job, folder, waiting)
            except JobFailed as error:
                log.warning("%s", error)
                outcomes.append(Outcome(values, folder, note="failed"))
                continue
            outcomes.append(Outcome(values, folder, miou_of(folder)))
        return outcomes

    def refuse_failed(self, outcomes: Sequence[Outcome]) -> None:
        """Raises JobFailed that names the jobs that did not end well."""
        failed = [job[0] for job, one in zip(self.jobs, outcomes, strict=True) if one.note == "failed"]
        if failed:
            raise JobFailed(f"{len(failed)} of {len(self.jobs)} jobs did not end well", where=", ".join(failed))


# ---- all of them ---------------------------------------------------------------------------------------------------


def best_of(outcomes: Sequence[Outcome]) -> Outcome | None:
    """The best run, with the values that set it apart; of those with the same mIoU the first."""
    best = next((one for one in _ranked(outcomes) if one.miou is not None), None)
    return None if best is None else Outcome(_distinct(outcomes, best), best.folder, best.miou, best.note)


def conclude(
    folder: Path, best: Outcome, about: Mapping[str, Any], store: TrackingConfig, name: str | None
) -> str | None:
    """Note the best run in the sweep's parent run, and register its model under a name, if there is one.

    Args:
        folder: of the sweep.
        about: the sweep: how it sampled, how many trials it had.

    Returns:
        The version that was registered.

    Raises:
        TrackingError: if the store cannot be used.
    """
    described = {
        "sweep.best_miou": round(best.miou or 0.0, 6),
        **{f"sweep.best.{key}": as_word(value) for key, value in best.values.items()},
        **{f"sweep.{key}": value for key, value in about.items()},
    }
    run_id = RunFolder(best.folder).describe().get("tracking", {}).get("run_id")
    mark = {**described, "best_run_id": run_id, "sweep.best_run_folder": str(best.folder)}
    tracking.mark_parent(store.uri, Path.cwd(), folder, mark, {"best/miou": best.miou or 0.0})
    return _register_once(folder, best, {**described, "sweep.folder": folder.name}, store, name) if name else None


def _register_once(folder: Path, best: Outcome, tags: Mapping[str, Any], store: TrackingConfig, name: str) -> str:
    """Register the best run, unless an earlier command on the same sweep has."""
    record, wanted = folder / REGISTERED, {"name": name, "run": str(best.folder)}
    before = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if wanted.items() <= before.items():
        log.info("The best run is %s version %s already.", name, before["version"])
        return str(before["version"])
    tags = {**store.tags, **{key: str(value) for key, value in tags.items()}}
    into = TrackingConfig(store.uri, store.experiment, tags=tags)
    description = f"The best of {tags['sweep.trials']} trials of a sweep."
    registered = register(RegisterConfig(tracking=into, run=str(best.folder), name=name, description=description))
    write_json(record, {**wanted, "version": registered.version.number})
    return registered.version.number


def finish(folder: Path, outcomes: Sequence[Outcome], store: TrackingConfig, *, succeeded: bool) -> None:
    """End the sweep's parent run, and say the runs, best first, each with what sets it apart from the others."""
    tracking.finish_parent(store.uri, Path.cwd(), folder, "FINISHED" if succeeded else "FAILED")
    ranked = [(one, _words(_distinct(outcomes, one))) for one in _ranked(outcomes)]
    width = max((len(chosen) for _, chosen in ranked), default=0)
    lines = []
    for one, chosen in ranked:
        score = "mIoU      -  " if one.miou is None else f"mIoU {100 * one.miou:5.2f} %"
        lines.append(f"  {chosen:<{width}}  {score}  {one.folder}{f'  ({one.note})' if one.note else ''}")
    if lines:
        log.info("%s", redact_text("\nThe sweep, best first:\n" + "\n".join(lines)))


def _ranked(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return sorted(outcomes, key=lambda one: 1.0 if one.miou is None else -one.miou)


def _distinct(outcomes: Sequence[Outcome], one: Outcome) -> dict[str, Any]:
    """The values of a run that are not those of all others."""
    if len(outcomes) < 2:
        return dict(one.values)
    return {key: v for key, v in one.values.items() if any(key not in o.values or o.values[key] != v for o in outcomes)}


def _words(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={as_word(value)}" for key, value in values.items())
