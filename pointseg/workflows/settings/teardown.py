"""What `teardown` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import TEXT, key, section
from pointseg.workflows.settings.shared import AzureConfig

__all__ = ["TeardownConfig"]


@dataclass
class TeardownConfig:
    """List and remove what this project made in a workspace and its resource group.

    Example:
        >>> TeardownConfig(endpoint="street", plan=True)
    """

    plan: bool = key(False, "list what there is, and change nothing")
    yes: bool = key(False, "remove it without asking; needed where there is no terminal")
    endpoint: str | None = key(
        None, "only what has this name: an endpoint, its schedule and rules of autoscaling, a container group", TEXT
    )
    only: list[str] = key(
        [],
        "kinds of things; []: the first three",
        choices=("schedules", "endpoints", "containers", "clusters", "assets"),
    )
    clusters: bool = key(False, "delete clusters as well; Kubernetes is detached")
    assets: bool = key(
        False,
        "archive models, environments, data assets and components as well; Azure does not delete them",
    )
    azure: AzureConfig = section(AzureConfig, "the workspace")
