"""Environments of a workspace: versioned by content, so that an unchanged one is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import yaml

from pointseg.azure.errors import completing, get_or_none, sdk_entities
from pointseg.azure.names import check_asset_name, check_image_name
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG

__all__ = ["JobEnvironment", "environment_step"]


@dataclass(frozen=True)
class JobEnvironment:
    """A container image and a conda environment on top of it.

    Args:
        name: in the workspace.
        image: of the container.
        conda: the content of a conda file, every package at its version.

    Raises:
        ConfigError: naming the key.
    """

    name: str
    image: str
    conda: str

    def __post_init__(self) -> None:
        check_asset_name(f"environments.{self.name}", self.name, "environment name")
        check_image_name(f"environments.{self.name}.image", self.image)

    @property
    def version(self) -> str:
        """The first digits of the SHA-256 of its content."""
        return hashlib.sha256(f"{self.image}\n{self.conda}".encode()).hexdigest()[:12]

    @property
    def address(self) -> str:
        """As jobs name it: compute.environment=ADDRESS."""
        return f"azureml:{self.name}:{self.version}"

    def entity(self) -> Any:
        """The SDK's `Environment`."""
        conda = yaml.safe_load(self.conda)
        return sdk_entities().Environment(
            name=self.name, version=self.version, image=self.image, conda_file=conda, tags=dict(MADE_BY_TAG)
        )


def environment_step(client: Any, wanted: JobEnvironment) -> Step:
    """What to do so that the workspace has this environment; nothing is sent but a question.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    name = f"{wanted.name}:{wanted.version}"
    if get_or_none(f"the environment {name}", lambda: client.environments.get(wanted.name, wanted.version)) is not None:
        return Step("environment", name, "keep")
    packages = sum(len(item["pip"]) for item in yaml.safe_load(wanted.conda)["dependencies"] if isinstance(item, dict))
    differences = (f"{packages} packages at exact versions, on {wanted.image}",)
    make = completing(
        f"making the environment {wanted.name}", lambda: client.environments.create_or_update(wanted.entity())
    )
    notes = ("its image is built when a job first uses it: that takes minutes, once",)
    return Step("environment", name, "create", differences, make, notes)
