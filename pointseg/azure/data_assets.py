"""Data assets of a workspace: versions of folders, uploaded once or pointed at where they lie."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.names import check_matches
from pointseg.azure.ours import TAG
from pointseg.azure.plan import Step
from pointseg.azure.unasked import is_asked
from pointseg.compute.azureml import check_tags
from pointseg.compute.spec import is_remote
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["CONTENT", "KINDS", "DataAsset", "check_address", "data_step", "version_of_address"]

KINDS = ("uri_folder", "mltable")
CONTENT = "content_sha256"  # the tag that holds the hash of what was uploaded
DATASTORE = re.compile(r"azureml://(?:subscriptions/.+/)?datastores/([A-Za-z0-9_]+)/paths/(.+)")
ADDRESSES = (
    DATASTORE,
    re.compile(r"azureml://jobs/[\w-]+/outputs/.+"),
    re.compile(r"(abfss|wasbs)://[a-z0-9$-]+@[a-z0-9]+\.[a-z0-9.-]+/.+"),
    re.compile(r"https://[a-z0-9.-]+/.+"),
)


@dataclass(frozen=True)
class DataAsset:
    """A version of a data asset, as it is wanted.

    Args:
        name, version: in the workspace.
        kind: "uri_folder", or "mltable" with a file MLTable in the folder.
        path: a folder of this machine, which is uploaded, or an address, which is pointed at.
        sha256: of the content of a folder that is uploaded.
        tags: words that are kept with it.
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
        if self.kind not in KINDS:
            raise ConfigError(f"there is no type {self.kind!r}", where="type", remedy=f"Use {' or '.join(KINDS)}.")
        pattern = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
        check_matches("name", self.name, pattern, "name of a data asset", "Letters, digits, - _ and ., 255 at most.")
        remedy = "Letters, digits, - _ and ., 255 at most; in quotes where it could be a number."
        check_matches("version", self.version, pattern, "version", remedy)
        check_tags("tags", self.tags)

    @property
    def address(self) -> str:
        """As keys of a job name it."""
        return f"azureml:{self.name}:{self.version}"


def check_address(address: str) -> None:
    """Refuse what is no place that a data asset can point at.

    Raises:
        ConfigError: saying what is wrong with it.
    """
    if re.match(r"azureml:(?!//)", address):
        raise ConfigError("this is a data asset already", where=f"path={address}", remedy="Use it as it is.")
    if re.search(r"[?&]sig=", address):
        raise ConfigError(
            "the address holds a signature, and assets are shown to all",
            where="path",
            remedy="Leave it out; make a datastore for the container.",
        )
    if "${{" in address or not any(pattern.fullmatch(address) for pattern in ADDRESSES):
        raise ConfigError(
            "this is no address of a folder",
            where=f"path={address}",
            remedy="azureml://datastores/NAME/paths/FOLDER, abfss://CONTAINER@ACCOUNT.dfs.core.windows.net/FOLDER, https://...",
        )


def version_of_address(kind: str, address: str) -> str:
    """A version for a place that is pointed at: of its address, since its content is not looked at."""
    return hashlib.sha256(f"{kind} {_place(address)}".encode()).hexdigest()[:12]


def data_step(client: Any, wanted: DataAsset, size: str = "") -> Step:
    """What is to be done so that the workspace has this version; nothing is sent but questions.

    Args:
        size: of what is uploaded, in words.

    Raises:
        ConfigError: if the version stands for other content, or a datastore is not there.
        AzureError: if Azure cannot be asked.
    """
    remote = is_remote(wanted.path)
    name = f"{wanted.name}:{wanted.version}"
    there = found(f"looking for the data asset {name}", lambda: client.data.get(wanted.name, wanted.version))
    if there is not None:
        _check_same(wanted, there)
        return Step("data asset", name, "keep")
    store = DATASTORE.fullmatch(wanted.path)
    if (
        store
        and is_asked(client)
        and not found(f"looking for the datastore {store[1]}", lambda: client.datastores.get(store[1]))
    ):
        raise ConfigError(
            f"the workspace has no datastore {store[1]}",
            where=f"path={wanted.path}",
            remedy="scripts/provision.py datastore.name=NAME ... makes one.",
        )
    what = f"points at {wanted.path}" if remote else f"uploads {size or wanted.path}"
    notes = ("its content is not looked at: give another version= when it changes",) if remote else ()
    return Step("data asset", name, "create", (f"{wanted.kind}: {what}",), lambda: _create(client, wanted), notes)


def _check_same(wanted: DataAsset, there: Any) -> None:
    remedy = "Leave version out, or give another one."
    where = f"{wanted.name}:{wanted.version}"
    if there.type != wanted.kind:
        raise ConfigError(f"the version is there and is of type {there.type}", where=where, remedy=remedy)
    if is_remote(wanted.path):
        if _place(str(there.path)) != _place(wanted.path):
            raise ConfigError(f"the version is there and points at {there.path}", where=where, remedy=remedy)
    elif (there.tags or {}).get(CONTENT) != wanted.sha256:
        raise ConfigError("the version is there and holds other content", where=where, remedy=remedy)


def _place(address: str) -> str:
    """An address in one form: Azure completes those of datastores."""
    store = DATASTORE.fullmatch(address)
    return f"{store[1]} {store[2].rstrip('/')}" if store else address.rstrip("/")


def _create(client: Any, wanted: DataAsset) -> None:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    path = wanted.path if is_remote(wanted.path) else str(Path(wanted.path).resolve())
    asset = entities.Data(
        name=wanted.name,
        version=wanted.version,
        type=wanted.kind,
        path=path,
        tags={**wanted.tags, **TAG, **({CONTENT: wanted.sha256} if wanted.sha256 else {})},
        description=wanted.description,
    )
    with plain_errors(f"registering the data asset {wanted.name}"):
        client.data.create_or_update(asset)
