"""What a search varies, and how it goes, with all that can be refused before a run starts.

Neither Optuna nor Azure is imported: `jobs/study.py` and `azure/sweep_file.py` make of a `SearchSpace` what they need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pointseg.core.errors import ConfigError

__all__ = ["OBJECTIVE", "Choice", "Dimension", "Real", "SearchSpace", "SweepSettings", "Whole", "as_word"]

OBJECTIVE = "val/miou"  # what a sweep maximises: the name under which a run logs it after every validation

# Where a sweep runs -> what it can do there.
SAMPLINGS = {"local": ("tpe", "random"), "azure": ("random", "sobol", "grid", "bayesian")}
TERMINATIONS = {"local": ("median", "halving"), "azure": ("median", "bandit", "truncation")}


@dataclass(frozen=True)
class Choice:
    """One of several values; on a command line each is a word of Hydra's grammar."""

    key: str
    words: tuple[Any, ...]


@dataclass(frozen=True)
class Real:
    """A number between two, ends included; `log`: as evenly in its logarithm."""

    key: str
    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Whole:
    """A whole number: low, low + step, ..., high."""

    key: str
    low: int
    high: int
    step: int = 1
    log: bool = False


Dimension = Choice | Real | Whole


@dataclass(frozen=True)
class SearchSpace:
    """What is searched.

    Attributes:
        dimensions: what varies.
        words: all overrides as they were given, by key; those of the dimensions too.
    """

    dimensions: tuple[Dimension, ...]
    words: Mapping[str, str]

    def with_values(self, values: Mapping[str, object]) -> list[str]:
        """The overrides of one trial.

        Example:
            >>> space.with_values({"optimizer.lr": 0.001})
            ['+experiment=quick', 'optimizer.lr=0.001']
        """
        return [
            _assigned(word, key, as_word(values[key])) if key in values else word for key, word in self.words.items()
        ]

    def first(self) -> dict[str, object]:
        """A value of each dimension, to see that the configuration as such is sound."""
        return {d.key: d.words[0] if isinstance(d, Choice) else d.low for d in self.dimensions}

    @property
    def combinations(self) -> float:
        """How many different trials there are."""
        counts = (
            len(d.words)
            if isinstance(d, Choice)
            else (d.high - d.low) // d.step + 1
            if isinstance(d, Whole)
            else math.inf
            for d in self.dimensions
        )
        return math.prod(counts)


@dataclass(frozen=True)
class SweepSettings:
    """How a sweep goes: the section `compute.sweep` of the configuration, which tells what each means.

    Args:
        place: "local" or "azure".
        spared: local only.
        parallel, slack, share, trial_seconds: Azure only.

    Raises:
        ConfigError: naming the key.

    Example:
        >>> SweepSettings("local", trials=20, sampling="tpe", early_termination="median")
    """

    place: str
    trials: int
    sampling: str
    early_termination: str | None = None
    delay: int = 1
    interval: int = 1
    seed: int = 0
    register: str | None = None
    spared: int = 4
    parallel: int = 1
    slack: float = 0.1
    share: int = 20
    trial_seconds: int | None = None

    def __post_init__(self) -> None:
        for key, least in (("trials", 1), ("interval", 1), ("parallel", 1), ("delay", 0), ("spared", 0), ("seed", 0)):
            _check_whole(key, getattr(self, key), least)
        if self.trial_seconds is not None:
            _check_whole("trial_seconds", self.trial_seconds, 1)
        for key, known in (("sampling", SAMPLINGS), ("early_termination", TERMINATIONS)):
            value = getattr(self, key)
            if value not in known[self.place] and not (value is None and key == "early_termination"):
                elsewhere = next((place for place in known if value in known[place]), None)
                where = {"local": "compute=local and local_ddp", "azure": "compute=aml_*"}.get(elsewhere or "", "")
                null = " or null" if key == "early_termination" else ""
                raise _wrong(
                    key,
                    f"{value!r} is known to {where} only"
                    if where
                    else f"there is no {key.replace('_', ' ')} {value!r}",
                    f"Use {', '.join(known[self.place])}{null}.",
                )
        if self.sampling == "bayesian" and self.early_termination:
            raise _wrong(
                "early_termination",
                "Azure ends no trial of bayesian sampling early",
                "Set it to null, or sample randomly.",
            )
        if isinstance(self.slack, bool) or not isinstance(self.slack, int | float) or not self.slack > 0:
            raise _wrong("slack", f"{self.slack!r} is not above 0", "Give such as 0.1, a tenth of the best score.")
        if not isinstance(self.share, int) or not 1 <= self.share <= 99:
            raise _wrong("share", f"{self.share!r} is no percentage", "Give 1 to 99.")

    def check(self, space: SearchSpace) -> None:
        """Refuse what this sampling cannot search.

        Raises:
            ConfigError: naming the override.
        """
        for d in space.dimensions:
            word = space.words[d.key]
            if self.sampling == "grid" and not isinstance(d, Choice):
                raise ConfigError(
                    "a grid has no intervals", where=word, remedy="List values, or set compute.sweep.sampling=random."
                )
            if self.sampling == "bayesian" and not isinstance(d, Choice) and d.log:
                raise ConfigError(
                    "bayesian sampling in Azure knows no logarithm",
                    where=word,
                    remedy="Use interval(a,b), or set compute.sweep.sampling=random.",
                )
        if space.combinations < self.trials:
            raise _wrong(
                "trials",
                f"{self.trials} trials of only {space.combinations:.0f} combinations",
                "Lower it; without it every combination is run once.",
            )


def as_word(value: object) -> str:
    """A value as a word of Hydra's grammar; numbers with six digits, so that people can read and repeat them."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _assigned(word: str, key: str, value: str) -> str:
    """An override with another value, with the plus signs it had."""
    return f"{word[: len(word) - len(word.lstrip('+'))]}{key}={value}"


def _check_whole(key: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise _wrong(key, f"{value!r} is no whole number of at least {least}", f"Give {least} or more.")


def _wrong(key: str, what: str, remedy: str) -> ConfigError:
    return ConfigError(what, where=f"compute.sweep.{key}", remedy=remedy)
