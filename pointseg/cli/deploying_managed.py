"""`scripts/deploy.py target=managed`: a managed online endpoint, which answers requests with labels."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from pointseg.azure.autoscale import Autoscale, monitor
from pointseg.azure.batch import check_endpoint
from pointseg.azure.collection import REQUIREMENTS, CollectionSettings, collected_address
from pointseg.azure.environments import JobEnvironment, environment_step
from pointseg.azure.errors import plain_errors
from pointseg.azure.models import ModelAsset, find_model, model_step
from pointseg.azure.online import OnlineDeployment, OnlineSettings
from pointseg.azure.online_rollout import Scaling, online_steps
from pointseg.azure.online_traffic import Rollout
from pointseg.azure.plan import carry_out
from pointseg.azure.unasked import Unasked
from pointseg.azure.workspace import Workspace, check_auth
from pointseg.cli.azure_client import client_for
from pointseg.cli.deployed_model import model_for
from pointseg.cli.entry import Job
from pointseg.cli.values import plain
from pointseg.compute.environment import conda_environment, read_pins, shipped
from pointseg.compute.scoring_code import SCORE_DRIVER, take_scoring_code
from pointseg.errors import ConfigError
from pointseg.formats import finite_points, read_cloud
from pointseg.serving.smoke import sample_points

__all__ = ["check_managed", "deploy_managed"]

log = logging.getLogger(__name__)

SERVER = "azureml-inference-server-http"  # which Azure starts the scoring script with


def check_managed(config: DictConfig) -> None:
    """As `pointseg.cli.deploying` has it."""
    check_auth(config.azure.auth)
    check_endpoint("endpoint", config.endpoint)
    _settings(config)
    _environment(config)


def deploy_managed(job: Job) -> dict[str, Any]:
    """As `pointseg.cli.deploying` has it."""
    config = job.config
    endpoint = str(config.endpoint)
    settings, rollout, scale = _settings(config)
    scan = _scan(config, job.start_dir)
    environment = _environment(config)
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary:
        folder = Path(temporary)
        workspace, client = client_for(job)
        packed = model_for(config, job, workspace, folder)
        code = folder / "code"
        code_sha256 = take_scoring_code(code, SCORE_DRIVER)
        model = packed if isinstance(packed, ModelAsset) else find_model(client, *packed)
        wanted = OnlineDeployment(
            endpoint, model, environment, code, code_sha256, settings, config.description, scale.most is not None
        )
        scaling = _scaling(workspace, config.azure.auth, scale)
        steps = [model_step(client, model), environment_step(client, environment)]
        steps += online_steps(client, scaling, wanted, rollout, scan, delete_old=config.delete_old)
        carry_out(steps, plan=config.plan)
    about = {"endpoint": endpoint, "deployment": wanted.name, "model": model.address}
    if config.plan:
        return about
    if settings.collection:
        log.info("Statistics of its scans: %s (docs/monitoring.md)", collected_address(endpoint, wanted.name))
    return {**about, "scoring_uri": _say_address(client, endpoint, wanted.name)}


def _settings(config: DictConfig) -> tuple[OnlineSettings, Rollout, Autoscale]:
    values = plain(config.managed)
    scale = {{"max": "most", "min": "least"}.get(key, key): value for key, value in values["autoscale"].items()}
    of_deployment = OnlineSettings.__dataclass_fields__
    for key in ("keep_failed", "collect"):
        if not isinstance(values[key], bool):
            raise ConfigError(f"{values[key]!r} is neither", where=f"managed.{key}", remedy="true or false.")
    collection = CollectionSettings(values["collect_rate"], values["collect_rolling"])
    given = {key: value for key, value in values.items() if key in of_deployment}
    settings = OnlineSettings(**given, collection=collection if values["collect"] else None)
    shares = values["traffic"] if isinstance(values["traffic"], list) else [values["traffic"]]
    rollout = Rollout(shares, values["checks"], values["step_seconds"], values["keep_failed"])
    autoscale = Autoscale(**scale)
    autoscale.check_instances(settings.instances)
    return settings, rollout, autoscale


def _scaling(workspace: Workspace | None, auth: str, wanted: Autoscale) -> Scaling:
    if workspace is None:
        return Scaling(Unasked(), "", wanted)
    return Scaling(monitor(workspace, auth), workspace.group, wanted)


def _scan(config: DictConfig, start_dir: Path) -> NDArray[np.float32]:
    """(N, 4) points of a real scan, which all requests send."""
    given = config.managed.smoke_scan
    if not given:
        return sample_points()
    points, _ = finite_points(read_cloud(start_dir / Path(str(given)).expanduser()))
    return points


def _environment(config: DictConfig) -> JobEnvironment:
    """The environment of a list of versions, which holds all packages there are."""
    file = shipped(str(config.managed.environment))
    pins = read_pins(file)
    if SERVER not in pins:
        raise ConfigError(
            f"the list has no {SERVER}, which Azure starts the scoring script with",
            where=f"managed.environment={config.managed.environment}",
            remedy="Begin with a copy of environments/serving.txt.",
        )
    if config.managed.collect:
        pins = read_pins(shipped(REQUIREMENTS)) | pins
    return JobEnvironment(
        "pointseg-online", str(config.managed.image), conda_environment(shipped("environments/conda.yml"), pins, pins)
    )


def _say_address(client: Any, name: str, deployment: str) -> str:
    with plain_errors(f"looking at the endpoint {name}"):
        endpoint = client.online_endpoints.get(name)
    log.info("Scoring URI: %s", endpoint.scoring_uri)
    log.info("Deployment: %s", deployment)
    log.info("Label scans: python scripts/invoke.py endpoint=online:%s input=SCANS output=DIR", name)
    return str(endpoint.scoring_uri)
