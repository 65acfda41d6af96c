"""Models of a workspace: a bundle as a model whose version is its content, or one that is there already."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.names import check_matches
from pointseg.azure.ours import TAG
from pointseg.azure.plan import Step
from pointseg.azure.quiet import quiet_unless_seen
from pointseg.azure.unasked import is_asked
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["ModelAsset", "check_model_name", "find_model", "model_step", "read_address"]

ADDRESS = re.compile(r"azureml:([A-Za-z0-9][A-Za-z0-9_.-]{0,254})(?::([A-Za-z0-9_.-]{1,255})|@(latest))")


@dataclass(frozen=True)
class ModelAsset:
    """A model by name and version.

    Attributes:
        folder: the bundle that it is made of; None for one that is in the workspace.
        sha256: of the bundle; its first digits are the version.
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
    def of_bundle(cls, name: str, folder: Path, sha256: str) -> ModelAsset:
        return cls(name, sha256[:12], folder, sha256)


def check_model_name(key: str, name: object) -> None:
    """Raises ConfigError for a name that Azure does not take."""
    check_matches(
        key, name, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", "name of a model", "Letters, digits, - _ and ., 255 at most."
    )


def read_address(key: str, given: str) -> tuple[str, str | None]:
    """Name and version of azureml:NAME:VERSION; the version is None for azureml:NAME@latest.

    Raises:
        ConfigError: for another text.

    Example:
        >>> read_address("checkpoint", "azureml:street:3")
        ('street', '3')
    """
    match = ADDRESS.fullmatch(given)
    if not match:
        raise ConfigError(
            "this names no model of a workspace",
            where=f"{key}={given}",
            remedy="Write azureml:NAME:VERSION or azureml:NAME@latest.",
        )
    return match[1], match[2]


def find_model(client: Any, name: str, version: str | None) -> ModelAsset:
    """A model of the workspace; `version` None: the latest. Where no workspace is asked, it is taken to be there.

    Raises:
        ConfigError: if it is not there.
        AzureError: if Azure cannot be asked.
    """
    wanted = f"{name}:{version}" if version else f"{name}@latest"
    asked = {"version": version} if version else {"label": "latest"}
    if not is_asked(client):
        return ModelAsset(name, version or "latest")
    there = found(f"looking for the model {wanted}", lambda: client.models.get(name, **asked))
    if there is None:
        raise ConfigError("the workspace has no such model", where=f"azureml:{wanted}", remedy="Look in the studio.")
    return ModelAsset(name, str(there.version))


def model_step(client: Any, wanted: ModelAsset) -> Step:
    """What is to be done so that the workspace has the model; nothing is sent but a question.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    name = f"{wanted.name}:{wanted.version}"
    if wanted.folder is None:
        return Step("model", name, "keep")
    there = found(f"looking for the model {name}", lambda: client.models.get(wanted.name, version=wanted.version))
    if there is not None:
        return Step("model", name, "keep")
    size = sum(file.stat().st_size for file in wanted.folder.iterdir())
    differences = (f"upload the bundle, {size / 1e6:.1f} MB",)
    return Step("model", name, "create", differences, lambda: _create(client, wanted))


def _create(client: Any, wanted: ModelAsset) -> None:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    model = entities.Model(
        name=wanted.name,
        version=wanted.version,
        path=str(wanted.folder),
        type="custom_model",
        tags=dict(TAG),
        properties={"bundle.sha256": wanted.sha256},
    )
    with plain_errors(f"uploading the model {wanted.name}"), quiet_unless_seen():
        client.models.create_or_update(model)
