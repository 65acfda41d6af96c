"""A container of a storage account under a name of the workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.azure.errors import completing, get_or_none, sdk_entities
from pointseg.azure.names import check_matches
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.core.errors import ConfigError

__all__ = ["BlobDatastore", "datastore_step"]

RESERVED = ("workspaceblobstore", "workspaceartifactstore", "workspacefilestore", "workspaceworkingdirectory")


@dataclass(frozen=True)
class BlobDatastore:
    """A blob container, read and written with the caller's identity: no key is stored anywhere.

    Args:
        name: in the workspace.
        account: the storage account.
        container: in it.

    Raises:
        ConfigError: naming the key.
    """

    name: str
    account: str
    container: str

    def __post_init__(self) -> None:
        remedy = "Use letters, digits and _, at most 255."
        check_matches("datastore.name", self.name, r"[A-Za-z0-9_]{1,255}", "datastore name", remedy)
        if self.name.lower() in RESERVED:
            text = "the workspace reserves this name for itself"
            raise ConfigError(text, where=f"datastore.name={self.name}", remedy="Choose another name.")
        remedy = "Use 3 to 24 lower-case letters and digits."
        check_matches("datastore.account", self.account, r"[a-z0-9]{3,24}", "storage account name", remedy)
        remedy = "Use 3 to 63 lower-case letters, digits and single -."
        pattern = r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*"
        check_matches("datastore.container", self.container, pattern, "container name", remedy)

    def entity(self) -> Any:
        """The SDK's `AzureBlobDatastore`."""
        return sdk_entities().AzureBlobDatastore(
            name=self.name, account_name=self.account, container_name=self.container, tags=dict(MADE_BY_TAG)
        )


def datastore_step(client: Any, wanted: BlobDatastore) -> Step:
    """What to do so that the workspace has this datastore; nothing is sent but a question.

    Raises:
        ConfigError: if the name stands for another place: data assets would silently point there.
        AzureError: if Azure cannot be asked.
    """
    name = wanted.name
    existing = get_or_none(f"the datastore {name}", lambda: client.datastores.get(name))
    if existing is None:
        make = completing(f"making the datastore {name}", lambda: client.datastores.create_or_update(wanted.entity()))
        return Step(
            "datastore", name, "create", (f"container {wanted.container} of {wanted.account}, by identity",), make
        )
    account, container = getattr(existing, "account_name", None), getattr(existing, "container_name", None)
    if (account, container) != (wanted.account, wanted.container):
        raise ConfigError(
            f"the datastore exists and leads to {container or existing.type} of {account or 'another kind'}",
            where=f"datastore.name={name}",
            remedy="Choose another name: assets in it would point elsewhere.",
        )
    return Step("datastore", name, "keep")
