"""Ctrl-C while a job in Azure ML is followed: the wait ends, and the job if somebody says so."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pointseg.azure import jobs
from pointseg.core.errors import PointsegError
from pointseg.core.progress import Ask

__all__ = ["offered_to_cancel"]

log = logging.getLogger(__name__)


@contextmanager
def offered_to_cancel(client: Any, *names: str, ask: Ask) -> Iterator[None]:
    """Around what waits for jobs: at Ctrl-C asks whether they shall be cancelled as well.

    Raises:
        KeyboardInterrupt: in any case, as it came.

    Example:
        >>> with offered_to_cancel(client, job.name, ask=nobody):
        ...     jobs.follow(client, job.name)
    """
    try:
        yield
    except KeyboardInterrupt:
        if ask(f"Cancel {_named(names)} as well?"):
            _cancel(client, names)
        else:
            log.info("The job goes on." if len(names) == 1 else "The jobs go on.")
        raise


def _cancel(client: Any, names: Sequence[str]) -> None:
    """Cancel each job, also where another one, that may have ended meanwhile, cannot be."""
    failed = []
    for name in names:
        try:
            jobs.cancel(client, name)
        except PointsegError as error:
            log.warning("%s: %s", name, error)
            failed.append(name)
    if not failed:
        log.info("Cancelled.")
    elif len(failed) < len(names):
        log.info("The others are cancelled.")


def _named(names: Sequence[str]) -> str:
    return f"the job {names[0]}" if len(names) == 1 else f"the {len(names)} jobs that were not fetched"
