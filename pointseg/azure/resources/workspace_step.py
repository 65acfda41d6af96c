"""The workspace itself: looked for, and made if asked for."""

from __future__ import annotations

from typing import Any

from pointseg.azure.errors import completing, get_or_none, sdk_entities
from pointseg.azure.names import check_location
from pointseg.azure.steps import Step
from pointseg.azure.workspace import Workspace
from pointseg.core.errors import ConfigError

__all__ = ["check_workspace", "workspace_step"]


def check_workspace(*, create: bool, location: str | None) -> None:
    """Raises ConfigError if a new workspace has no region, or the region is not one."""
    if location is not None:
        check_location("workspace.location", location)
    elif create:
        remedy = "Give its short name: workspace.location=westeurope."
        raise ConfigError("a new workspace needs a region", where="workspace.location", remedy=remedy)


def workspace_step(client: Any, workspace: Workspace, *, create: bool, location: str | None) -> Step:
    """Keep the workspace that exists, or make it.

    Args:
        client: of that workspace, whether it exists or not.
        create: make it if it does not exist.
        location: the region of a new one.

    Raises:
        ConfigError: if it does not exist and is not to be made, or is in another region.
        AzureError: if Azure cannot be asked, or has no such subscription or resource group.
    """
    name = workspace.name
    existing = get_or_none(f"the workspace {name}", lambda: client.workspaces.get(name))
    if existing is not None:
        if location is not None and str(existing.location).replace(" ", "").lower() != location:
            raise ConfigError(
                f"the workspace is in {existing.location}, and a workspace cannot be moved",
                where=f"workspace.location={location}",
                remedy="Leave it out, or name another workspace.",
            )
        return Step("workspace", name, "keep")
    if not create:
        raise ConfigError(
            "there is no such workspace",
            where=f"{workspace}, from {workspace.source}",
            remedy="Name another with azure.workspace, or make it: workspace.create=true workspace.location=REGION.",
        )
    make = completing(
        f"making the workspace {name}",
        lambda: client.workspaces.begin_create(sdk_entities().Workspace(name=name, location=location)),
    )
    notes = ("with its own storage account, key vault and Application Insights, which Azure charges by use",)
    return Step("workspace", name, "create", (f"in {location}, resource group {workspace.group}",), make, notes)
