"""What a deployment said last, for the message of its failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pointseg.azure.errors import AzureError, plain_errors
from pointseg.errors import PointsegError
from pointseg.redact import redact_text

__all__ = ["last_lines", "with_last_words"]

log = logging.getLogger(__name__)

LINES = 20
CONTAINERS = ("inference-server", "storage-initializer")  # the second fetches model and code, and may fail at that


def last_lines(client: Any, endpoint: str, name: str) -> list[str]:
    """The end of a deployment's log; empty where there is none, or it cannot be had.

    Example:
        >>> last_lines(client, "street", "v-1a2b3c4d5e")[-1]
        'error: there is no bundle ...'
    """
    for container in CONTAINERS:
        try:
            with plain_errors(f"reading the log of {name}"):
                text = client.online_deployments.get_logs(name, endpoint, LINES, container_type=container)
        except AzureError as error:
            log.debug("%s", error)
            continue
        lines = [redact_text(line.rstrip()) for line in str(text or "").splitlines() if line.strip()]
        if lines:
            return lines[-LINES:]
    return []


@contextmanager
def with_last_words(client: Any, endpoint: str, name: str) -> Iterator[None]:
    """Where the block fails, the log's end is logged, and its last line stands in the message."""
    try:
        yield
    except PointsegError as error:
        lines = last_lines(client, endpoint, name)
        for line in lines:
            log.error("log of %s: %s", name, line)
        said = f"; the last line of its log: {' '.join(lines[-1].split())[:300]}" if lines else ""
        raise AzureError(f"{error.what}{said}", where=error.where, remedy=error.remedy) from error
