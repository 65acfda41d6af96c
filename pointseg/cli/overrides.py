"""Words of a shell -> Hydra overrides. Hydra's grammar gives `=`, `,`, `(`, `~`, `$`, spaces and non-ASCII letters a
meaning; a path or URL has none of that, so it is quoted here before Hydra reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from pointseg.cli.schema import literal_keys, word_lists
from pointseg.core.errors import ConfigError

__all__ = ["parse", "quote", "quote_all"]


def quote(value: str, *, literal: bool = True) -> str:
    """A value in single quotes, so that Hydra takes every character as it is.

    Args:
        literal: also keep `${...}` from being interpolated.
    """
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value  # the user has quoted it for Hydra already
    if literal:
        value = re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", value)
    value = re.sub(r"(\\*)'", lambda found: found[1] * 2 + r"\'", value)
    trailing = len(value) - len(value.rstrip("\\"))
    return f"'{value}{chr(92) * trailing}'"


def quote_all(verb: str, overrides: Sequence[str], *, multirun: bool) -> list[str]:
    """Quote what needs it. In a sweep a comma still separates the values of a path key."""
    return [_quote_one(verb, override, multirun) for override in overrides]


def _quote_one(verb: str, override: str, multirun: bool) -> str:
    key, equals, value = override.partition("=")
    name = key.lstrip("+~")
    if not equals or value in ("", "null"):
        return override
    if name in word_lists() and value[0] == "[" and value[-1] == "]":
        return f"{key}=[" + ",".join(quote(word) for word in _words_within(value[1:-1])) + "]"
    if name in literal_keys(verb):
        if name.startswith("hydra."):  # a folder of Hydra's is one, also of a sweep, and may say ${now:...}
            return f"{key}={quote(value, literal=False)}"
        parts = value.split(",") if multirun and value[0] not in "'\"" else [value]
        return f"{key}=" + ",".join(quote(part) for part in parts)
    try:
        parse([override])
    except ConfigError:
        return f"{key}={quote(value)}"
    return override


def _words_within(text: str) -> list[str]:
    """Words between commas; those within brackets, braces or quotes separate none."""
    words, depth, quoted = [""], 0, ""
    for letter in text:
        if quoted:
            quoted = "" if letter == quoted else quoted
        elif letter in "'\"":
            quoted = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and not quoted and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def parse(overrides: Sequence[str]) -> list[Override]:
    """Hydra's reading of overrides.

    Raises:
        ConfigError: for one that its grammar does not take.
    """
    parsed = []
    for override in overrides:
        try:
            parsed.extend(OverridesParser.create().parse_overrides([override]))
        except HydraException as error:
            raise ConfigError(
                "not NAME=VALUE in Hydra's grammar",
                where=override,
                remedy="Put the value in single quotes inside double quotes: \"key='value'\".",
            ) from error
    return parsed
