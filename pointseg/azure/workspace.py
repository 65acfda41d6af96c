"""Which workspace, and as whom: settings, environment, or the config.json that the portal gives."""

from __future__ import annotations

import configparser
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg.azure.github_token import GITHUB, github_token
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["AUTH", "NothingNamed", "Workspace", "check_auth", "connect", "credential_of", "find_workspace"]

log = logging.getLogger(__name__)

AUTH = ("default", "cli", "managed_identity", "service_principal", "oidc")
VARIABLES = {
    "subscription": ("AZURE_SUBSCRIPTION_ID", "AZUREML_ARM_SUBSCRIPTION"),
    "group": ("AZURE_RESOURCE_GROUP", "AZUREML_ARM_RESOURCEGROUP"),
    "name": ("AZURE_ML_WORKSPACE", "AZUREML_ARM_WORKSPACE_NAME"),
}
FILES = ("config.json", ".azureml/config.json")
KEYS = {"subscription": "subscription_id", "group": "resource_group", "name": "workspace_name"}


class NothingNamed(ConfigError):
    """Nothing names a workspace, not even in part."""


@dataclass(frozen=True)
class Workspace:
    """An Azure ML workspace, and where its name was found.

    Raises:
        ConfigError: for a name that Azure would not take.
    """

    subscription: str
    group: str
    name: str
    source: str

    def __post_init__(self) -> None:
        for key, value, pattern in (
            ("azure.subscription", self.subscription, r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
            ("azure.group", self.group, r"[\w.()-]{0,89}[\w()-]"),
            ("azure.workspace", self.name, r"[A-Za-z0-9][A-Za-z0-9_-]{2,32}"),
        ):
            if not re.fullmatch(pattern, value):
                raise ConfigError(f"{value!r} cannot be it", where=f"{key}, from {self.source}")

    def __str__(self) -> str:
        return f"{self.name} in {self.group}, subscription {self.subscription}"


def find_workspace(start_dir: Path, given: Mapping[str, str | None] | None = None) -> Workspace:
    """The workspace that is named by settings, else by the environment, else by the nearest config.json upwards.

    Args:
        given: subscription, group and name; those that are not None win.

    Raises:
        NothingNamed: if none is named.
        ConfigError: if only a part of one is named.

    Example:
        >>> find_workspace(Path.cwd())
        Workspace(subscription='...', group='rg', name='ml', source='/home/me/.azureml/config.json')
    """
    chosen = {key: value for key, value in (given or {}).items() if value}
    if len(chosen) == len(KEYS):
        return Workspace(**chosen, source="the settings")
    variables = {
        key: next((os.environ[n] for n in names if os.environ.get(n)), None) for key, names in VARIABLES.items()
    }
    if all(variables.values()):
        return Workspace(**{**variables, **chosen}, source="the environment")  # type: ignore[arg-type]
    for folder in (start_dir.resolve(), *start_dir.resolve().parents):
        for name in FILES:
            if (folder / name).is_file() and (found := _read_json(folder / name, strict=name != "config.json")):
                return Workspace(**{**found, **chosen}, source=str(folder / name))
    older = start_dir / "config.ini"
    if older.is_file():
        found = _read_ini(older)
        log.warning("%s is of an older set-up; write its values into .azureml/config.json.", older)
        return Workspace(**{**found, **chosen}, source=str(older))
    missing = [key for key in KEYS if key not in chosen and not variables[key]]
    raise (NothingNamed if len(missing) == len(KEYS) else ConfigError)(
        f"no Azure ML workspace is named ({', '.join(missing)})",
        where="azure",
        remedy="Download config.json from the portal into .azureml/, or set AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and "
        "AZURE_ML_WORKSPACE.",
    )


def _read_json(path: Path, *, strict: bool) -> dict[str, str] | None:
    """The workspace of a config.json; None for another program's file of that name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(content[name]) for key, name in KEYS.items()}
    except (OSError, ValueError, LookupError, TypeError) as error:
        if not strict:
            return None
        raise ConfigError(
            f"not the config.json of a workspace ({type(error).__name__}: {error})",
            where=path,
            remedy=f"It has {', '.join(KEYS.values())}; download it from the portal again.",
        ) from error


def _read_ini(path: Path) -> dict[str, str]:
    parser = configparser.ConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except configparser.Error as error:
        raise ConfigError("the file cannot be read", where=path, remedy="Use .azureml/config.json.") from error
    values = {name: value for section in parser.sections() for name, value in parser[section].items()}
    try:
        return {key: values[name] for key, name in KEYS.items()}
    except KeyError as error:
        raise ConfigError(f"it has no {error.args[0]}", where=path, remedy="Use .azureml/config.json.") from error


def check_auth(auth: str) -> None:
    """Raises ConfigError for a way to sign in that there is not."""
    if auth not in AUTH:
        raise ConfigError(f"there is no way {auth!r} to sign in", where="azure.auth", remedy=f"Use {', '.join(AUTH)}.")


def connect(workspace: Workspace, auth: str = "default", credential: Any = None) -> Any:
    """The SDK's client of a workspace; says which one and as whom.

    Args:
        auth: how to sign in: "cli", as `az login` has; "managed_identity", as the machine; "service_principal" or "oidc", as
            AZURE_CLIENT_ID says; "default", the first of these that works. "oidc" takes the token of
            AZURE_FEDERATED_TOKEN_FILE or, in a GitHub workflow, asks GitHub for one whenever Azure wants it.
        credential: one that is at hand already.

    Raises:
        ConfigError: if the packages or what `auth` needs are missing.
    """
    check_auth(auth)
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)  # the error that follows says it in a line
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    client = sdk.MLClient(
        credential or _credential(auth),
        workspace.subscription,
        workspace.group,
        workspace.name,
        enable_telemetry=False,
        show_progress=False,
    )
    log.info("Azure ML workspace %s (from %s), signed in by %s", workspace, workspace.source, auth)
    return client


def credential_of(auth: str) -> Any:
    """What signs in, for clients beside that of `connect`.

    Raises:
        ConfigError: if the packages or what `auth` needs are missing.
    """
    check_auth(auth)
    return _credential(auth)


def _credential(auth: str) -> Any:
    identity = needed("azure.identity", "azure", "Azure ML")
    if auth == "cli":
        return identity.AzureCliCredential()
    if auth == "managed_identity":
        return identity.ManagedIdentityCredential(client_id=os.environ.get("AZURE_CLIENT_ID"))
    if auth == "service_principal":
        _require("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
        return identity.EnvironmentCredential()
    if auth == "oidc":
        return _federated(identity)
    return identity.DefaultAzureCredential(exclude_interactive_browser_credential=True)


def _federated(identity: Any) -> Any:
    """By the token of a file that is kept fresh, as in Kubernetes, or by GitHub's of a workflow."""
    if all(os.environ.get(name) for name in GITHUB) and not os.environ.get("AZURE_FEDERATED_TOKEN_FILE"):
        _require("AZURE_TENANT_ID", "AZURE_CLIENT_ID")
        tenant, client = os.environ["AZURE_TENANT_ID"], os.environ["AZURE_CLIENT_ID"]
        return identity.ClientAssertionCredential(tenant, client, github_token)
    _require("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
    return identity.WorkloadIdentityCredential()


def _require(*names: str) -> None:
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise ConfigError("the environment does not say who signs in", where=", ".join(missing), remedy="Set it.")
