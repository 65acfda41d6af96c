"""The tag by which what this project made in Azure is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pointseg.errors import ConfigError

__all__ = ["PUBLISHED", "TAG", "is_ours", "refuse_others"]

TAG = {"made_by": "pointseg"}
PUBLISHED = {"made-by": "pointseg.pipeline"}  # of published pipelines (pointseg.compute.publication)


def is_ours(tags: Mapping[str, Any] | None) -> bool:
    """Whether a resource with these tags was made by this project.

    Example:
        >>> is_ours({"made_by": "pointseg"}), is_ours({"team": "maps"}), is_ours(None)
        (True, False, False)
    """
    given = dict(tags or {})
    return any(mark.items() <= given.items() for mark in (TAG, PUBLISHED))


def refuse_others(name: str, tags: Mapping[str, Any] | None) -> None:
    """Keep away from what somebody else made: it would be changed here, and never be found again to take it down.

    Raises:
        ConfigError: naming the endpoint.
    """
    if not is_ours(tags):
        raise ConfigError(
            "there is one of this name that was not made from here",
            where=f"endpoint={name}",
            remedy="Choose another name, or give it the tag made_by: pointseg.",
        )
