"""What `sweep` and `search` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import MAPPING, PARTS, TEXT, WRITES, key, section
from pointseg.workflows.settings.shared import AzureConfig
from pointseg.workflows.settings.train import TrainConfig

__all__ = ["SearchConfig", "SweepConfig"]


@dataclass
class SweepConfig:
    """Train with every combination of some values, and compare the runs.

    Example:
        >>> SweepConfig(TrainConfig(), grid={"optimizer.lr": [1e-3, 1e-2], "seed": [0, 1]}, register="street")
    """

    base: TrainConfig = section(TrainConfig, "what all runs have in common")
    grid: dict[str, Any] = key(
        {}, "lists of values by key, such as optimizer.lr; the values of a section are sections", MAPPING
    )
    folder: str | None = key(None, "receives a folder for each run; null: multirun/DATE/TIME", WRITES)
    register: str | None = key(None, "NAME: register the model of the best run", TEXT)
    compute: dict[str, Any] = key({}, "where the runs take place; {}: in this process", PARTS)
    azure: AzureConfig = section(AzureConfig, "the workspace, where runs take place in Azure ML")


@dataclass
class SearchConfig:
    """Search the best values of some keys, trial after trial, for the highest `val/miou`.

    Example:
        >>> lr = Real("optimizer.lr", 1e-4, 1e-2, log=True)
        >>> SearchConfig(TrainConfig(), space=[lr, Choice("data.batch_size", (4, 8))], trials=20, folder="search")
    """

    base: TrainConfig = section(TrainConfig, "what all trials have in common")
    space: Any = key([], "dimensions: Choice, Real and Whole of pointseg.jobs.search_space; or a whole SearchSpace")
    trials: int = key(20, "how many; a search in the same folder goes on until there are as many")
    folder: str | None = key(None, "receives the record and a folder for each trial; null: multirun/DATE/TIME", WRITES)
    sampling: str | None = key(
        None, "here tpe or random; in Azure ML random, sobol, grid or bayesian; null: tpe, and there random"
    )
    early_termination: str | None = key(
        None, "here median or halving; in Azure ML median, bandit or truncation; null: every trial goes to its end"
    )
    delay: int = key(1, "validations before a trial may end")
    interval: int = key(1, "validations from one look to the next")
    seed: int = key(0, "of what is drawn; that of the training is base.seed")
    spared: int = key(4, "median: the first trials go to their end, for the others to be compared with")
    parallel: int = key(1, "in Azure ML: trials at a time")
    slack: float = key(0.1, "bandit: how far below the best, as a part of its score")
    share: int = key(20, "truncation: percent of the trials that end at each look")
    trial_seconds: int | None = key(None, "in Azure ML: after which a trial is ended")
    register: str | None = key(None, "NAME: register the model of the best trial", TEXT)
    compute: dict[str, Any] = key({}, "where the trials take place; {}: in this process", PARTS)
    azure: AzureConfig = section(AzureConfig, "the workspace, where trials take place in Azure ML")
