"""A stand-in for the SDK's client where no workspace is named: an empty workspace, without a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pointseg.core.optional_packages import needed

__all__ = ["EmptyWorkspace", "is_connected"]


class EmptyWorkspace:
    """A client of an empty workspace: every `get` finds nothing, every `list` is empty, nothing can be made.

    A plan made with it lists everything that an empty workspace would need. What must already exist, such as the cluster of a
    batch endpoint, cannot be looked up: check `is_connected` first.

    Example:
        >>> model_step(EmptyWorkspace(), model).action
        'create'
    """

    def __getattr__(self, name: str) -> _Operations:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Operations()


class _Operations:
    """The SDK's operations on one kind of resource."""

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


def is_connected(client: Any) -> bool:
    """Whether a client is connected to a workspace, so that what it does not find does not exist."""
    return not isinstance(client, EmptyWorkspace)
