"""The Azure ML workspace that a configuration names, and its client; a plan can do without one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pointseg.azure.empty_workspace import EmptyWorkspace
from pointseg.azure.workspace import NothingNamed, Workspace, connect, find_workspace
from pointseg.workflows.settings.shared import AzureConfig

__all__ = ["client_for", "named_workspace"]

log = logging.getLogger(__name__)


def named_workspace(azure: AzureConfig, start_dir: Path | None = None) -> Workspace:
    """The workspace named by the settings, the environment or a file.

    Args:
        start_dir: where the file is looked for; None: in the working folder.

    Raises:
        NothingNamed: if no workspace is named.
        ConfigError: if its name is invalid or incomplete.

    Example:
        >>> named_workspace(AzureConfig(group="rg", workspace="ml")).name
        'ml'
    """
    given = {"subscription": azure.subscription, "group": azure.group, "name": azure.workspace}
    return find_workspace(start_dir or Path.cwd(), given)


def client_for(azure: AzureConfig, *, plan: bool) -> tuple[Workspace | None, Any]:
    """The workspace, and the SDK's client of it.

    With `plan` and no workspace named: None, and a client that finds nothing, so that the plan lists everything that an
    empty workspace would need; a warning says so.

    Raises:
        ConfigError: if no workspace is named without `plan`, or its name is invalid or incomplete.

    Example:
        >>> workspace, client = client_for(AzureConfig(), plan=True)
    """
    try:
        workspace = named_workspace(azure)
    except NothingNamed:
        if not plan:
            raise
        log.warning("No workspace is named, and none was asked: this is what an empty one would need.")
        return None, EmptyWorkspace()
    return workspace, connect(workspace, azure.auth)
