"""Environments of a workspace: versions by their content, so that one that has not changed is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import yaml

from pointseg.azure.errors import plain_errors
from pointseg.azure.found import found
from pointseg.azure.names import check_matches
from pointseg.azure.ours import TAG
from pointseg.azure.plan import Step
from pointseg.extras import needed

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
        key = f"environments.{self.name}"
        pattern = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}"
        check_matches(key, self.name, pattern, "name of an environment", "Letters, digits, - _ and ., 255 at most.")
        image = r"[a-z0-9][a-z0-9._/:@-]{1,510}"
        check_matches(f"{key}.image", self.image, image, "image of a container", "REGISTRY/NAME:TAG.")

    @property
    def version(self) -> str:
        """The first digits of the SHA-256 of what is in it."""
        return hashlib.sha256(f"{self.image}\n{self.conda}".encode()).hexdigest()[:12]

    @property
    def address(self) -> str:
        """As jobs name it: compute.environment=ADDRESS."""
        return f"azureml:{self.name}:{self.version}"


def environment_step(client: Any, wanted: JobEnvironment) -> Step:
    """What is to be done so that the workspace has this environment; nothing is sent but a question.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    name = f"{wanted.name}:{wanted.version}"
    there = found(f"looking for the environment {name}", lambda: client.environments.get(wanted.name, wanted.version))
    if there is not None:
        return Step("environment", name, "keep")
    packages = sum(len(item["pip"]) for item in yaml.safe_load(wanted.conda)["dependencies"] if isinstance(item, dict))
    differences = (f"{packages} packages at exact versions, on {wanted.image}",)
    notes = ("its image is built when a job first uses it: minutes, once",)
    return Step("environment", name, "create", differences, lambda: _create(client, wanted), notes)


def _create(client: Any, wanted: JobEnvironment) -> None:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    environment = entities.Environment(
        name=wanted.name,
        version=wanted.version,
        image=wanted.image,
        conda_file=yaml.safe_load(wanted.conda),
        tags=dict(TAG),
    )
    with plain_errors(f"making the environment {wanted.name}"):
        client.environments.create_or_update(environment)
