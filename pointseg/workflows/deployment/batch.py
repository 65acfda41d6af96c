"""`target=batch`: a batch endpoint, which labels folders of scans."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path

from pointseg.azure.endpoints.batch import BatchDeployment, BatchSettings, batch_steps
from pointseg.azure.endpoints.deployment import copy_scoring_code
from pointseg.azure.names import check_endpoint_name
from pointseg.azure.resources.environments import environment_step
from pointseg.azure.resources.models import model_step
from pointseg.azure.steps import carry_out
from pointseg.workflows.deployment.model import pinned_environment, workspace_model
from pointseg.workflows.deployment.result import Deployed
from pointseg.workflows.settings.deploy import DeployConfig
from pointseg.workflows.workspace.client import client_for

__all__ = ["check_batch", "deploy_batch"]

log = logging.getLogger(__name__)


def check_batch(config: DeployConfig) -> None:
    """Check the settings; raises ConfigError naming the key."""
    check_endpoint_name("endpoint", config.endpoint)
    _settings(config)
    pinned_environment("pointseg-batch", config.batch)


def deploy_batch(config: DeployConfig, folder: Path | None) -> Deployed:
    """See `workflows.deploy`."""
    endpoint = check_endpoint_name("endpoint", config.endpoint)
    settings, environment = _settings(config), pinned_environment("pointseg-batch", config.batch)
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary:
        workspace, client = client_for(config.azure, plan=config.plan)
        model = workspace_model(config, workspace, client, Path(temporary))
        code = Path(temporary) / "code"
        wanted = BatchDeployment(
            endpoint, model, environment, code, copy_scoring_code(code), settings, config.description
        )
        steps = [model_step(client, model), environment_step(client, environment)]
        steps += batch_steps(client, wanted, delete_old=config.delete_old)
        carry_out(steps, plan=config.plan)
    if not config.plan:
        command = f"python scripts/invoke.py endpoint=batch:{endpoint} input=SCANS output=DIR wait=true"
        log.info("Label a folder: %s", command)
    return Deployed("batch", endpoint, tuple(steps), config.plan, version=wanted.name, model=model.address)


def _settings(config: DeployConfig) -> BatchSettings:
    fields = BatchSettings.__dataclass_fields__
    return BatchSettings(**{key: value for key, value in asdict(config.batch).items() if key in fields})
