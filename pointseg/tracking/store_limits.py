"""What a tracking store takes: names of metrics, rows of a request, characters of a tag.

Azure ML's figures are those of its page on service limits (learn.microsoft.com,
"Manage and increase quotas and limits"):
50 metric names a run, 250 rows a request, 1,000 characters a tag.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["MetricNames", "StoreLimits", "limits_of"]

RESERVED = 15  # names kept for what is neither a class's score nor the machine's load
MANY = ("iou/", "system/")  # in names of which there may be any number


class StoreLimits(NamedTuple):
    """Of one store; None: no limit that matters."""

    metric_names: int | None
    rows: int
    tag: int


def limits_of(store: str) -> StoreLimits:
    """The limits of a store by its address.

    Example:
        >>> limits_of("sqlite:///mlruns.db").metric_names is None
        True
    """
    return StoreLimits(50, 250, 1000) if store.startswith("azureml:") else StoreLimits(None, 1000, 4000)


class MetricNames:
    """The names of a run's metrics, as many as its store takes.

    Args:
        most: None takes all.
        known: that the run has already.
    """

    def __init__(self, most: int | None, known: Iterable[str] = ()) -> None:
        self.most, self._taken, self.left_out = most, set(known), set[str]()

    def take(self, name: str) -> bool:
        """Whether a metric of this name may be sent; scores of classes and the machine's load leave room for the others."""
        if self.most is None or name in self._taken:
            return True
        room = self.most - RESERVED if any(part in name for part in MANY) else self.most
        if len(self._taken) >= room:
            self.left_out.add(name)
            return False
        self._taken.add(name)
        return True
