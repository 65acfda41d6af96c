"""The options of a config group, shipped ones and the user's, each composed as a training would get it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pointseg.cli.hydra_options import PLAIN, HydraOptions, composer
from pointseg.cli.verbs import plain
from pointseg.core.errors import ConfigError

__all__ = ["OptionsOfGroup"]

SEARCHPATH = "hydra.searchpath="
VERB = "train"  # has every group


class OptionsOfGroup(Mapping[str, dict[str, Any]]):
    """Option -> its section. An option is composed when it is asked for, so that a broken one hides no other.

    Args:
        group: such as "model".
        options: Hydra's own, of which `config_dir` may hold further options.
        overrides: of a command line, of which `hydra.searchpath` may name further places.

    Example:
        >>> OptionsOfGroup("model")["frnet"]["height"]
        64
    """

    def __init__(self, group: str, options: HydraOptions = PLAIN, overrides: Sequence[str] = ()) -> None:
        self.group, self._options = group, replace(options, config_name=None)
        self._searchpath = [word for word in overrides if word.startswith(SEARCHPATH)]
        with composer(VERB, self._options, self._searchpath) as composing:
            self._names = composing.options(group)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, name: str) -> dict[str, Any]:
        """The section.

        Raises:
            KeyError: if there is no such option.
            ConfigError: if it cannot be composed, with what Hydra says.
        """
        if name not in self._names:
            raise KeyError(name)
        choice = f"{self.group}={name}"
        try:
            with composer(VERB, self._options, self._searchpath) as composing:
                return plain(composing.composed([choice])[self.group])
        except ConfigError as error:
            raise ConfigError(error.what, where=choice, remedy=error.remedy) from error
