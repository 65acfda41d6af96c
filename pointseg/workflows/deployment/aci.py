"""`target=aci`: the scoring image with the model as a container group, with a key and TLS."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pointseg.azure.containers.client import container_instances, find_group
from pointseg.azure.containers.group import ContainerSettings, GroupSecrets, WantedGroup
from pointseg.azure.containers.image import ImageBuild, ImageCopy, check_image, image_builds, image_copy, image_steps
from pointseg.azure.containers.rollout import GroupTest, group_step
from pointseg.azure.containers.tls import Certificate
from pointseg.azure.empty_workspace import EmptyWorkspace
from pointseg.azure.errors import plain_errors
from pointseg.azure.names import check_matches
from pointseg.azure.steps import Step, carry_out
from pointseg.azure.workspace import Workspace
from pointseg.core.errors import ConfigError
from pointseg.core.files import new_run_folder
from pointseg.core.redaction import install_log_redaction
from pointseg.engine import bundle
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.predictor import Predictor
from pointseg.serving.settings import read_key
from pointseg.serving.smoke import sample_points
from pointseg.workflows.deployment.model import local_model
from pointseg.workflows.deployment.result import Deployed
from pointseg.workflows.settings.deploy import DeployConfig
from pointseg.workflows.workspace.client import client_for

__all__ = ["check_aci", "deploy_aci"]

log = logging.getLogger(__name__)

PENDING = "pending"  # a region that is not yet known
NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
REGISTRY_USER, REGISTRY_PASSWORD = "POINTSEG_REGISTRY_USERNAME", "POINTSEG_REGISTRY_PASSWORD"


def check_aci(config: DeployConfig) -> None:
    """Check the settings; raises ConfigError naming the key."""
    remedy = "Use 1 to 63 lower-case letters, digits and -."
    check_matches("endpoint", config.endpoint, NAME, "container group name", remedy)
    _secrets(config)
    _check_image(config)
    _settings(config, PENDING)
    if not config.aci.wait_seconds > 0 or not config.aci.pause_seconds >= 0:
        raise ConfigError("there is no time to wait", where="aci.wait_seconds", remedy="Give more than 0.")


def deploy_aci(config: DeployConfig, folder: Path | None) -> Deployed:
    """See `workflows.deploy`. A group that fails its test is removed, or put back as it was."""
    aci, name, secrets = config.aci, str(config.endpoint), _secrets(config)
    workspace, ml_client = client_for(config.azure, plan=config.plan)
    group = workspace.group if workspace else ""
    trained = local_model(config) if config.checkpoint else None
    settings = _settings(config, aci.location or _location(workspace, ml_client))
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary:
        steps: list[Step] = []
        image = aci.image
        if image is None:
            assert trained is not None
            packed = bundle.save_bundle(Path(temporary) / "bundle", trained)
            builds = image_builds(aci.registry, aci.repository, packed, Path(temporary) / "images")
            image = builds[-1].image
            images: list[ImageBuild | ImageCopy] = [*builds]
            copy = image_copy(str(aci.registry), aci.tls_image) if aci.tls == "caddy" else None
            if copy is not None:
                images.append(copy)
                settings = replace(settings, tls_image=copy.image)
            steps += image_steps(images, (folder or new_run_folder()) / "images", ask=workspace is not None)
        client = container_instances(workspace.subscription, config.azure.auth) if workspace else EmptyWorkspace()
        wanted = WantedGroup(name, image, settings, secrets)
        steps.append(group_step(client, group, wanted, _trial(config, trained)))
        carry_out(steps, plan=config.plan)
    url = None if config.plan else _address(client, group, wanted)
    return Deployed("aci", name, tuple(steps), config.plan, url, image=image)


def _settings(config: DeployConfig, location: str) -> ContainerSettings:
    fields = ContainerSettings.__dataclass_fields__
    values = {key: value for key, value in asdict(config.aci).items() if key in fields}
    return ContainerSettings(**{**values, "location": location, "dns": config.aci.dns or config.endpoint})


def _check_image(config: DeployConfig) -> None:
    """Refuse an invalid image, and one that cannot be built."""
    if config.aci.image is not None:
        check_image("aci.image", config.aci.image)
    elif not config.checkpoint:
        remedy = "Name it: checkpoint=RUN_FOLDER, or an image with a model: aci.image=REGISTRY.azurecr.io/NAME:TAG."
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy=remedy)
    elif not config.aci.registry:
        remedy = "Name a container registry: aci.registry=NAME, or an image: aci.image=REGISTRY.azurecr.io/NAME:TAG."
        raise ConfigError("there is no registry for the image", where="aci.registry", remedy=remedy)


def _secrets(config: DeployConfig) -> GroupSecrets:
    """All from the environment or files; none is printed, and Azure gives none of them back."""
    key = read_key(None, "POINTSEG_KEY")
    if key is None:
        remedy = "Make one with `openssl rand -hex 32`, keep it, and export it as POINTSEG_KEY."
        raise ConfigError("there is no key for callers", where="POINTSEG_KEY", remedy=remedy)
    user, password = os.environ.get(REGISTRY_USER), os.environ.get(REGISTRY_PASSWORD)
    if bool(user) != bool(password):
        text = "one of the registry's user and password is missing"
        raise ConfigError(text, where=f"{REGISTRY_USER}, {REGISTRY_PASSWORD}")
    if user and config.aci.registry_identity:
        text = "two ways to pull the image are given"
        raise ConfigError(text, where="aci.registry_identity", remedy=f"Unset {REGISTRY_USER}.")
    if password:
        install_log_redaction([password])
    certificate = Certificate.read(config.aci.certificate, config.aci.private_key)
    if certificate is not None and config.aci.domain is None:
        text = "your own certificate needs your own domain"
        raise ConfigError(text, where="aci.domain", remedy="Name it, and point it to the group by a CNAME.")
    return GroupSecrets(key, certificate, (user, password) if user and password else None)


def _location(workspace: Workspace | None, client: Any) -> str:
    if workspace is None:
        return PENDING
    with plain_errors("looking for the region of the workspace"):
        return str(client.workspaces.get(workspace.name).location)


def _trial(config: DeployConfig, trained: TrainedModel | None) -> GroupTest:
    expected: Any = None
    if trained is not None and config.aci.test and not config.plan:
        expected = Predictor(trained)(sample_points())
    return GroupTest(config.aci.wait_seconds, config.aci.pause_seconds, expected, config.aci.test)


def _address(client: Any, group: str, wanted: WantedGroup) -> str | None:
    """The URL of the group; logs how to call it."""
    existing = find_group(client, group, wanted.name)
    if existing is None:
        return None
    url = wanted.url(existing.ip_address)
    log.info("%s/score", url)
    log.info("Ask it (its key in POINTSEG_KEY): python scripts/invoke.py url=%s input=SCANS output=DIR", url)
    log.info("Remove it: python scripts/teardown.py 'only=[containers]' endpoint=%s", wanted.name)
    return f"{url}/score"
