"""Sweeps in Azure ML: the jobs of a grid as one, and the best trial of a sweep job."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from pointseg.azure import jobs
from pointseg.azure.sweeps import best_trial
from pointseg.cli.cancelling import offered_to_cancel
from pointseg.cli.job_places import Result, fetch_results
from pointseg.cli.saved import load_config
from pointseg.cli.sweeps import Best, Outcome, best_of, conclude, say_table
from pointseg.cli.values import plain
from pointseg.compute.azureml import AzureCompute
from pointseg.errors import JobFailed
from pointseg.redact import redact_text

if TYPE_CHECKING:
    from pointseg.cli.entry import Job

__all__ = ["Submitted", "as_member", "fetch_best", "keep_submitted"]

log = logging.getLogger(__name__)


class Submitted(NamedTuple):
    """One job of a grid: its name, the overrides of its run, the folder of the run here, and what else it writes."""

    name: str
    overrides: list[str]
    folder: Path
    results: Mapping[str, Result]


def as_member(compute: AzureCompute, job: Job) -> AzureCompute:
    """How one job of a grid is submitted: named and tagged so that the grid's jobs are found together."""
    if job.sweep_dir is None:
        return compute
    inside = job.sweep_dir.is_relative_to(job.start_dir)
    sweep = str(job.sweep_dir.relative_to(job.start_dir)) if inside else job.sweep_dir.name
    tags = {**compute.tags, "pointseg.sweep": sweep[-256:], "pointseg.sweep_number": str(job.number)}
    name = f"{compute.display_name or job.sweep_dir.name}-{job.number}"
    return replace(compute, display_name=name, tags=tags)


def keep_submitted(job: Job, client: Any, name: str, results: Mapping[str, Result]) -> None:
    """Remember a job of a grid. When all are submitted they are named, and with `compute.wait` followed and fetched."""
    if not job.submitted:
        job.at_end.append(lambda succeeded: _name_all(job.submitted))
        if job.config.compute.wait:
            job.after.append(partial(_follow_all, job, client))
    job.submitted.append(Submitted(name, list(HydraConfig.get().overrides.task), job.folder, results))


def _name_all(submitted: list[Submitted]) -> None:
    common = set.intersection(*(set(s.overrides) for s in submitted)) if len(submitted) > 1 else set()
    lines = [f"  {s.name}  {' '.join(w for w in s.overrides if w not in common)}  {s.folder}" for s in submitted]
    print(redact_text("\nThe jobs of this sweep:\n" + "\n".join(lines)), flush=True)


def _follow_all(job: Job, client: Any) -> None:
    """Stay until every job has ended, whatever became of the others, and fetch what they wrote.

    Raises:
        JobFailed: at the end, naming those that did not end well.
    """
    outcomes, failed = [], []
    for one in job.submitted:
        name, overrides, folder, results = one
        log.info("\nFollowing %s", name)
        left = [later.name for later in job.submitted[job.submitted.index(one) :]]
        try:
            with offered_to_cancel(client, *left):
                jobs.follow(client, name)
        except JobFailed as error:
            log.warning("%s", error)
            failed.append(name)
            outcomes.append(Outcome(overrides, None, folder, "failed"))
            continue
        jobs.fetch(client, name, "run", folder)
        log.info("Fetched into %s", folder)
        fetch_results(client, name, results)
        if (folder / "metrics.json").is_file():
            outcomes.append(Outcome(overrides, _miou(folder), folder))
    if any(outcome.miou is not None for outcome in outcomes):
        say_table(outcomes)
        assert job.sweep_dir is not None
        about = {"sampling": "grid", "trials": len(outcomes)}
        conclude(job.config, job.start_dir, job.sweep_dir, best_of(outcomes), about)
    if failed:
        raise JobFailed(f"{len(failed)} of {len(job.submitted)} jobs did not end well", where=", ".join(failed))


def fetch_best(job: Job, client: Any, name: str) -> None:
    """Bring the best trial's run folder into this one, say its values, and register it where that is asked for.

    Raises:
        JobFailed: if no trial has come to a score.
        AzureError: if it cannot be fetched.
    """
    assert job.search is not None
    best = best_trial(client, name)
    jobs.fetch(client, best, "run", job.folder)
    config = load_config(job.folder / "config.yaml")
    values = {d.key: _value(OmegaConf.select(config, d.key)) for d in job.search.space.dimensions}
    found = Best(job.folder, _miou(job.folder), {key: value for key, value in values.items() if value is not None})
    chosen = " ".join(f"{key}={value}" for key, value in found.values.items())
    log.info(
        "The best of %d trials is %s: mIoU %.2f %%  %s", job.search.settings.trials, best, 100 * found.miou, chosen
    )
    log.info("Fetched into %s", job.folder)
    about = {"sampling": job.search.settings.sampling, "trials": job.search.settings.trials, "job": name, "trial": best}
    conclude(job.search.config, job.start_dir, job.folder, found, about)


def _value(value: Any) -> str | None:
    """As it is written on a command line; None for a group, whose keys the run's config.yaml has."""
    value = plain(value) if OmegaConf.is_config(value) else value
    return None if value is None or isinstance(value, dict) else str(value)


def _miou(folder: Path) -> float:
    return float(json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["miou"])
