"""In place of the SDK's client where no workspace is named: nothing is there, and nobody is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pointseg.extras import needed

__all__ = ["Unasked", "is_asked"]


class Unasked:
    """A client that knows of nothing: every `get` finds nothing, every `list` is empty, nothing can be made.

    A plan made with it names everything that an empty workspace would need. What a workspace has to have already, such as the
    cluster of a batch endpoint, cannot be looked for: `is_asked` tells who wants to know.

    Example:
        >>> model_step(Unasked(), model).action
        'create'
    """

    def __getattr__(self, name: str) -> _Operations:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Operations()


class _Operations:
    """What the SDK has for one kind of thing."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("get"):
            return _nothing_found
        if name.startswith("list"):
            return _nothing_listed
        raise AttributeError(f"a plan calls {name}, which is more than a question")


def _nothing_found(*args: Any, **kwargs: Any) -> Any:
    core = needed("azure.core.exceptions", "azure", "Azure ML")
    raise core.ResourceNotFoundError(message="no workspace was asked")


def _nothing_listed(*args: Any, **kwargs: Any) -> Iterator[Any]:
    return iter(())


def is_asked(client: Any) -> bool:
    """Whether there is a workspace behind a client, so that what it does not find is not there."""
    return not isinstance(client, Unasked)
