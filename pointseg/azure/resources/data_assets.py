"""Data assets of a workspace: versions of folders, uploaded once or pointed at where they are."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointseg.azure.empty_workspace import is_connected
from pointseg.azure.errors import completing, get_or_none, sdk_entities
from pointseg.azure.job_compute import check_tags
from pointseg.azure.names import check_asset_name
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.core.addresses import is_remote
from pointseg.core.errors import ConfigError

__all__ = ["DataAsset", "check_address", "data_step", "version_of_address"]

CONTENT_HASH_TAG = "content_sha256"  # the tag that holds the hash of what was uploaded
DATASTORE = re.compile(r"azureml://(?:subscriptions/.+/)?datastores/([A-Za-z0-9_]+)/paths/(.+)")
ADDRESSES = (
    DATASTORE,
    re.compile(r"azureml://jobs/[\w-]+/outputs/.+"),
    re.compile(r"(abfss|wasbs)://[a-z0-9$-]+@[a-z0-9]+\.[a-z0-9.-]+/.+"),
    re.compile(r"https://[a-z0-9.-]+/.+"),
)


@dataclass(frozen=True)
class DataAsset:
    """A version of a data asset, as it should be.

    Args:
        name, version: in the workspace.
        kind: "uri_folder", or "mltable" with a file MLTable in the folder.
        path: a local folder, which is uploaded, or an address, which is pointed at.
        sha256: of the content of an uploaded folder.
        tags: kept with it.
        description: a sentence for people.

    Raises:
        ConfigError: naming the key.
    """

    name: str
    version: str
    kind: str
    path: str
    sha256: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None

    def __post_init__(self) -> None:
        check_asset_name("name", self.name, "data asset name")
        check_asset_name("version", self.version, "version")
        check_tags("tags", self.tags)

    @property
    def address(self) -> str:
        """As keys of a job name it."""
        return f"azureml:{self.name}:{self.version}"


def check_address(address: str) -> None:
    """Refuse an address that a data asset cannot point at.

    Raises:
        ConfigError: saying what is wrong with it.
    """
    if re.match(r"azureml:(?!//)", address):
        raise ConfigError("this is a data asset already", where=f"path={address}", remedy="Use it as it is.")
    if re.search(r"[?&]sig=", address):
        remedy = "Leave it out; make a datastore for the container."
        raise ConfigError("the address holds a signature, and everybody can see assets", where="path", remedy=remedy)
    if "${{" in address or not any(pattern.fullmatch(address) for pattern in ADDRESSES):
        raise ConfigError(
            "this is not the address of a folder",
            where=f"path={address}",
            remedy="azureml://datastores/NAME/paths/FOLDER, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER, https://...",
        )


def version_of_address(kind: str, address: str) -> str:
    """The version of an asset that points at an address: a hash of the address, since its content is not read."""
    return hashlib.sha256(f"{kind} {_place(address)}".encode()).hexdigest()[:12]


def data_step(client: Any, wanted: DataAsset, size: str = "") -> Step:
    """What to do so that the workspace has this version; nothing is sent but questions.

    Args:
        size: of what is uploaded, in words.

    Raises:
        ConfigError: if the version holds other content, or a datastore does not exist.
        AzureError: if Azure cannot be asked.
    """
    remote = is_remote(wanted.path)
    name = f"{wanted.name}:{wanted.version}"
    existing = get_or_none(f"the data asset {name}", lambda: client.data.get(wanted.name, wanted.version))
    if existing is not None:
        _check_same(wanted, existing)
        return Step("data asset", name, "keep")
    _check_datastore(client, wanted.path)
    what = f"points at {wanted.path}" if remote else f"uploads {size or wanted.path}"
    make = completing(
        f"registering the data asset {wanted.name}", lambda: client.data.create_or_update(_entity(wanted))
    )
    notes = ("its content is not read: give another version= when it changes",) if remote else ()
    return Step("data asset", name, "create", (f"{wanted.kind}: {what}",), make, notes)


def _check_datastore(client: Any, path: str) -> None:
    store = DATASTORE.fullmatch(path)
    if not store or not is_connected(client):
        return
    if not get_or_none(f"the datastore {store[1]}", lambda: client.datastores.get(store[1])):
        remedy = "scripts/provision.py datastore.name=NAME ... makes one."
        raise ConfigError(f"the workspace has no datastore {store[1]}", where=f"path={path}", remedy=remedy)


def _check_same(wanted: DataAsset, existing: Any) -> None:
    remedy = "Leave version out, or give another one."
    where = f"{wanted.name}:{wanted.version}"
    if existing.type != wanted.kind:
        raise ConfigError(f"the version exists and is of type {existing.type}", where=where, remedy=remedy)
    if is_remote(wanted.path):
        if _place(str(existing.path)) != _place(wanted.path):
            raise ConfigError(f"the version exists and points at {existing.path}", where=where, remedy=remedy)
    elif (existing.tags or {}).get(CONTENT_HASH_TAG) != wanted.sha256:
        raise ConfigError("the version exists and holds other content", where=where, remedy=remedy)


def _place(address: str) -> str:
    """An address in one form: Azure writes out those of datastores in full."""
    store = DATASTORE.fullmatch(address)
    return f"{store[1]} {store[2].rstrip('/')}" if store else address.rstrip("/")


def _entity(wanted: DataAsset) -> Any:
    path = wanted.path if is_remote(wanted.path) else str(Path(wanted.path).resolve())
    return sdk_entities().Data(
        name=wanted.name,
        version=wanted.version,
        type=wanted.kind,
        path=path,
        tags={**wanted.tags, **MADE_BY_TAG, **({CONTENT_HASH_TAG: wanted.sha256} if wanted.sha256 else {})},
        description=wanted.description,
    )
