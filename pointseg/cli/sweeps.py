"""The runs of a sweep as one: their parent run, the best of them, and the table at the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pointseg import tracking
from pointseg.files import write_json

if TYPE_CHECKING:
    from pointseg.cli.entry import Job

__all__ = ["Best", "Outcome", "conclude", "end_with_table", "keep_outcome", "say_table"]

log = logging.getLogger(__name__)

REGISTERED = "registered.json"  # in a sweep's folder: the version that its best run has become


class Outcome(NamedTuple):
    """One run of a sweep: its overrides, mIoU (None where it came to none), folder, and what is to be said of it."""

    overrides: list[str]
    miou: float | None
    folder: Path
    note: str = ""


class Best(NamedTuple):
    """The best run of a sweep: its folder, mIoU, and the overrides that set it apart, by key."""

    folder: Path
    miou: float
    values: dict[str, str]


def keep_outcome(job: Job, miou: float) -> None:
    """Remember how a run of the sweep came out."""
    job.outcomes.append(Outcome(list(HydraConfig.get().overrides.task), miou, job.folder))


def end_with_table(job: Job) -> None:
    """When the whole command ends: end the sweep's parent run, and say its runs, best first; after the last run, note and
    register the best."""
    if job.at_end:
        return
    sweep_dir = job.sweep_dir
    assert sweep_dir is not None

    def end(succeeded: bool) -> None:
        uri = job.config.tracking.uri
        tracking.finish_parent(uri, job.start_dir, sweep_dir, "FINISHED" if succeeded else "FAILED")
        say_table(job.outcomes)

    def after_the_last() -> None:
        if job.outcomes:
            about = {"sampling": "grid", "trials": len(job.outcomes)}
            conclude(job.config, job.start_dir, sweep_dir, best_of(job.outcomes), about)

    job.at_end.append(end)
    job.after.append(after_the_last)


def best_of(outcomes: Sequence[Outcome]) -> Best:
    """The best run; of those with the same mIoU the first."""
    (best, chosen), *_ = _ranked(outcomes)
    return Best(best.folder, best.miou or 0.0, {w.partition("=")[0].lstrip("+"): w.partition("=")[2] for w in chosen})


def conclude(config: DictConfig, start_dir: Path, sweep_dir: Path, best: Best, about: Mapping[str, Any]) -> None:
    """Note the best run in the sweep's parent run, and register its model if `compute.sweep.register` says so.

    Args:
        config: of the runs.
        about: the sweep: how it sampled, how many trials it had.

    Raises:
        TrackingError: if the store cannot be used.
    """
    described = {
        "sweep.best_miou": round(best.miou, 6),
        **{f"sweep.best.{key}": word for key, word in best.values.items()},
    }
    described |= {f"sweep.{key}": value for key, value in about.items()}
    record = best.folder / "run.json"
    tracked = json.loads(record.read_text(encoding="utf-8")).get("tracking", {}) if record.is_file() else {}
    mark = {**described, "best_run_id": tracked.get("run_id"), "sweep.best_run_folder": str(best.folder)}
    tracking.mark_parent(config.tracking.uri, start_dir, sweep_dir, mark, {"best/miou": best.miou})
    name = OmegaConf.select(config, "compute.sweep.register")
    if name:
        _register_once(config, start_dir, sweep_dir, best, name, {**described, "sweep.folder": sweep_dir.name})


def _register_once(
    config: DictConfig, start_dir: Path, sweep_dir: Path, best: Best, name: str, tags: Mapping[str, Any]
) -> None:
    """Register the best run, unless an earlier command on the same sweep has."""
    from pointseg.cli.registering import register_best  # on use: it takes torch along

    record, wanted = sweep_dir / REGISTERED, {"name": name, "run": str(best.folder)}
    before = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if wanted.items() <= before.items():
        print(f"The best run is {name} version {before['version']} already.")
        return
    version = register_best(config, start_dir, best.folder, name, tags)
    write_json(record, {**wanted, "version": version})


def say_table(outcomes: Sequence[Outcome]) -> None:
    """The runs of a sweep, best first, each with what sets it apart from the others."""
    if not outcomes:
        return
    ranked = [(outcome, " ".join(chosen)) for outcome, chosen in _ranked(outcomes)]
    width = max(len(chosen) for _, chosen in ranked)
    lines = []
    for o, chosen in ranked:
        score = "mIoU      -  " if o.miou is None else f"mIoU {100 * o.miou:5.2f} %"
        lines.append(f"  {chosen:<{width}}  {score}  {o.folder}{f'  ({o.note})' if o.note else ''}")
    print("\nThe sweep, best first:\n" + "\n".join(lines), flush=True)


def _ranked(outcomes: Sequence[Outcome]) -> list[tuple[Outcome, list[str]]]:
    common = set.intersection(*(set(o.overrides) for o in outcomes)) if len(outcomes) > 1 else set()
    choices = [(o, [word for word in o.overrides if word not in common]) for o in outcomes]
    return sorted(choices, key=lambda pair: 1.0 if pair[0].miou is None else -pair[0].miou)
