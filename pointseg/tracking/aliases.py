"""Which version of a registered model an alias means.

A registry of MLflow keeps aliases itself. Azure ML's does not say that it does (its list of supported calls has none), so
there an alias is a tag of the version, whose value is when it was given: of several the latest counts, so a move is one
request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["holder_of", "keeps_aliases", "move_to"]

PREFIX = "pointseg.alias."
MOVED = "moved"  # the value where another version has it now


def keeps_aliases(store: str) -> bool:
    """Whether the registry of a store has aliases of its own."""
    return not store.startswith("azureml:")


def holder_of(client: Any, store: str, name: str, alias: str) -> Any:
    """The version of MLflow's client that has an alias, or None where aliases are tags.

    Raises:
        MlflowException: if there is no such model, or where the registry keeps aliases no such alias.
    """
    if keeps_aliases(store):
        return client.get_model_version_by_alias(name, alias)
    given = [(_given(version, alias), version) for version in _versions(client, name)]
    held = [(when, int(version.version), version) for when, version in given if when is not None]
    return max(held, key=lambda each: each[:2])[2] if held else None


def move_to(
    client: Any, store: str, name: str, alias: str, number: str, patiently: Callable[[Callable[[], Any]], Any]
) -> None:
    """Give an alias to a version, whichever had it before.

    Args:
        patiently: makes a request again where the store was busy.

    Raises:
        MlflowException: if the registry refuses.
    """
    if keeps_aliases(store):
        patiently(lambda: client.set_registered_model_alias(name, alias, number))
        return
    tag, now = f"{PREFIX}{alias}", f"{time.time():.3f}"
    others = [v.version for v in _versions(client, name) if _given(v, alias) is not None and str(v.version) != number]
    patiently(lambda: client.set_model_version_tag(name, number, tag, now))
    for other in others:
        patiently(partial(client.set_model_version_tag, name, str(other), tag, MOVED))


def _versions(client: Any, name: str) -> list[Any]:
    return list(client.search_model_versions(f"name = '{name}'"))


def _given(version: Any, alias: str) -> float | None:
    """When a version was given an alias; None if it does not have it."""
    value = (version.tags or {}).get(f"{PREFIX}{alias}")
    try:
        return None if value is None else float(value)
    except ValueError:
        return None
