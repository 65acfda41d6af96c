"""The tags by which this project recognizes what it made in Azure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointseg.core.errors import ConfigError

__all__ = ["MADE_BY_TAG", "PUBLISHED_TAG", "has_tag", "made_by_pointseg", "refuse_foreign"]

MADE_BY_TAG = {"made_by": "pointseg"}
PUBLISHED_TAG = {"made-by": "pointseg.pipeline"}  # of pipelines that a workspace keeps


def has_tag(tags: Mapping[str, Any] | None, tag: Mapping[str, str]) -> bool:
    """Whether the tags of a resource hold this one."""
    return tag.items() <= dict(tags or {}).items()


def made_by_pointseg(tags: Mapping[str, Any] | None) -> bool:
    """Whether this project made the resource that has these tags.

    Example:
        >>> made_by_pointseg({"made_by": "pointseg"}), made_by_pointseg({"team": "maps"}), made_by_pointseg(None)
        (True, False, False)
    """
    return has_tag(tags, MADE_BY_TAG) or has_tag(tags, PUBLISHED_TAG)


def refuse_foreign(
    where: str, tags: Mapping[str, Any] | None, *, what: str = "an endpoint", tag: Mapping[str, str] = MADE_BY_TAG
) -> None:
    """Refuse to change what somebody else made, or another command for something else: its callers rely on it.

    Args:
        where: the word that names it, such as endpoint=NAME.
        tags: that it has.
        what: it is.
        tag: that the calling command gives.

    Raises:
        ConfigError: naming the word.

    Example:
        >>> refuse_foreign("endpoint=street", {"made_by": "pointseg", "team": "maps"})
    """
    if has_tag(tags, tag):
        return
    if made_by_pointseg(tags):
        text = f"there is {what} of this name that another command made, for something else"
        raise ConfigError(text, where=where, remedy="Choose another name.")
    needed = ", ".join(f"{key}: {value}" for key, value in tag.items())
    remedy = f"Choose another name, or give it the tag {needed}."
    raise ConfigError(f"there is {what} of this name that was not made from here", where=where, remedy=remedy)
