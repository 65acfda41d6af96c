"""The end of a deployment's log, for the message of its failure."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pointseg.azure.errors import AzureError, plain_errors
from pointseg.core.errors import PointsegError
from pointseg.core.redaction import redact_text

__all__ = ["with_log_tail"]

log = logging.getLogger(__name__)

LINES = 20
CONTAINERS = ("inference-server", "storage-initializer")  # the second fetches model and code, and may fail at that


@contextmanager
def with_log_tail(client: Any, endpoint: str, name: str) -> Iterator[None]:
    """If the block fails, the end of the deployment's log is logged, and its last line is added to the message."""
    try:
        yield
    except PointsegError as error:
        lines = _log_tail(client, endpoint, name)
        for line in lines:
            log.error("log of %s: %s", name, line)
        last = f"; the last line of its log: {' '.join(lines[-1].split())[:300]}" if lines else ""
        raise AzureError(f"{error.what}{last}", where=error.where, remedy=error.remedy) from error


def _log_tail(client: Any, endpoint: str, name: str) -> list[str]:
    """The last lines; empty where there are none, or they cannot be read."""
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
