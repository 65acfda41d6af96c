"""Azure Container Instances: the client, and the calls about a container group."""

from __future__ import annotations

from typing import Any

from pointseg.azure.errors import completed, get_or_none, plain_errors
from pointseg.azure.sign_in import credential_of
from pointseg.core.optional_packages import needed

__all__ = ["container_groups", "container_instances", "delete_group", "find_group"]


def container_instances(subscription: str, auth: str) -> Any:
    """The client of a subscription's container groups.

    Raises:
        ConfigError: if azure-mgmt-containerinstance, or what signs in, is missing.
    """
    sdk = needed("azure.mgmt.containerinstance", "azure", "Container Instances")
    return sdk.ContainerInstanceManagementClient(credential_of(auth), subscription)


def container_groups(client: Any, resource_group: str) -> list[Any]:
    """All groups of a resource group, whoever made them; raises AzureError."""
    with plain_errors("listing container groups"):
        return list(client.container_groups.list_by_resource_group(resource_group))


def find_group(client: Any, resource_group: str, name: str) -> Any:
    """A group as it is, with the state of its containers; None where there is none. Raises AzureError."""
    return get_or_none(f"the container group {name}", lambda: client.container_groups.get(resource_group, name))


def delete_group(client: Any, resource_group: str, name: str) -> None:
    """Delete a group, if it exists, and wait until it is gone; raises AzureError."""
    delete = client.container_groups.begin_delete
    completed(f"deleting the container group {name}", lambda: delete(resource_group, name))
