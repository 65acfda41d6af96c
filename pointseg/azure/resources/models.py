"""Models of a workspace: a bundle to upload, or a model that exists already.

Azure ML numbers the versions of a model, and endpoints take no other version than a number. So a bundle is found again by its
hash, which is a property of the version that it became.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.azure.empty_workspace import is_connected
from pointseg.azure.errors import completing, get_or_none, sdk_entities
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.core.errors import ConfigError

__all__ = ["ModelAsset", "find_model_asset", "model_step", "read_address"]

SHA256 = "bundle.sha256"  # the property that says which bundle a version is
ADDRESS = re.compile(r"azureml:([A-Za-z0-9][A-Za-z0-9_.-]{0,254})(?::([A-Za-z0-9_.-]{1,255})|@(latest))")


@dataclass(frozen=True)
class ModelAsset:
    """A model by name and version.

    Attributes:
        folder: the bundle to upload; None for a model that is in the workspace.
        sha256: of the bundle.
    """

    name: str
    version: str
    folder: Path | None = None
    sha256: str = ""

    @property
    def address(self) -> str:
        """As Azure ML names it."""
        return f"azureml:{self.name}:{self.version}"

    @classmethod
    def of_bundle(cls, client: Any, name: str, folder: Path, sha256: str) -> ModelAsset:
        """The version of the workspace that was made of this bundle, else the next one.

        Raises:
            AzureError: if Azure cannot be asked.
        """
        # archived ones too: their numbers are taken
        found = get_or_none(f"the model {name}", lambda: list(client.models.list(name=name, list_view_type="All")))
        versions = found or []
        for version in versions:
            if (version.properties or {}).get(SHA256) == sha256:
                return cls(name, str(version.version), None, sha256)
        numbers = [int(version.version) for version in versions if str(version.version).isdigit()]
        return cls(name, str(1 + max(numbers, default=0)), folder, sha256)

    def entity(self) -> Any:
        """The SDK's `Model`, which uploads the bundle."""
        return sdk_entities().Model(
            name=self.name,
            version=self.version,
            path=str(self.folder),
            type="custom_model",
            tags=dict(MADE_BY_TAG),
            properties={SHA256: self.sha256},
        )


def read_address(key: str, address: str) -> tuple[str, str | None]:
    """Name and version of azureml:NAME:VERSION; the version is None for azureml:NAME@latest.

    Raises:
        ConfigError: for any other text.

    Example:
        >>> read_address("checkpoint", "azureml:street:3")
        ('street', '3')
    """
    match = ADDRESS.fullmatch(address)
    if not match:
        remedy = "Write azureml:NAME:VERSION or azureml:NAME@latest."
        raise ConfigError("this names no model of a workspace", where=f"{key}={address}", remedy=remedy)
    return match[1], match[2]


def find_model_asset(client: Any, name: str, version: str | None) -> ModelAsset:
    """A model of the workspace; `version` None: the latest. Where no workspace is asked, it is assumed to be there.

    Raises:
        ConfigError: if it is not there.
        AzureError: if Azure cannot be asked.
    """
    wanted = f"{name}:{version}" if version else f"{name}@latest"
    which = {"version": version} if version else {"label": "latest"}
    if not is_connected(client):
        return ModelAsset(name, version or "latest")
    existing = get_or_none(f"the model {wanted}", lambda: client.models.get(name, **which))
    if existing is None:
        raise ConfigError("the workspace has no such model", where=f"azureml:{wanted}", remedy="Look in the studio.")
    return ModelAsset(name, str(existing.version))


def model_step(client: Any, wanted: ModelAsset) -> Step:
    """What to do so that the workspace has the model; nothing is sent but a question.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    name = f"{wanted.name}:{wanted.version}"
    if wanted.folder is None:
        return Step("model", name, "keep")
    size = sum(file.stat().st_size for file in wanted.folder.iterdir())
    upload = completing(f"uploading the model {wanted.name}", lambda: client.models.create_or_update(wanted.entity()))
    return Step("model", name, "create", (f"upload the bundle, {size / 1e6:.1f} MB",), upload)
