"""Sweep jobs of a workspace: which of their trials is the best."""

from __future__ import annotations

from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.errors import JobFailed

__all__ = ["best_trial"]

BEST = "best_child_run_id"  # the property in which Azure keeps it


def best_trial(client: Any, name: str) -> str:
    """The name of the best trial's job.

    Raises:
        JobFailed: if there is none.
        AzureError: if Azure ML cannot be asked.

    Example:
        >>> best_trial(client, "kind_box_1jvs4g2lf4")
        'kind_box_1jvs4g2lf4_3'
    """
    with plain_errors("asking for the best trial"):
        job = client.jobs.get(name)
    best = (job.properties or {}).get(BEST)
    if not best:
        raise JobFailed("no trial of the sweep has come to a score", where=name, remedy=f"Their logs: {job.studio_url}")
    return str(best)
