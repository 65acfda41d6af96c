"""YAML of somebody else: plain values, in the size and depth in which they are written."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["as_plain_yaml", "plain_yaml"]

DEEPEST = 50  # sections within sections


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which make a short file a huge value, and without endless depth."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):  # type: ignore[no-untyped-call]
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "it has an alias", mark)
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"it is more than {DEEPEST} levels deep", None)
        try:
            return super().compose_node(parent, index)  # type: ignore[no-untyped-call]
        finally:
            self._depth -= 1


def plain_yaml(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        yaml.YAMLError: if it is none, has aliases, or is nested more deeply than `DEEPEST`.
        ValueError: for a date that does not exist.

    Example:
        >>> plain_yaml("a: [1, 2]")
        {'a': [1, 2]}
    """
    return yaml.load(text, Loader=_PlainLoader)


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_plain_yaml(values: Any) -> str:
    """What `plain_yaml` reads: a value that occurs twice is written twice."""
    text: str = yaml.dump(values, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True)
    return text
