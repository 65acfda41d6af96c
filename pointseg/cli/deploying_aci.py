"""`scripts/deploy.py target=aci`: the scoring image with the model as a container group, with a key and TLS."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg import bundle
from pointseg.azure.container_client import container_instances, find_group
from pointseg.azure.container_group import ContainerSettings, GroupSecrets, WantedGroup
from pointseg.azure.container_image import check_image, image_steps, prepare
from pointseg.azure.container_rollout import Trial, group_step
from pointseg.azure.container_tls import Certificate
from pointseg.azure.errors import plain_errors
from pointseg.azure.names import check_matches
from pointseg.azure.plan import Step, carry_out
from pointseg.azure.unasked import Unasked
from pointseg.azure.workspace import Workspace, check_auth
from pointseg.bundle import TrainedModel
from pointseg.cli.azure_client import client_for
from pointseg.cli.deployed_model import local_model
from pointseg.cli.entry import Job
from pointseg.cli.values import plain
from pointseg.errors import ConfigError
from pointseg.predictor import Predictor
from pointseg.redact import install_log_redaction
from pointseg.serving.security import read_key
from pointseg.serving.smoke import sample_points

__all__ = ["check_aci", "deploy_aci"]

log = logging.getLogger(__name__)

PENDING = "pending"  # a region that is yet to be asked for
NAME = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
REGISTRY_USER, REGISTRY_PASSWORD = "POINTSEG_REGISTRY_USERNAME", "POINTSEG_REGISTRY_PASSWORD"
# of the section, and not of ContainerSettings
OWN = ("image", "registry", "repository", "certificate", "private_key", "wait_seconds", "pause_seconds", "test")


def check_aci(config: DictConfig) -> None:
    """As `pointseg.cli.deploying` has it."""
    check_auth(config.azure.auth)
    remedy = "1 to 63 small letters, digits and -."
    check_matches("endpoint", config.endpoint, NAME, "name of a container group", remedy)
    _secrets(config)
    _given_image(config)
    _settings(config, PENDING)
    if not config.aci.wait_seconds > 0 or not config.aci.pause_seconds >= 0:
        raise ConfigError("no time to wait", where="aci.wait_seconds", remedy="Give more than 0.")


def deploy_aci(job: Job) -> dict[str, Any]:
    """As `pointseg.cli.deploying` has it.

    Raises:
        ConfigError, CheckpointError, TrackingError: before anything is sent.
        AzureError: if Azure refuses, or the group fails its test: it is removed or put back as it was.
    """
    config = job.config
    name, secrets, given = str(config.endpoint), _secrets(config), _given_image(config)
    workspace, ml_client = client_for(job)
    group = workspace.group if workspace else ""
    trained = local_model(config, job) if config.checkpoint else None
    settings = _settings(config, config.aci.location or _location(workspace, ml_client))
    with tempfile.TemporaryDirectory(prefix="pointseg-deploy-") as temporary:
        steps: list[Step] = []
        image = given
        if not given:
            assert trained is not None
            packed = bundle.save_bundle(Path(temporary) / "bundle", trained)
            builds = prepare(config.aci.registry, config.aci.repository, packed, Path(temporary) / "images")
            steps += image_steps(builds, job.folder / "images", ask=workspace is not None)
            image = builds[-1].image
        client = container_instances(workspace.subscription, config.azure.auth) if workspace else Unasked()
        wanted = WantedGroup(name, image, settings, secrets)
        steps.append(group_step(client, group, wanted, _trial(config, trained)))
        carry_out(steps, plan=config.plan)
    url = None if config.plan else _say_address(client, group, wanted)
    return {"endpoint": name, "url": url, "image": image}


def _settings(config: DictConfig, location: str) -> ContainerSettings:
    values = {key: value for key, value in plain(config.aci).items() if key not in OWN}
    return ContainerSettings(**{**values, "location": location, "dns": config.aci.dns or config.endpoint})


def _given_image(config: DictConfig) -> str:
    """The image that is named; empty where it is to be built."""
    if config.aci.image is not None:
        return check_image("aci.image", config.aci.image)
    if not config.checkpoint:
        remedy = "Name it: checkpoint=RUN_FOLDER, or an image with a model: aci.image=REGISTRY.azurecr.io/NAME:TAG."
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy=remedy)
    if not config.aci.registry:
        remedy = "Name a container registry: aci.registry=NAME, or an image: aci.image=REGISTRY.azurecr.io/NAME:TAG."
        raise ConfigError("there is no place for the image", where="aci.registry", remedy=remedy)
    return ""


def _secrets(config: DictConfig) -> GroupSecrets:
    """All out of the environment or files; none is printed, and Azure gives none of them back."""
    key = read_key(None, "POINTSEG_KEY")
    if key is None:
        raise ConfigError(
            "there is no key for callers",
            where="POINTSEG_KEY",
            remedy="Make one with `openssl rand -hex 32`, keep it, and export it as POINTSEG_KEY.",
        )
    user, password = os.environ.get(REGISTRY_USER), os.environ.get(REGISTRY_PASSWORD)
    if bool(user) != bool(password):
        raise ConfigError(
            "one of the registry's user and password is missing", where=f"{REGISTRY_USER}, {REGISTRY_PASSWORD}"
        )
    if user and config.aci.registry_identity:
        raise ConfigError(
            "two ways to pull the image are given", where="aci.registry_identity", remedy=f"Unset {REGISTRY_USER}."
        )
    if password:
        install_log_redaction([password])
    certificate = Certificate.read(config.aci.certificate, config.aci.private_key)
    if certificate is not None and config.aci.domain is None:
        text = "a certificate of one's own is for a name of one's own"
        raise ConfigError(text, where="aci.domain", remedy="Name it, and let it lead to the group by a CNAME.")
    return GroupSecrets(key, certificate, (user, password) if user and password else None)


def _location(workspace: Workspace | None, client: Any) -> str:
    if workspace is None:
        return PENDING
    with plain_errors("looking for the region of the workspace"):
        return str(client.workspaces.get(workspace.name).location)


def _trial(config: DictConfig, trained: TrainedModel | None) -> Trial:
    expected: Any = None
    if trained is not None and config.aci.test and not config.plan:
        expected = Predictor(trained)(sample_points())
    return Trial(float(config.aci.wait_seconds), float(config.aci.pause_seconds), expected, bool(config.aci.test))


def _say_address(client: Any, group: str, wanted: WantedGroup) -> str | None:
    there = find_group(client, group, wanted.name)
    if there is None:
        return None
    url = wanted.url(there.ip_address)
    log.info("%s/score", url)
    log.info("Ask it (its key in POINTSEG_KEY): python scripts/invoke.py url=%s input=SCANS output=DIR", url)
    log.info("Remove it: python scripts/teardown.py 'only=[containers]' endpoint=%s", wanted.name)
    return f"{url}/score"
