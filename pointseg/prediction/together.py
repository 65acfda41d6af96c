"""Processes of a job in Azure ML that share the files of one prediction, on one machine or several."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from pointseg.prediction.output import Share

__all__ = ["locks_of_job", "wait_for_others"]

log = logging.getLogger(__name__)

JOB = "AZUREML_RUN_ID"
PATIENCE = timedelta(days=7)  # as long as a job may take
LOOK = 0.2


def locks_of_job() -> Path | None:
    """Where locks of this process's files lie: in a job of Azure ML on its own machine, since the output is mounted from a
    store that may not lock files; elsewhere in the output folder. Machines share the files out by rank and do not meet."""
    job = os.environ.get(JOB)
    return Path(tempfile.gettempdir()) / f"pointseg-{job}" if job else None


def wait_for_others(share: Share) -> None:
    """In a job of Azure ML, stay until all processes have done their shares: one that ends with an error, as it does after
    files that cannot be used, is the end of all."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if share.world == 1 or JOB not in os.environ or not (address and port):
        return
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    first = share.rank == 0
    store = TCPStore(address, int(port), is_master=first, timeout=PATIENCE, wait_for_workers=False)
    _until(store, "done", share.world)
    if first:
        _until(store, "left", share.world)  # the store goes with this process
    else:
        store.add("left", 1)


def _until(store: object, name: str, world: int) -> None:
    """Count this process, and wait until all are counted."""
    store.add(name, 1)  # type: ignore[attr-defined]
    while store.add(name, 0) < world:  # type: ignore[attr-defined]
        time.sleep(LOOK)
