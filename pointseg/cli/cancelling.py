"""Ctrl-C while a job in Azure ML is followed: the command ends, and the job if somebody says so."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pointseg.azure import jobs

__all__ = ["offered_to_cancel"]

log = logging.getLogger(__name__)


@contextmanager
def offered_to_cancel(client: Any, *names: str) -> Iterator[None]:
    """Around what waits for jobs: at Ctrl-C asks whether they shall be cancelled as well; nobody at a terminal means no.

    Raises:
        KeyboardInterrupt: in any case, as it came.
    """
    try:
        yield
    except KeyboardInterrupt:
        if _says_yes(f"\nCancel {_named(names)} as well? [y/N] "):
            for name in names:
                jobs.cancel(client, name)
            log.info("Cancelled.")
        else:
            log.info("The job goes on." if len(names) == 1 else "The jobs go on.")
        raise


def _named(names: Sequence[str]) -> str:
    return f"the job {names[0]}" if len(names) == 1 else f"the {len(names)} jobs that were not fetched"


def _says_yes(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    try:
        return input(question).strip().lower() in ("y", "yes")
    except (EOFError, KeyboardInterrupt):
        return False
