"""A search as Azure ML's sweep job: the command job as its trial, with the values that Azure draws in its words."""

from __future__ import annotations

import math
import re
from typing import Any

from pointseg.core.errors import ConfigError
from pointseg.jobs.search_space import OBJECTIVE, Choice, Dimension, Real, SearchSpace, SweepSettings, Whole, as_word

__all__ = ["check_for_azure", "names_of", "searched_words", "sweep_job"]

SCHEMA = "https://azuremlschemas.azureedge.net/latest/sweepJob.schema.json"
OF_TRIAL = ("command", "code", "environment", "environment_variables", "distribution", "resources")
MOST = 1000  # trials that Azure takes


def names_of(space: SearchSpace) -> dict[str, str]:
    """Key -> its name in Azure's search space: letters, digits and _, each name once."""
    names: dict[str, str] = {}
    for d in space.dimensions:
        name = re.sub(r"\W", "_", d.key, flags=re.ASCII)
        while name in names.values():
            name += "_"
        names[d.key] = name
    return names


def searched_words(space: SearchSpace) -> dict[str, str]:
    """Key -> its override with a placeholder that Azure fills in.

    Azure writes whole numbers of an interval as 8 or as 8.0; Hydra's int() makes one of both.

    Example:
        >>> searched_words(space)["optimizer.lr"]
        'optimizer.lr=${{search_space.optimizer_lr}}'
    """
    names = names_of(space)
    marks = {key: f"${{{{search_space.{name}}}}}" for key, name in names.items()}
    whole = {d.key for d in space.dimensions if isinstance(d, Whole) and _listed(d) is None}
    assigned = {key: f"int({mark})" if key in whole else mark for key, mark in marks.items()}
    plus = {key: word[: len(word) - len(word.lstrip("+"))] for key, word in space.words.items()}
    return {key: f"{plus[key]}{key}={value}" for key, value in assigned.items()}


def check_for_azure(space: SearchSpace, settings: SweepSettings, seconds: int | None) -> None:
    """Refuse what Azure would refuse later, or take and not do.

    Args:
        seconds: after which the whole job is ended.

    Raises:
        ConfigError: naming the key.
    """
    for key in ("trials", "parallel"):
        if getattr(settings, key) > MOST:
            raise ConfigError(f"Azure takes {MOST} at most", where=f"compute.sweep.{key}", remedy="Lower it.")
    if seconds is not None and settings.trial_seconds is not None and settings.trial_seconds > seconds:
        raise ConfigError(
            f"a trial may take longer than all together ({seconds} s)",
            where="compute.sweep.trial_seconds",
            remedy="Raise compute.seconds, which is of the whole sweep.",
        )
    for d in space.dimensions:
        for word in d.words if isinstance(d, Choice) else ():
            if re.search(r'["$`\\!\n]', str(word)):
                raise ConfigError(
                    f"{word} has signs that the shell of a job's machine would read",
                    where=space.words[d.key],
                    remedy="Search a key without quotes and dollars, or here with compute=local.",
                )


def sweep_job(job: dict[str, Any], space: SearchSpace, settings: SweepSettings) -> dict[str, Any]:
    """The content of the sweep job's file.

    Args:
        job: the command job of one trial, as `azureml.command_job` writes it.

    Example:
        >>> sweep_job(job, space, settings)["objective"]
        {'goal': 'maximize', 'primary_metric': 'val/miou'}
    """
    names = names_of(space)
    whole = {key: value for key, value in job.items() if key not in (*OF_TRIAL, "limits")}
    limits = {"max_total_trials": settings.trials, "max_concurrent_trials": min(settings.parallel, settings.trials)}
    if settings.trial_seconds is not None:
        limits["trial_timeout"] = settings.trial_seconds
    sweep = {
        **whole,
        "$schema": SCHEMA,
        "type": "sweep",
        "sampling_algorithm": _sampling(settings),
        "search_space": {names[d.key]: _distribution(d) for d in space.dimensions},
        "objective": {"goal": "maximize", "primary_metric": OBJECTIVE},
        "limits": {**limits, **job.get("limits", {})},
        "trial": {key: job[key] for key in OF_TRIAL if key in job},
    }
    if settings.early_termination is not None:
        sweep["early_termination"] = _termination(settings)
    return sweep


def _sampling(settings: SweepSettings) -> str | dict[str, Any]:
    if settings.sampling in ("random", "sobol"):
        return {"type": "random", "rule": settings.sampling, "seed": settings.seed}
    return settings.sampling


def _termination(settings: SweepSettings) -> dict[str, Any]:
    kinds: dict[str, dict[str, Any]] = {
        "median": {"type": "median_stopping"},
        "bandit": {"type": "bandit", "slack_factor": settings.slack},
        "truncation": {"type": "truncation_selection", "truncation_percentage": settings.share},
    }
    looks = {"delay_evaluation": settings.delay, "evaluation_interval": settings.interval}
    return {**kinds[str(settings.early_termination)], **looks}


def _listed(dimension: Whole) -> tuple[str, ...] | None:
    """Its values, where Azure has no distribution of just these: it rounds to multiples of the step."""
    if dimension.step == 1:
        return None
    return tuple(str(value) for value in range(dimension.low, dimension.high + 1, dimension.step))


def _distribution(dimension: Dimension) -> dict[str, Any]:
    listed = (
        dimension.words
        if isinstance(dimension, Choice)
        else _listed(dimension)
        if isinstance(dimension, Whole)
        else None
    )
    if listed is not None:
        return {"type": "choice", "values": [as_word(value) for value in listed]}
    assert isinstance(dimension, Real | Whole)
    low, high = dimension.low, dimension.high
    if dimension.log:  # Azure takes the exponents
        ends: dict[str, Any] = {"min_value": math.log(low), "max_value": math.log(high)}
    else:
        ends = {"min_value": low, "max_value": high}
    kind = ("q" if isinstance(dimension, Whole) else "") + ("loguniform" if dimension.log else "uniform")
    return {"type": kind, **ends, **({"q": 1} if isinstance(dimension, Whole) else {})}
