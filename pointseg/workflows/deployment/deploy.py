"""Deploy a trained model to the target that the configuration names."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.files import write_json
from pointseg.workflows.deployment.model import model_named_by
from pointseg.workflows.deployment.result import Deployed
from pointseg.workflows.settings.deploy import TARGETS, DeployConfig

__all__ = ["check_deploy", "deploy"]

RECORD = "deployment.json"

# Each is loaded on use. `check_TARGET(config)` checks the settings without a model, a machine or a workspace;
# `deploy_TARGET(config, folder)` logs the plan and, unless `plan` is set, carries it out.
MODULES = {
    "local": "pointseg.workflows.deployment.local",
    "managed": "pointseg.workflows.deployment.managed",
    "aci": "pointseg.workflows.deployment.aci",
    "batch": "pointseg.workflows.deployment.batch",
}


def check_deploy(config: DeployConfig) -> None:
    """Check the settings, before anything is looked at.

    Raises:
        ConfigError: naming the key.

    Example:
        >>> check_deploy(DeployConfig(target="local", checkpoint="RUN_FOLDER"))
    """
    if not config.target:
        remedy = f"Name it: target=local. There is: {', '.join(TARGETS)}."
        raise ConfigError("no target is named", where="target", remedy=remedy)
    check_choices(config)
    _function("check", config)(config)


def deploy(config: DeployConfig, *, folder: str | Path | None = None) -> Deployed:
    """Log the plan for `target` and, unless `plan` is set, carry it out.

    Args:
        folder: of this run, for deployment.json with the result; None: it is not written.

    Raises:
        ConfigError: for what Azure would not accept, before anything is sent.
        CheckpointError, TrackingError, DeviceError: if no model can be loaded, or used here.
        AzureError: if Azure cannot be reached, or refuses, or the new service fails its test: the message says what was
            made before, and what of it was taken back.
        OutputError: if the folder of local services cannot be written.

    Example:
        >>> deploy(DeployConfig(target="local", checkpoint="RUN_FOLDER", endpoint="street")).url
        'http://127.0.0.1:8000'
    """
    check_deploy(config)
    config = replace(config, checkpoint=model_named_by(config.checkpoint))
    where = Path(folder) if folder else None
    deployed: Deployed = _function("deploy", config)(config, where)
    if where is not None and deployed.steps and not config.plan:
        write_json(where / RECORD, deployed.to_dict())
    return deployed


def _function(what: str, config: DeployConfig) -> Any:
    target = str(config.target)
    return getattr(import_module(MODULES[target]), f"{what}_{target}")
