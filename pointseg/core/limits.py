"""Settings outside their limits, refused with the key, the value and the remedy."""

from __future__ import annotations

from collections.abc import Sequence

from pointseg.core.errors import ConfigError

__all__ = ["require_at_least", "require_between", "require_choice", "require_positive"]


def require_choice(value: object, choices: Sequence[str], where: str, noun: str = "") -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ConfigError: naming the key and the choices.

    Example:
        >>> require_choice("uniform", ("uniform", "range"), "data.sampling.method", "sampling")
    """
    if value not in choices:
        what = f"there is no {noun} {value!r}" if noun else f"there is no {value!r}"
        raise ConfigError(what, where=where, remedy=f"Use {', '.join(map(str, choices))}.")


def require_between(value: float, low: float, high: float, where: str, remedy: str = "0 switches it off.") -> None:
    """Refuse a number outside [low, high]; NaN as well.

    Raises:
        ConfigError: naming the key.
    """
    if not low <= value <= high:
        raise ConfigError(f"{value} is not between {low:g} and {high:g}", where=where, remedy=remedy)


def require_positive(value: float, where: str) -> None:
    """Refuse zero, negative numbers and NaN.

    Raises:
        ConfigError: naming the key.
    """
    if not value > 0:
        raise ConfigError(f"{value} is not positive", where=where)


def require_at_least(value: int, least: int, where: str) -> None:
    """Refuse a smaller number.

    Raises:
        ConfigError: naming the key.
    """
    if value < least:
        raise ConfigError(f"{value} is less than {least}", where=where, remedy=f"Use {least} or more.")
