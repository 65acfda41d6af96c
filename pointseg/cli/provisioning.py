"""`scripts/provision.py`: what jobs in Azure ML need, made or changed where it is not as it is wanted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from pointseg.azure.clusters import Compute, compute_of
from pointseg.azure.computes import compute_step
from pointseg.azure.datastores import BlobDatastore, datastore_step
from pointseg.azure.environments import JobEnvironment, environment_step
from pointseg.azure.names import check_unlike
from pointseg.azure.plan import carry_out
from pointseg.azure.workspace import check_auth
from pointseg.azure.workspaces import check_workspace, workspace_step
from pointseg.cli.azure_client import client_for
from pointseg.cli.azure_job import workspace_of
from pointseg.cli.entry import Job
from pointseg.cli.values import plain
from pointseg.compute.azureml import job_environment
from pointseg.errors import ConfigError

__all__ = ["provision_job"]

log = logging.getLogger(__name__)

EXTRAS = ("formats",)  # of the environments: jobs of `predict` read clouds of every kind with them


def provision_job(job: Job) -> None:
    """Look at the workspace, say what is to be done, and unless `plan` is set do it.

    Raises:
        ConfigError: for whatever Azure would not take, before anything is sent.
        AzureError: if it cannot be reached, or refuses: what was made before is said.
    """
    config = job.config
    check_auth(config.azure.auth)
    check_workspace(create=config.workspace.create, location=config.workspace.location)
    computes, store, environments = _computes(config), _datastore(config), _environments(config)
    if config.workspace.create:
        workspace_of(job)  # one that shall be made has a name
    workspace, client = client_for(job)
    steps = []
    if workspace is not None:
        create, location = config.workspace.create, config.workspace.location
        steps.append(workspace_step(client, workspace, create=create, location=location))
    steps += [compute_step(client, compute) for compute in computes]
    steps += [datastore_step(client, store)] if store else []
    steps += [environment_step(client, environment) for environment in environments]
    carry_out(steps, plan=config.plan)
    for environment in () if config.plan else environments:
        log.info("For jobs: compute.environment=%s", environment.address)


def _plain(config: DictConfig, section: str) -> dict[str, Any]:
    return {} if config[section] is None else plain(config[section])


def _named(config: DictConfig, section: str) -> dict[str, Mapping[str, Any]]:
    """The members of a mapping by name; those that are null are left out."""
    members = {str(name): values for name, values in _plain(config, section).items() if values is not None}
    check_unlike(section, members)
    return members


def _computes(config: DictConfig) -> list[Compute]:
    return [compute_of(name, values) for name, values in _named(config, "clusters").items()]


def _datastore(config: DictConfig) -> BlobDatastore | None:
    values = _plain(config, "datastore")
    return BlobDatastore(**values) if any(value is not None for value in values.values()) else None


def _environments(config: DictConfig) -> list[JobEnvironment]:
    made = []
    for name, values in _named(config, "environments").items():
        key = f"environments.{name}"
        if not isinstance(values, Mapping) or set(values) != {"file", "image"}:
            raise ConfigError(
                "an environment is a conda file and an image", where=key, remedy=f"Give {key}.file and .image."
            )
        if not isinstance(values["file"], str):
            raise ConfigError("no conda file is given", where=f"{key}.file", remedy="Such as environments/conda.yml.")
        conda = job_environment(values["file"], EXTRAS)
        made.append(JobEnvironment(name, str(values["image"]), conda))
    return made
