"""Train with every combination of some values (a grid), compare the runs, and register the best."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable
from pointseg.core.progress import Ask, Progress, nobody, silent
from pointseg.jobs.backend import Backend, RemoteBackend, backend_of
from pointseg.jobs.context import SweepMember
from pointseg.workflows.job_specs.spec import job_of
from pointseg.workflows.settings.shared import TrackingConfig
from pointseg.workflows.settings.sweep import SweepConfig
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.sweeps.runs import (
    Outcome,
    Submissions,
    best_of,
    check_register,
    conclude,
    finish,
    keep_outcome,
    new_sweep_folder,
    outcomes_of,
    refuse_folder_of_search,
    run_training,
    with_values,
)
from pointseg.workflows.training.train import check_train

__all__ = ["SweepResult", "conclude_grid", "sweep"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep came to.

    Attributes:
        folder: of the sweep.
        outcomes: of the runs, by number.
        best: the one with the highest mIoU, with the values that set it apart; None where no run has scores (yet).
        registered: the version that the best run has become.
    """

    folder: Path
    outcomes: tuple[Outcome, ...]
    best: Outcome | None = None
    registered: str | None = None


def sweep(
    config: SweepConfig,
    *,
    progress: Progress = silent,
    ask: Ask = nobody,
    configured: Callable[[Mapping[str, Any]], TrainConfig] | None = None,
) -> SweepResult:
    """Train with every combination of the values of `grid`, each run in a numbered folder, under one tracked run.

    In Azure ML all are submitted, so that they run at the same time; with `wait` they are followed and fetched.

    Args:
        progress: makes a callback for each piece of work.
        ask: whether jobs in Azure ML are cancelled after Ctrl-C.
        configured: makes the configuration of a run of its values; None: `base` with the values set.

    Raises:
        ConfigError: naming the key that cannot be used, before the first run begins.
        JobFailed: if jobs did not end well.
        PointsegError: if a run fails; those after it are not begun.

    Example:
        >>> grid = {"optimizer.lr": [1e-3, 1e-2], "loss": [{"lovasz": 1.0}, {"cross_entropy": 1.0}]}
        >>> sweep(SweepConfig(TrainConfig(), grid=grid)).best.values
        {'optimizer.lr': 0.01, 'loss': {'lovasz': 1.0}}
    """
    backend = backend_of(config.compute, azure=asdict(config.azure), ask=ask)
    folder = Path(config.folder).expanduser().resolve() if config.folder else new_sweep_folder()
    refuse_folder_of_search(folder, "folder")
    check_register(config.register, config.base.tracking, backend)
    runs = []
    for values in _combinations(config.grid):
        training = configured(values) if configured else with_values(config.base, values)
        check_train(training)
        runs.append((values, training))
    check_writable(folder, "folder")
    submissions, succeeded = Submissions(), False
    try:
        for number, (values, training) in enumerate(runs):
            member = SweepMember(folder, number)
            log.info("\nRun %d (%d of %d)", number, number + 1, len(runs))
            _run(values, training, member, backend, config.compute, submissions, progress)
        result = conclude_grid(folder, submissions, config.base.tracking, config.register)
        succeeded = True
        return result
    finally:
        submissions.say()
        if outcomes := outcomes_of(folder):
            finish(folder, outcomes, config.base.tracking, succeeded=succeeded)


def _run(
    values: Mapping[str, Any],
    training: TrainConfig,
    member: SweepMember,
    backend: Backend | None,
    compute: Mapping[str, Any],
    submissions: Submissions,
    progress: Progress,
) -> None:
    folder = member.folder / str(member.number)
    if isinstance(backend, RemoteBackend):
        job = job_of("train", training, folder, backend, compute, member)  # type: ignore[arg-type]
        submissions.submit(job, values, folder, backend)
        return
    miou = run_training(training, member, folder, backend, compute, progress=progress)
    if miou is not None:
        keep_outcome(member, values, miou, folder)


def _combinations(grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the values, the last key's changing first.

    Raises:
        ConfigError: for a key without a list of values.
    """
    if not grid:
        raise ConfigError("there is nothing to compare", where="grid", remedy="Give a key several values.")
    for key, values in grid.items():
        if not isinstance(values, list | tuple) or not values:
            raise ConfigError(f"{values!r} is not a list of values", where=f"grid.{key}", remedy="Give a list.")
    return [dict(zip(grid, chosen, strict=True)) for chosen in itertools.product(*grid.values())]


def conclude_grid(folder: Path, submissions: Submissions, store: TrackingConfig, register: str | None) -> SweepResult:
    """After the last run of a grid: note the best, and register it where that is asked for. Runs that were submitted are
    followed before that, if somebody waits.

    Raises:
        JobFailed: at the end, naming the jobs that did not end well.
    """
    if submissions.backend is None:
        return _concluded(folder, outcomes_of(folder), store, register)
    if not submissions.backend.wait:
        return SweepResult(folder, tuple(Outcome(values, path) for _, _, values, path in submissions.jobs))
    outcomes = submissions.collect()
    result = _concluded(folder, outcomes, store, register)
    if result.best is not None:
        finish(folder, outcomes, store, succeeded=True)
    submissions.refuse_failed(outcomes)
    return result


def _concluded(folder: Path, outcomes: list[Outcome], store: TrackingConfig, register: str | None) -> SweepResult:
    best = best_of(outcomes)
    if best is None:
        return SweepResult(folder, tuple(outcomes))
    about = {"sampling": "grid", "trials": len(outcomes)}
    return SweepResult(folder, tuple(outcomes), best, conclude(folder, best, about, store, register))
