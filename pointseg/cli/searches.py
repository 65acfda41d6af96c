"""A search for settings, `-m compute.sweep.trials=N`: the words of a command line as the configuration of the workflow."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep

from pointseg.cli.command_line import Command
from pointseg.cli.console import log_to_file, progress_bar, says_yes
from pointseg.cli.override_checks import compose_checked
from pointseg.cli.overrides import parse
from pointseg.cli.schema import literal_keys
from pointseg.cli.verbs import plain, train_config
from pointseg.core.errors import ConfigError
from pointseg.jobs.search_space import OBJECTIVE, Choice, Dimension, Real, SearchSpace, Whole

__all__ = ["Search", "planned", "read_space"]

LOG = "tag(log, interval(a,b))"
LEFT_OUT = ("compute.sweep.", "hydra.sweep.")  # of a trial's words


@dataclass(frozen=True)
class Search:
    """A search that the words of a command line ask for.

    Attributes:
        command: with the first value of everything.
        section: `compute.sweep`.
        folder: of the search; None: one is made.
    """

    command: Command
    space: SearchSpace
    section: Mapping[str, Any]
    folder: Path | None

    def run(self) -> None:
        """Run it.

        Raises:
            PointsegError: what `workflows.search` raises.
        """
        from pointseg.workflows.settings.shared import AzureConfig
        from pointseg.workflows.settings.sweep import SearchConfig
        from pointseg.workflows.sweeps.search import search  # on use: it takes torch along

        config = plain(self.command.config)
        search(
            SearchConfig(
                base=train_config(self.command.config),
                space=self.space,
                folder=None if self.folder is None else str(self.folder),
                compute=config["compute"],
                azure=AzureConfig(**config.get("azure", {})),
                **self.section,
            ),
            progress=progress_bar,
            ask=says_yes,
            configured=self._configured,
            around=lambda folder: log_to_file(folder / "train.log"),
        )

    def _configured(self, values: Mapping[str, Any]) -> Any:
        """The training of a trial: options of groups may be among its values."""
        words = {key: word for key, word in self.space.words.items() if not key.startswith(LEFT_OUT)}
        overrides = SearchSpace(self.space.dimensions, words).with_values(values)
        options = replace(self.command.options, config_name=self.command.config_name)
        return train_config(compose_checked("train", overrides, multirun=False, options=options)[0])


def planned(verb: str, command: Command) -> Search | None:
    """The search that checked overrides ask for; None where they ask for single runs or a grid.

    Raises:
        ConfigError: for what is no search, and what the words of one contradict.
    """
    parsed, multirun, config = parse(command.overrides), command.options.multirun, command.config
    intervals = [override for override in parsed if override.is_interval_sweep()]
    ours = [override for override in parsed if override.key_or_group.startswith("compute.sweep.")]
    if not intervals and not ours:
        _refuse_folder_of_search(parsed)
        return None
    section: dict[str, Any] = plain(config.compute).get("sweep", {})
    given = [override for override in ours if override.key_or_group != "compute.sweep.register"]
    if section.get("register") is not None:
        _check_register(verb, config, section["register"], multirun)
    if section.get("trials") is None:
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
    return Search(command, read_space(parsed), section, _folder(parsed))


def _check_register(verb: str, config: Any, name: object, multirun: bool) -> None:
    from pointseg.jobs.backend import backend_of
    from pointseg.workflows.settings.shared import TrackingConfig
    from pointseg.workflows.sweeps.runs import check_register  # on use: it takes torch along

    if verb != "train" or not multirun:
        where, remedy = f"compute.sweep.register={name}", "Register a single run with scripts/register_model.py."
        raise ConfigError("this is about the best run of a sweep (train -m)", where=where, remedy=remedy)
    check_register(str(name), TrackingConfig(**plain(config.tracking)), backend_of(plain(config.compute)))


def _refuse_folder_of_search(parsed: Sequence[Any]) -> None:
    """Raises ConfigError for a grid in the folder of a search."""
    text = _sweep_dir(parsed)
    if text is not None:
        from pointseg.workflows.sweeps.runs import refuse_folder_of_search

        refuse_folder_of_search(Path(text).expanduser())


def _folder(parsed: Sequence[Any]) -> Path | None:
    text = _sweep_dir(parsed)
    if text is not None and "${" in text:
        raise ConfigError(
            "a search that can go on has a folder of a fixed name", where=f"hydra.sweep.dir={text}", remedy="Name it."
        )
    return None if text is None else Path(text).expanduser().resolve()


def _sweep_dir(parsed: Sequence[Any]) -> str | None:
    """hydra.sweep.dir, where it is given."""
    given = next((o.value() for o in parsed if o.key_or_group == "hydra.sweep.dir"), None)
    return None if given is None else str(getattr(given, "text", given))


# ---- its space, in Hydra's grammar --------------------------------------------------------------------------------


def read_space(overrides: Sequence[Override]) -> SearchSpace:
    """The search space that overrides in Hydra's grammar name; those with one value are fixed.

    Args:
        overrides: of `train`, as `hydra.core.override_parser` reads them.

    Raises:
        ConfigError: naming the override that cannot be searched.

    Example:
        >>> read_space(parse(["seed=1", "optimizer.lr=tag(log, interval(1e-4,1e-2))"])).dimensions
        (Real(key='optimizer.lr', low=0.0001, high=0.01, log=True),)
    """
    words = {override.key_or_group: override.input_line or "" for override in overrides}
    searched = [override for override in overrides if override.is_sweep_override()]
    for override in searched:
        _check_searched(override)
    if not searched:
        raise ConfigError(
            "there is nothing to search",
            where="compute.sweep.trials",
            remedy=f"Give a key several values: optimizer.lr=1e-3,1e-2 or 'optimizer.lr={LOG}'.",
        )
    return SearchSpace(tuple(_dimension(override) for override in searched), words)


def _check_searched(override: Override) -> None:
    key = override.key_or_group
    if key in literal_keys("train"):
        raise _refused(
            override, "a path is not searched", "Name one; a grid, without compute.sweep.trials, takes several."
        )
    if re.split(r"[./]", key)[0] in ("compute", "azure", "hydra", "tracking"):
        raise _refused(override, f"{key} says how a run is made, not what it learns", "Give it one value.")


def _dimension(override: Override) -> Dimension:
    key, value = override.key_or_group, override._value
    if getattr(value, "shuffle", False):
        raise _refused(override, "a search draws its values in an order of its own", "Leave shuffle() out.")
    log = "log" in getattr(value, "tags", ())
    for tag in set(getattr(value, "tags", ())) - {"log"}:
        raise _refused(override, f"there is no tag {tag!r}", f"Use {LOG}, or no tag.")
    if isinstance(value, IntervalSweep):
        return _interval(override, value.start, value.end, log)
    if log:
        raise _refused(override, "the tag log belongs to an interval", f"Write {LOG}.")
    if isinstance(value, RangeSweep) and all(isinstance(n, int) for n in (value.start, value.stop, value.step)):
        numbers = value.range()
        if len(numbers) == 0:
            raise _refused(override, "the range is empty", "range(1,9,2) is 1, 3, 5, 7.")
        ordered = (numbers[0], numbers[-1]) if numbers.step > 0 else (numbers[-1], numbers[0])
        return Whole(key, *ordered, step=abs(numbers.step))
    if not isinstance(value, ChoiceSweep | RangeSweep):
        raise _refused(override, "glob() is not searched", "List the values: choice(a,b).")
    listed = tuple(dict.fromkeys(override.sweep_string_iterator()))
    if not listed:
        raise _refused(override, "the range is empty", "range(0,1,0.25) is 0, 0.25, 0.5, 0.75.")
    return Choice(key, listed)


def _interval(override: Override, low: Any, high: Any, log: bool) -> Dimension:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise _refused(override, "an interval has two ends", "Give two finite numbers.")
    if not low < high:
        raise _refused(override, "the interval is empty", "The first number is the lower one.")
    if log and low <= 0:
        raise _refused(override, f"there is no logarithm of {low:g}", "Begin above 0, or leave tag(log, ...) out.")
    if isinstance(low, int) and isinstance(high, int):
        return Whole(override.key_or_group, low, high, log=log)
    return Real(override.key_or_group, float(low), float(high), log)


def _refused(override: Override, what: str, remedy: str) -> ConfigError:
    return ConfigError(what, where=override.input_line, remedy=remedy)
