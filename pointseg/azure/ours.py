"""The tag by which what this project made in Azure is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointseg.compute.publication import MARK as PUBLISHED
from pointseg.errors import ConfigError

__all__ = ["PUBLISHED", "TAG", "is_ours", "refuse_others"]

TAG = {"made_by": "pointseg"}


def is_ours(tags: Mapping[str, Any] | None) -> bool:
    """Whether a resource with these tags was made by this project.

    Example:
        >>> is_ours({"made_by": "pointseg"}), is_ours({"team": "maps"}), is_ours(None)
        (True, False, False)
    """
    given = dict(tags or {})
    return any(mark.items() <= given.items() for mark in (TAG, PUBLISHED))


def refuse_others(
    where: str, tags: Mapping[str, Any] | None, *, what: str = "an endpoint", mark: Mapping[str, str] = TAG
) -> None:
    """Keep away from what somebody else made, or another command for something else: its callers rely on what it does.

    Args:
        where: the word that names it, such as endpoint=NAME.
        tags: that it has.
        what: it is.
        mark: the tag that the asking command gives.

    Raises:
        ConfigError: naming the word.

    Example:
        >>> refuse_others("endpoint=street", {"made_by": "pointseg", "team": "maps"})
    """
    if mark.items() <= dict(tags or {}).items():
        return
    if is_ours(tags):
        raise ConfigError(
            f"there is {what} of this name that another command made, for something else",
            where=where,
            remedy="Choose another name.",
        )
    needed = ", ".join(f"{key}: {value}" for key, value in mark.items())
    raise ConfigError(
        f"there is {what} of this name that was not made from here",
        where=where,
        remedy=f"Choose another name, or give it the tag {needed}.",
    )
