"""`scripts/deploy.py target=batch`: a batch endpoint, which labels folders of scans."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg.azure.batch import BatchDeployment, BatchSettings, batch_steps, check_endpoint
from pointseg.azure.environments import JobEnvironment, environment_step
from pointseg.azure.models import ModelAsset, find_model, model_step
from pointseg.azure.plan import carry_out
from pointseg.azure.workspace import check_auth
from pointseg.cli.azure_client import client_for
from pointseg.cli.deployed_model import model_for
from pointseg.cli.entry import Job
from pointseg.cli.values import plain
from pointseg.compute.environment import conda_environment, read_pins, shipped
from pointseg.compute.scoring_code import take_scoring_code

__all__ = ["check_batch", "deploy_batch"]

log = logging.getLogger(__name__)

OWN = ("environment", "image")  # of the batch section, not of BatchSettings


def check_batch(config: DictConfig) -> None:
    """As `pointseg.cli.deploying` has it."""
    check_auth(config.azure.auth)
    check_endpoint("endpoint", config.endpoint)
    _settings(config)
    _environment(config)


def deploy_batch(job: Job) -> dict[str, Any]:
    """As `pointseg.cli.deploying` has it."""
    config = job.config
    endpoint, settings = str(config.endpoint), _settings(config)
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary:
        folder = Path(temporary)
        environment = _environment(config)
        workspace, client = client_for(job)
        packed = model_for(config, job, workspace, folder)
        code = folder / "code"
        code_sha256 = take_scoring_code(code)
        model = packed if isinstance(packed, ModelAsset) else find_model(client, *packed)
        wanted = BatchDeployment(endpoint, model, environment, code, code_sha256, settings, config.description)
        steps = [model_step(client, model), environment_step(client, environment)]
        steps += batch_steps(client, wanted, delete_old=config.delete_old)
        carry_out(steps, plan=config.plan)
    if not config.plan:
        log.info(
            "Label a folder: python scripts/invoke.py endpoint=batch:%s input=SCANS output=DIR wait=true", endpoint
        )
    return {"endpoint": endpoint, "deployment": wanted.name, "model": model.address}


def _settings(config: DictConfig) -> BatchSettings:
    values = {key: value for key, value in plain(config.batch).items() if key not in OWN}
    return BatchSettings(**values)


def _environment(config: DictConfig) -> JobEnvironment:
    """The environment of a list of versions, which holds all packages there are."""
    pins = read_pins(shipped(str(config.batch.environment)))
    text = conda_environment(shipped("environments/conda.yml"), pins, pins)
    return JobEnvironment("pointseg-batch", str(config.batch.image), text)
