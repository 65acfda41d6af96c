"""What batch and online deployments share: a name by their content, the scoring code, their state, their endpoint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pointseg.azure.errors import completed, get_or_none, plain_errors, sdk_entities
from pointseg.azure.resources.environments import JobEnvironment
from pointseg.azure.resources.models import ModelAsset
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.core.files import write_text
from pointseg.jobs.snapshot import take_snapshot

__all__ = [
    "BATCH_DRIVER",
    "READY",
    "SCORE_DRIVER",
    "Deployment",
    "copy_scoring_code",
    "default_deployment",
    "endpoint_and_deployments",
    "folder_digest",
    "provisioning_state",
    "set_default",
]

READY = "Succeeded"
BATCH_DRIVER, SCORE_DRIVER = "batch_driver.py", "score.py"
MODULES = {BATCH_DRIVER: "batch_score", SCORE_DRIVER: "score"}
# At the root: Azure's driver may start anywhere, and can then import what lies beside the script.
DRIVER = '''"""What Azure loads."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pointseg.serving.{module} import init, run

__all__ = ["init", "run"]
'''


class _Settings(Protocol):
    @property
    def content(self) -> dict[str, Any]:
        """The settings that a new deployment is made for when they change."""


@dataclass(frozen=True)
class Deployment:
    """One version of what an endpoint runs.

    Attributes:
        endpoint: its name.
        code: the folder of `copy_scoring_code`, and
        code_sha256: what it returned.
        description: for people.
    """

    endpoint: str
    model: ModelAsset
    environment: JobEnvironment
    code: Path
    code_sha256: str
    settings: _Settings
    description: str | None = None

    @property
    def name(self) -> str:
        """By content: the same call again finds it."""
        content = [self.model.address, self.environment.address, self.code_sha256, self.settings.content]
        return f"v-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]}"

    def fields(self, script: str) -> dict[str, Any]:
        """Arguments of the SDK's entity; `script` lies at the root of the code."""
        return {
            "name": self.name,
            "endpoint_name": self.endpoint,
            "description": self.description,
            "model": self.model.address,
            "environment": self.environment.address,
            "code_configuration": sdk_entities().CodeConfiguration(code=str(self.code), scoring_script=script),
            "tags": {**MADE_BY_TAG, "code.sha256": self.code_sha256[:12]},
        }


def copy_scoring_code(folder: Path, driver: str = BATCH_DRIVER) -> str:
    """Copy the package into a new folder, with the script that Azure loads beside it.

    Args:
        driver: BATCH_DRIVER for batch deployments, SCORE_DRIVER for online ones.

    Returns:
        The SHA-256 of names and contents.

    Raises:
        ConfigError: if a file looks like a secret, or there is too much.
        OutputError: if it cannot be written.
    """
    take_snapshot(folder, ("pointseg",))
    write_text(folder / driver, DRIVER.format(module=MODULES[driver]))
    return folder_digest(folder)


def folder_digest(folder: Path) -> str:
    """The SHA-256 of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


# ---- what exists -----------------------------------------------------------------------------------------------------


def provisioning_state(resource: Any) -> str:
    """The state of an endpoint, deployment or schedule; SDK versions give a word or an enumeration."""
    state = getattr(resource, "provisioning_state", None)
    return str(getattr(state, "value", state))


def endpoint_and_deployments(endpoints: Any, deployments: Any, name: str) -> tuple[Any, list[Any]]:
    """An endpoint, or None, and its deployments.

    Args:
        endpoints, deployments: the client's operations on those of one kind, batch or online.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    endpoint = get_or_none(f"the endpoint {name}", lambda: endpoints.get(name))
    if endpoint is None:
        return None, []
    with plain_errors(f"looking at the deployments of {name}"):
        return endpoint, list(deployments.list(name))


def default_deployment(endpoint: Any) -> str | None:
    """The name of a batch endpoint's default deployment; SDK versions give a mapping or an object."""
    defaults = getattr(endpoint, "defaults", None)
    if isinstance(defaults, dict):
        return defaults.get("deployment_name")
    return getattr(defaults, "deployment_name", None)


def set_default(client: Any, endpoint: str, deployment: str) -> None:
    """Make a deployment the default of a batch endpoint.

    Raises:
        AzureError: if Azure refuses.
    """
    with plain_errors(f"looking for the endpoint {endpoint}"):
        current = client.batch_endpoints.get(endpoint)  # others may have changed it in the meantime
    current.defaults = {"deployment_name": deployment}
    completed(f"moving the default of {endpoint}", lambda: client.batch_endpoints.begin_create_or_update(current))
