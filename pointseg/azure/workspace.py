"""Which workspace is meant, by settings, environment or the config.json from the portal; and its client."""

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

from pointseg.azure.names import GUID
from pointseg.azure.sign_in import check_auth, credential_of
from pointseg.core.errors import ConfigError
from pointseg.core.optional_packages import needed

__all__ = ["NothingNamed", "Workspace", "connect", "find_workspace"]

log = logging.getLogger(__name__)

VARIABLES = {
    "subscription": ("AZURE_SUBSCRIPTION_ID", "AZUREML_ARM_SUBSCRIPTION"),
    "group": ("AZURE_RESOURCE_GROUP", "AZUREML_ARM_RESOURCEGROUP"),
    "name": ("AZURE_ML_WORKSPACE", "AZUREML_ARM_WORKSPACE_NAME"),
}
FILES = ("config.json", ".azureml/config.json")
KEYS = {"subscription": "subscription_id", "group": "resource_group", "name": "workspace_name"}


class NothingNamed(ConfigError):
    """No part of a workspace's name is given anywhere."""


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
            ("azure.subscription", self.subscription, GUID),
            ("azure.group", self.group, r"[\w.()-]{0,89}[\w()-]"),
            ("azure.workspace", self.name, r"[A-Za-z0-9][A-Za-z0-9_-]{2,32}"),
        ):
            if not re.fullmatch(pattern, value):
                raise ConfigError(f"{value!r} is not valid here", where=f"{key}, from {self.source}")

    def __str__(self) -> str:
        return f"{self.name} in {self.group}, subscription {self.subscription}"


def find_workspace(start_dir: Path, given: Mapping[str, str | None] | None = None) -> Workspace:
    """The workspace named by settings, else by the environment, else by the nearest config.json in this folder or above.

    Args:
        given: subscription, group and name; those that are set win.

    Raises:
        NothingNamed: if no workspace is named.
        ConfigError: if only part of its name is given.

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
            if (folder / name).is_file() and (values := _read_json(folder / name, strict=name != "config.json")):
                return Workspace(**{**values, **chosen}, source=str(folder / name))
    older = start_dir / "config.ini"
    if older.is_file():
        log.warning("%s is from an older set-up; write its values into .azureml/config.json.", older)
        return Workspace(**{**_read_ini(older), **chosen}, source=str(older))
    missing = [key for key in KEYS if key not in chosen and not variables[key]]
    raise (NothingNamed if len(missing) == len(KEYS) else ConfigError)(
        f"no Azure ML workspace is named ({', '.join(missing)})",
        where="azure",
        remedy="Download config.json from the portal into .azureml/, or set AZURE_SUBSCRIPTION_ID, AZURE_RESOURCE_GROUP and "
        "AZURE_ML_WORKSPACE.",
    )


def _read_json(path: Path, *, strict: bool) -> dict[str, str] | None:
    """The workspace of a config.json; None if the file belongs to another program and is not read strictly."""
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


def connect(workspace: Workspace, auth: str = "default", credential: Any = None) -> Any:
    """The SDK's client of a workspace; logs which workspace it is and how it signs in.

    Args:
        auth: see `sign_in.credential_of`.
        credential: used instead, where the caller has one.

    Raises:
        ConfigError: if the packages, or what `auth` needs, are missing.
    """
    check_auth(auth)
    logging.getLogger("azure.identity").setLevel(logging.CRITICAL)  # the error that follows says it in one line
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    client = sdk.MLClient(
        credential or credential_of(auth),
        workspace.subscription,
        workspace.group,
        workspace.name,
        enable_telemetry=False,
        show_progress=False,
    )
    log.info("Azure ML workspace %s (from %s), signed in by %s", workspace, workspace.source, auth)
    return client
