"""What a deployment runs: its model, a bundle to upload or one in the workspace, and its environment."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from pointseg import tracking
from pointseg.azure.names import check_asset_name
from pointseg.azure.resources.environments import JobEnvironment
from pointseg.azure.resources.models import ModelAsset, find_model_asset, read_address
from pointseg.azure.workspace import Workspace
from pointseg.core.addresses import is_registered_model, split_registered_model
from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.engine import bundle
from pointseg.jobs.environment import conda_environment, read_pins, shipped
from pointseg.tracking.model_registry import Registry
from pointseg.tracking.packaging import bundle_sha256
from pointseg.tracking.store import resolve_uri
from pointseg.workflows.model_location import required
from pointseg.workflows.settings.deploy import BatchConfig, DeployConfig, ManagedConfig
from pointseg.workflows.trained_models.register import RECORD as REGISTRATION

__all__ = ["local_model", "model_named_by", "pinned_environment", "workspace_model"]

REMEDY = "Name it: checkpoint=RUN_FOLDER."


def model_named_by(checkpoint: str | None) -> str | None:
    """The registered model that a folder of register_model names; any other checkpoint as it is.

    Raises:
        CheckpointError: if the folder's record cannot be read.
    """
    record = Path(str(checkpoint)).expanduser() / REGISTRATION
    if not checkpoint or not record.is_file():
        return checkpoint
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return f"models:/{content['name']}/{content['version']}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"the record of the registration cannot be read ({type(error).__name__})",
            where=record,
            remedy="Name the model: checkpoint=models:/NAME/1.",
        ) from error


def local_model(config: DeployConfig) -> bundle.TrainedModel:
    """The model, loaded on this machine.

    Raises:
        ConfigError: if `checkpoint` names none, or an asset of a workspace.
        CheckpointError, TrackingError: if no model can be loaded.
    """
    checkpoint = required(config.checkpoint, "checkpoint", REMEDY)
    if checkpoint.startswith("azureml:"):
        remedy = "Name a run folder, or models:/NAME@ALIAS of the registry."
        raise ConfigError("this target cannot use an asset of a workspace", where=checkpoint, remedy=remedy)
    return _load(checkpoint, config)


def workspace_model(config: DeployConfig, workspace: Workspace | None, client: object, folder: Path) -> ModelAsset:
    """The model as an asset of the workspace: one that exists, or a bundle to upload.

    Args:
        workspace: None where a plan asks none.
        folder: in which the bundle is put together.

    Raises:
        ConfigError: if `checkpoint` names none, or `name` is not valid.
        CheckpointError, TrackingError: if no model can be loaded.
        AzureError: if Azure cannot be asked.
    """
    checkpoint = required(config.checkpoint, "checkpoint", REMEDY)
    if checkpoint.startswith("azureml:"):
        return find_model_asset(client, *read_address("checkpoint", checkpoint))
    check_asset_name("name", config.name, "model name")
    registered = _registered_in(workspace, checkpoint, config.tracking.uri) if is_registered_model(checkpoint) else None
    if registered is not None:
        return find_model_asset(client, *registered)
    saved = bundle.save_bundle(folder / "bundle", _load(checkpoint, config))
    return ModelAsset.of_bundle(client, config.name, saved, bundle_sha256(saved))


def _load(checkpoint: str, config: DeployConfig) -> bundle.TrainedModel:
    if is_registered_model(checkpoint):
        checkpoint = str(tracking.download_model(checkpoint, config.tracking.uri, Path.cwd()))
    return bundle.load(Path(checkpoint).expanduser())


def _registered_in(workspace: Workspace | None, checkpoint: str, uri: str | None) -> tuple[str, str | None] | None:
    """Name and version of a registered model, if the registry is that of the workspace."""
    store = resolve_uri(uri, Path.cwd())
    if workspace is None or store is None or not _is_registry_of(workspace, store):
        return None
    name, alias, version = split_registered_model(checkpoint)
    if alias:
        version = Registry(uri, Path.cwd()).holder(name, alias)
        if version is None:
            raise ConfigError("there is no model or alias of this name", where=checkpoint, remedy="Look in the studio.")
    return name, None if version == "latest" else version


def _is_registry_of(workspace: Workspace, store: str) -> bool:
    parts = re.match(r"azureml:.*/subscriptions/([^/]+)/resourceGroups/([^/]+)/.*workspaces/([^/?]+)", store, re.I)
    wanted = (workspace.subscription, workspace.group, workspace.name)
    return parts is not None and [part.lower() for part in parts.groups()] == [word.lower() for word in wanted]


def pinned_environment(
    name: str, section: BatchConfig | ManagedConfig, more: Sequence[str] = (), *, needs: str | None = None
) -> JobEnvironment:
    """The environment that holds all packages of the section's list of versions.

    Args:
        name: in the workspace.
        more: further lists; the section's own versions win.
        needs: a package that the list must have.

    Raises:
        ConfigError: if a list cannot be read, or lacks the package.
    """
    pins = read_pins(shipped(section.environment))
    if needs and needs not in pins:
        raise ConfigError(
            f"the list has no {needs}, which Azure starts the scoring script with",
            where=f"managed.environment={section.environment}",
            remedy="Begin with a copy of environments/serving.txt.",
        )
    for file in more:
        pins = read_pins(shipped(file)) | pins
    return JobEnvironment(name, section.image, conda_environment(shipped("environments/conda.yml"), pins, pins, "cpu"))
