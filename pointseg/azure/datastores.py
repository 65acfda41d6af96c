"""A container of a storage account under a name of the workspace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.names import check_matches
from pointseg.azure.ours import TAG
from pointseg.azure.plan import Step
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["BlobDatastore", "datastore_step"]

OWN = ("workspaceblobstore", "workspaceartifactstore", "workspacefilestore", "workspaceworkingdirectory")


@dataclass(frozen=True)
class BlobDatastore:
    """A blob container, read and written with the identity of whoever asks: no key is kept anywhere.

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
        remedy = "Letters, digits and _, 255 at most."
        check_matches("datastore.name", self.name, r"[A-Za-z0-9_]{1,255}", "name of a datastore", remedy)
        if self.name.lower() in OWN:
            raise ConfigError(
                "the workspace has this one for itself",
                where=f"datastore.name={self.name}",
                remedy="Choose another name.",
            )
        remedy = "3 to 24 small letters and digits."
        check_matches("datastore.account", self.account, r"[a-z0-9]{3,24}", "name of a storage account", remedy)
        remedy = "3 to 63 small letters, digits and single -."
        pattern = r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*"
        check_matches("datastore.container", self.container, pattern, "name of a container", remedy)


def datastore_step(client: Any, wanted: BlobDatastore) -> Step:
    """What is to be done so that the workspace has this datastore; nothing is sent but a question.

    Raises:
        ConfigError: if the name stands for another place: data assets would silently point there.
        AzureError: if Azure cannot be asked.
    """
    there = found(f"looking for the datastore {wanted.name}", lambda: client.datastores.get(wanted.name))
    if there is None:
        differences = (f"container {wanted.container} of {wanted.account}, by identity",)
        return Step("datastore", wanted.name, "create", differences, lambda: _create(client, wanted))
    place = (getattr(there, "account_name", None), getattr(there, "container_name", None))
    if place != (wanted.account, wanted.container):
        raise ConfigError(
            f"the datastore is there and leads to {place[1] or there.type} of {place[0] or 'another kind'}",
            where=f"datastore.name={wanted.name}",
            remedy="Choose another name: assets in it would point elsewhere.",
        )
    return Step("datastore", wanted.name, "keep")


def _create(client: Any, wanted: BlobDatastore) -> None:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    store = entities.AzureBlobDatastore(
        name=wanted.name, account_name=wanted.account, container_name=wanted.container, tags=dict(TAG)
    )
    with plain_errors(f"making the datastore {wanted.name}"):
        client.datastores.create_or_update(store)
