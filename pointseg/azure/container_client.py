"""Azure Container Instances: the client, and the simplest of what is asked of it."""

from __future__ import annotations

from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.workspace import credential_of
from pointseg.extras import needed

__all__ = ["container_groups", "container_instances", "delete_group", "find_group"]


def container_instances(subscription: str, auth: str) -> Any:
    """The client of a subscription's container groups.

    Raises:
        ConfigError: if azure-mgmt-containerinstance, or what signs in, is missing.
    """
    sdk = needed("azure.mgmt.containerinstance", "azure", "Container Instances")
    return sdk.ContainerInstanceManagementClient(credential_of(auth), subscription)


def container_groups(client: Any, resource_group: str) -> list[Any]:
    """All groups of a resource group, whoever made them.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    with plain_errors("listing container groups"):
        return list(client.container_groups.list_by_resource_group(resource_group))


def find_group(client: Any, resource_group: str, name: str) -> Any:
    """A group as it is, with the state of its containers; None where there is none.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    return found(f"looking for the container group {name}", lambda: client.container_groups.get(resource_group, name))


def delete_group(client: Any, resource_group: str, name: str) -> None:
    """Delete a group and wait until it is gone; one that is gone already is no error.

    Raises:
        AzureError: if Azure refuses.
    """
    with plain_errors(f"deleting the container group {name}"):
        client.container_groups.begin_delete(resource_group, name).result()
