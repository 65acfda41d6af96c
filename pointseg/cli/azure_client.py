"""The workspace of a job and its client; with `plan`, also without one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pointseg.azure.unasked import Unasked
from pointseg.azure.workspace import NothingNamed, Workspace, connect
from pointseg.cli.azure_job import workspace_of

if TYPE_CHECKING:
    from pointseg.cli.entry import Job

__all__ = ["client_for"]

log = logging.getLogger(__name__)


def client_for(job: Job) -> tuple[Workspace | None, Any]:
    """The workspace that a job names, and the SDK's client of it.

    With `plan=true` and nothing that names a workspace: None, and a client that finds nothing, so that the plan says all that
    an empty workspace would need; a line warns that none was asked.

    Raises:
        ConfigError: if no workspace is named and there is no plan, or it is named wrongly or in part.

    Example:
        >>> workspace, client = client_for(job)
    """
    try:
        workspace = workspace_of(job)
    except NothingNamed:
        if not job.config.get("plan"):
            raise
        log.warning("No workspace is named, and none was asked: this is what an empty one would need.")
        return None, Unasked()
    return workspace, connect(workspace, job.config.azure.auth)
