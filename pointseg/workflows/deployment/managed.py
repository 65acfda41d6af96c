"""`target=managed`: a managed online endpoint, which answers requests with labels."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.azure.empty_workspace import EmptyWorkspace
from pointseg.azure.endpoints.autoscale import Autoscale, Autoscaler, monitor_client
from pointseg.azure.endpoints.data_collection import REQUIREMENTS, CollectionSettings, collected_address
from pointseg.azure.endpoints.deployment import SCORE_DRIVER, copy_scoring_code
from pointseg.azure.endpoints.online import OnlineDeployment, OnlineSettings
from pointseg.azure.endpoints.online_steps import online_steps
from pointseg.azure.endpoints.online_traffic import Rollout
from pointseg.azure.errors import plain_errors
from pointseg.azure.names import check_endpoint_name
from pointseg.azure.resources.environments import JobEnvironment, environment_step
from pointseg.azure.resources.models import model_step
from pointseg.azure.steps import carry_out
from pointseg.azure.workspace import Workspace
from pointseg.core.files import expanded
from pointseg.data.formats import finite_points, read_cloud
from pointseg.serving.smoke import sample_points
from pointseg.workflows.deployment.model import pinned_environment, workspace_model
from pointseg.workflows.deployment.result import Deployed
from pointseg.workflows.settings.deploy import DeployConfig
from pointseg.workflows.workspace.client import client_for

__all__ = ["check_managed", "deploy_managed"]

log = logging.getLogger(__name__)

SERVER = "azureml-inference-server-http"  # the server in which Azure runs the scoring script


def check_managed(config: DeployConfig) -> None:
    """Check the settings; raises ConfigError naming the key."""
    check_endpoint_name("endpoint", config.endpoint)
    _settings(config)
    _environment(config)


def deploy_managed(config: DeployConfig, folder: Path | None) -> Deployed:
    """See `workflows.deploy`."""
    endpoint = check_endpoint_name("endpoint", config.endpoint)
    settings, rollout, autoscale = _settings(config)
    scan, environment = _scan(config), _environment(config)
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary:
        workspace, client = client_for(config.azure, plan=config.plan)
        model = workspace_model(config, workspace, client, Path(temporary))
        code = Path(temporary) / "code"
        code_sha256 = copy_scoring_code(code, SCORE_DRIVER)
        scaled = autoscale.max is not None
        wanted = OnlineDeployment(endpoint, model, environment, code, code_sha256, settings, config.description, scaled)
        scaler = _autoscaler(workspace, config.azure.auth, autoscale)
        steps = [model_step(client, model), environment_step(client, environment)]
        steps += online_steps(client, scaler, wanted, rollout, scan, delete_old=config.delete_old)
        carry_out(steps, plan=config.plan)
    url = None if config.plan else _scoring_uri(client, wanted)
    return Deployed("managed", endpoint, tuple(steps), config.plan, url, wanted.name, model.address)


def _settings(config: DeployConfig) -> tuple[OnlineSettings, Rollout, Autoscale]:
    managed = config.managed
    collection = CollectionSettings(managed.collect_rate, managed.collect_rolling)
    given = {key: value for key, value in asdict(managed).items() if key in OnlineSettings.__dataclass_fields__}
    settings = OnlineSettings(**given, collection=collection if managed.collect else None)
    rollout = Rollout(managed.traffic, managed.checks, managed.step_seconds, managed.keep_failed)
    autoscale = Autoscale(**asdict(managed.autoscale))
    autoscale.check_instances(settings.instances)
    return settings, rollout, autoscale


def _autoscaler(workspace: Workspace | None, auth: str, wanted: Autoscale) -> Autoscaler:
    if workspace is None:
        return Autoscaler(EmptyWorkspace(), "", wanted)
    return Autoscaler(monitor_client(workspace, auth), workspace.group, wanted)


def _scan(config: DeployConfig) -> NDArray[np.float32]:
    """(N, 4) points of the scan that all requests send."""
    if not config.managed.smoke_scan:
        return sample_points()
    points, _ = finite_points(read_cloud(expanded(config.managed.smoke_scan)))
    return points


def _environment(config: DeployConfig) -> JobEnvironment:
    more = (REQUIREMENTS,) if config.managed.collect else ()
    return pinned_environment("pointseg-online", config.managed, more, needs=SERVER)


def _scoring_uri(client: Any, wanted: OnlineDeployment) -> str:
    """The URL of the endpoint; logs how to call it."""
    name = wanted.endpoint
    if wanted.settings.collection:
        log.info("Statistics of its scans: %s (docs/monitoring.md)", collected_address(name, wanted.name))
    with plain_errors(f"looking at the endpoint {name}"):
        uri = str(client.online_endpoints.get(name).scoring_uri)
    log.info("Scoring URI: %s", uri)
    log.info("Deployment: %s", wanted.name)
    log.info("Label scans: python scripts/invoke.py endpoint=online:%s input=SCANS output=DIR", name)
    return uri
