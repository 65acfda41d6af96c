"""`scripts/teardown.py`: what this project made in Azure, listed, and removed once somebody has agreed."""

from __future__ import annotations

import logging
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pointseg.azure.autoscale import monitor
from pointseg.azure.container_client import container_instances
from pointseg.azure.plan import carry_out
from pointseg.azure.teardown import DEFAULT, KINDS, Place, check_kinds, teardown_steps
from pointseg.azure.workspace import Workspace, check_auth, connect
from pointseg.cli.azure_job import workspace_of
from pointseg.cli.entry import Job
from pointseg.errors import ConfigError
from pointseg.words import counted

__all__ = ["teardown_job"]

log = logging.getLogger(__name__)


def teardown_job(job: Job) -> None:
    """List what carries our tag in the workspace and its resource group; unless `plan` is set, ask and remove it.

    Raises:
        ConfigError: for what cannot be meant, or where nobody can be asked.
        AzureError: if Azure cannot be reached, or refuses: what was removed before is said.
    """
    config = job.config
    check_auth(config.azure.auth)
    kinds, endpoint = _kinds(config), None if config.endpoint is None else str(config.endpoint)
    _check_askable(config)
    workspace = workspace_of(job)
    client = connect(workspace, config.azure.auth)
    place = Place(workspace, client, *_beside(workspace, config.azure.auth))
    steps = teardown_steps(place, kinds, endpoint)
    if not steps:
        log.info("Nothing here carries the tag made_by: pointseg%s.", f" and the name {endpoint}" if endpoint else "")
        return
    carry_out(steps, plan=config.plan, agreed=lambda number: bool(config.yes) or _agreed(number))
    if "assets" not in kinds and endpoint is None:
        log.info("Models, environments, data assets and components stay: assets=true archives those of ours.")


def _kinds(config: DictConfig) -> tuple[str, ...]:
    """What shall go, in the order in which it goes."""
    only = list(config.only) if OmegaConf.is_list(config.only) else [config.only]
    chosen = set(check_kinds(only)) or set(DEFAULT)
    chosen |= {kind for kind in ("clusters", "assets") if config[kind]}
    if config.endpoint is not None and chosen & {"clusters", "assets"}:
        raise ConfigError(
            "clusters and assets belong to no endpoint",
            where=f"endpoint={config.endpoint}",
            remedy="Leave out the name, or clusters and assets.",
        )
    return tuple(kind for kind in KINDS if kind in chosen)


def _check_askable(config: DictConfig) -> None:
    if not (config.plan or config.yes or sys.stdin.isatty()):
        raise ConfigError(
            "nobody can be asked here, and what is removed does not come back",
            where="no terminal",
            remedy="Look with plan=true, then give yes=true.",
        )


def _agreed(number: int) -> bool:
    try:
        answer = input(f"Remove {'this' if number == 1 else 'these'} {counted(number, 'thing')}? [y/N] ")
    except EOFError:
        return False
    return answer.strip().lower() in ("y", "yes")


def _beside(workspace: Workspace, auth: str) -> tuple[Any, Any]:
    """Clients of what lies beside the workspace; where a package is missing, nothing was made with it from here."""
    clients: list[Any] = []
    for what, make in (
        ("rules of autoscaling", lambda: monitor(workspace, auth)),
        ("container groups", lambda: container_instances(workspace.subscription, auth)),
    ):
        try:
            clients.append(make())
        except ConfigError as error:
            if "is not installed" not in error.what:
                raise
            log.warning("Not looked for: %s (%s).", what, error.what)
            clients.append(None)
    return clients[0], clients[1]
