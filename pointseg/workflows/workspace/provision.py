"""Make or change what jobs in Azure ML need."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from pointseg.azure.job_file import job_environment
from pointseg.azure.names import check_different
from pointseg.azure.resources.compute import WantedCompute, wanted_compute
from pointseg.azure.resources.compute_steps import compute_step
from pointseg.azure.resources.datastores import BlobDatastore, datastore_step
from pointseg.azure.resources.environments import JobEnvironment, environment_step
from pointseg.azure.resources.workspace_step import check_workspace, workspace_step
from pointseg.azure.steps import Step, carry_out
from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.workflows.settings.provision import ProvisionConfig
from pointseg.workflows.workspace.client import client_for, named_workspace

__all__ = ["Provisioned", "provision"]

log = logging.getLogger(__name__)

EXTRAS = ("formats",)  # of the environments: jobs of `predict` read clouds of every kind with them


@dataclass(frozen=True)
class Provisioned:
    """The result of a provisioning, or with `plan` what it would be.

    Attributes:
        steps: of the plan, in order; those with action "keep" had nothing to do.
        planned: whether `plan` was set, so that nothing was changed.
        environments: what compute.environment takes, by name.
    """

    steps: tuple[Step, ...]
    planned: bool
    environments: dict[str, str]


def provision(config: ProvisionConfig) -> Provisioned:
    """Look at the workspace, log the plan and, unless `plan` is set, carry it out.

    Raises:
        ConfigError: for what Azure would not accept, before anything is sent.
        AzureError: if Azure cannot be reached, or refuses: the message says what was made before.

    Example:
        >>> provision(ProvisionConfig(plan=True)).environments["pointseg-cpu"]
        'azureml:pointseg-cpu:3f6c0a9b1d2e'
    """
    check_choices(config)
    create, location = config.workspace.create, config.workspace.location
    check_workspace(create=create, location=location)
    computes, store, environments = _computes(config), _datastore(config), _environments(config)
    if create:
        named_workspace(config.azure)  # a new one needs a name
    workspace, client = client_for(config.azure, plan=config.plan)
    steps = []
    if workspace is not None:
        steps.append(workspace_step(client, workspace, create=create, location=location))
    steps += [compute_step(client, compute) for compute in computes]
    steps += [datastore_step(client, store)] if store else []
    steps += [environment_step(client, environment) for environment in environments]
    carry_out(steps, plan=config.plan)
    for environment in () if config.plan else environments:
        log.info("For jobs: compute.environment=%s", environment.address)
    return Provisioned(tuple(steps), config.plan, {one.name: one.address for one in environments})


def _members(section: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The members of a mapping by name, each as plain values; those that are None are left out."""
    members = {str(name): values for name, values in (given or {}).items() if values is not None}
    check_different(section, members)
    return {name: asdict(one) if is_dataclass(one) else one for name, one in members.items()}  # type: ignore[arg-type]


def _computes(config: ProvisionConfig) -> list[WantedCompute]:
    return [wanted_compute(name, values) for name, values in _members("clusters", config.clusters).items()]


def _datastore(config: ProvisionConfig) -> BlobDatastore | None:
    values = asdict(config.datastore) if config.datastore is not None else {}
    return BlobDatastore(**values) if any(value is not None for value in values.values()) else None


def _environments(config: ProvisionConfig) -> list[JobEnvironment]:
    environments = []
    for name, values in _members("environments", config.environments).items():
        key = f"environments.{name}"
        if not isinstance(values, Mapping) or not {"file", "image"} <= set(values) <= {"file", "image", "torch"}:
            remedy = f"Give {key}.file and .image."
            raise ConfigError("an environment is a conda file and an image", where=key, remedy=remedy)
        if not isinstance(values["file"], str):
            raise ConfigError("no conda file is given", where=f"{key}.file", remedy="Such as environments/conda.yml.")
        conda = job_environment(values["file"], EXTRAS, values.get("torch"))
        environments.append(JobEnvironment(name, str(values["image"]), conda))
    return environments
