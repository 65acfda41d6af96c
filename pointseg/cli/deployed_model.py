"""Which model `scripts/deploy.py` puts to work: a bundle to upload, or one that the workspace has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg import bundle, tracking
from pointseg.azure.models import ModelAsset, check_model_name, read_address
from pointseg.azure.workspace import Workspace
from pointseg.cli.entry import Job
from pointseg.errors import ConfigError
from pointseg.tracking.packaging import bundle_sha256
from pointseg.tracking.registry import Registry
from pointseg.tracking.store import resolve_uri

__all__ = ["local_model", "model_for"]


def model_for(
    config: DictConfig, job: Job, workspace: Workspace | None, folder: Path
) -> ModelAsset | tuple[str, str | None]:
    """The model: a bundle that can be uploaded, or name and version of one that is in the workspace.

    Args:
        workspace: None where a plan asks none.
        folder: where the bundle is put together.

    Raises:
        ConfigError: if `checkpoint` names none, or `name` cannot be one.
        CheckpointError, TrackingError: if there is no model that can be read.
    """
    if not config.checkpoint:
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy="Name it: checkpoint=RUN_FOLDER.")
    given = str(config.checkpoint)
    if given.startswith("azureml:"):
        return read_address("checkpoint", given)
    check_model_name("name", config.name)
    if given.startswith("models:/"):
        if (registered := _of_workspace(given, config, job, workspace)) is not None:
            return registered
        given = str(tracking.download_model(given, config.tracking.uri, job.start_dir))
    made = bundle.save_bundle(folder / "bundle", bundle.load(Path(given).expanduser()))
    return ModelAsset.of_bundle(config.name, made, bundle_sha256(made))


def local_model(config: DictConfig, job: Job) -> bundle.TrainedModel:
    """The model for what is put together on this machine alone.

    Raises:
        ConfigError: if `checkpoint` names none, or an asset of a workspace.
        CheckpointError, TrackingError: if there is no model that can be read.
    """
    if not config.checkpoint:
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy="Name it: checkpoint=RUN_FOLDER.")
    given = str(config.checkpoint)
    if given.startswith("azureml:"):
        remedy = "Name a run folder, or models:/NAME@ALIAS of the registry."
        raise ConfigError("this target takes no asset of a workspace", where=given, remedy=remedy)
    if given.startswith("models:/"):
        given = str(tracking.download_model(given, config.tracking.uri, job.start_dir))
    return bundle.load(Path(given).expanduser())


def _of_workspace(
    given: str, config: DictConfig, job: Job, workspace: Workspace | None
) -> tuple[str, str | None] | None:
    """Name and version of a registered model, where the registry is the workspace's own."""
    store = resolve_uri(config.tracking.uri, job.start_dir)
    if workspace is None or store is None or not _is_of(store, workspace):
        return None
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/([0-9]+|latest))", given)
    if not match:
        raise ConfigError(
            "this does not name a registered model", where=given, remedy="Write models:/NAME@ALIAS or models:/NAME/1."
        )
    name, alias, version = match.groups()
    if alias:
        version = Registry(config.tracking.uri, job.start_dir).holder(name, alias)
        if version is None:
            raise ConfigError("there is no model or no alias of this name", where=given, remedy="Look in the studio.")
    return name, None if version == "latest" else version


def _is_of(store: str, workspace: Workspace) -> bool:
    parts: Any = re.search(r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/.*workspaces/([^/?]+)", store, re.I)
    wanted = (workspace.subscription, workspace.group, workspace.name)
    return (
        store.startswith("azureml:")
        and parts is not None
        and all(part.lower() == word.lower() for part, word in zip(parts.groups(), wanted, strict=True))
    )
