"""The workspace itself: looked for, and made where that is asked for."""

from __future__ import annotations

from typing import Any

from pointseg.azure.clusters import check_location
from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.plan import Step
from pointseg.azure.workspace import Workspace
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["check_workspace", "workspace_step"]


def check_workspace(*, create: bool, location: str | None) -> None:
    """Raises ConfigError if a workspace shall be made and nobody says where, or the region is none."""
    if location is not None:
        check_location("workspace.location", location)
    elif create:
        raise ConfigError(
            "a workspace is made in a region, and none is given",
            where="workspace.location",
            remedy="Give its short name: workspace.location=westeurope.",
        )


def workspace_step(client: Any, workspace: Workspace, *, create: bool, location: str | None) -> Step:
    """Keep the workspace that is there, or make it.

    Args:
        client: that was made for it, whether it is there or not.
        create: make it if it is not there.
        location: the region of a new one.

    Raises:
        ConfigError: if it is not there and is not to be made, or is in another region.
        AzureError: if Azure cannot be asked, or has no such subscription or resource group.
    """
    there = found(f"looking for the workspace {workspace.name}", lambda: client.workspaces.get(workspace.name))
    if there is not None:
        if location is not None and str(there.location).replace(" ", "").lower() != location:
            raise ConfigError(
                f"the workspace is in {there.location}, and a workspace does not move",
                where=f"workspace.location={location}",
                remedy="Leave it out, or name another workspace.",
            )
        return Step("workspace", workspace.name, "keep")
    if not create:
        raise ConfigError(
            "there is no such workspace",
            where=f"{workspace}, from {workspace.source}",
            remedy="Name another with azure.workspace, or make it: workspace.create=true workspace.location=REGION.",
        )
    return Step(
        "workspace",
        workspace.name,
        "create",
        (f"in {location}, resource group {workspace.group}",),
        lambda: _create(client, workspace, location),
        ("with a storage account, a key vault and Application Insights of its own, which Azure charges for by use",),
    )


def _create(client: Any, workspace: Workspace, location: str | None) -> None:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    with plain_errors(f"making the workspace {workspace.name}"):
        client.workspaces.begin_create(entities.Workspace(name=workspace.name, location=location)).result()
