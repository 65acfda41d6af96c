"""Processes of a job in Azure ML that share the files of one prediction, on one machine or several."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from pointseg.core.ranks import Ranks

__all__ = ["locks_of_job", "wait_for_others"]

log = logging.getLogger(__name__)

JOB = "AZUREML_RUN_ID"
PATIENCE = timedelta(days=7)  # as long as a job may take
LOOK = 0.2


def locks_of_job() -> Path | None:
    """A local folder for locks in an Azure ML job, whose output is mounted from a store that may not lock files; None
    elsewhere, for the output folder. Machines share files by rank, so they need no common locks."""
    job = os.environ.get(JOB)
    return Path(tempfile.gettempdir()) / f"pointseg-{job}" if job else None


def wait_for_others(ranks: Ranks) -> None:
    """In an Azure ML job, wait until all processes have finished: one that ends with an error, as after unusable files, ends
    all others."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if ranks.world == 1 or JOB not in os.environ or not (address and port):
        return
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    first = ranks.rank == 0
    store = TCPStore(address, int(port), is_master=first, timeout=PATIENCE, wait_for_workers=False)
    _until(store, "done", ranks.world)
    if first:
        _until(store, "left", ranks.world)  # the store ends with this process
    else:
        store.add("left", 1)


def _until(store: object, name: str, world: int) -> None:
    """Count this process, and wait until all are counted."""
    store.add(name, 1)  # type: ignore[attr-defined]
    while store.add(name, 0) < world:  # type: ignore[attr-defined]
        time.sleep(LOOK)
