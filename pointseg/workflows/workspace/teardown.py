"""List what this project made in Azure, and remove it after a question."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pointseg.azure.containers.client import container_instances
from pointseg.azure.endpoints.autoscale import monitor_client
from pointseg.azure.steps import Step, carry_out
from pointseg.azure.teardown import REMOVABLE, REMOVED_BY_DEFAULT, TeardownScope, teardown_steps
from pointseg.azure.workspace import Workspace, connect
from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.progress import Ask, nobody
from pointseg.core.text import counted
from pointseg.workflows.settings.teardown import TeardownConfig
from pointseg.workflows.workspace.client import named_workspace

__all__ = ["TornDown", "teardown"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TornDown:
    """The result of a teardown.

    Attributes:
        steps: one for each thing of this project; those with action "keep" stay.
        removed: whether the others were removed; not with `plan`, nor if the answer was no.
    """

    steps: tuple[Step, ...]
    removed: bool


def teardown(config: TeardownConfig, *, ask: Ask = nobody) -> TornDown:
    """List what carries our tag in the workspace and its resource group; unless `plan` is set, ask and remove it.

    Args:
        ask: whether to remove what is listed; not called with `yes`.

    Raises:
        ConfigError: if keys contradict each other, or nobody can be asked.
        AzureError: if Azure cannot be reached, or refuses: the message says what was removed before.

    Example:
        >>> [step.name for step in teardown(TeardownConfig(plan=True)).steps]
        ['street', 'street-batch']
    """
    check_choices(config)
    kinds = _kinds(config)
    if ask is nobody and not (config.plan or config.yes):
        raise ConfigError(
            "nobody can be asked here, and what is removed cannot be restored",
            where="yes=false",
            remedy="Look with plan=true, then give yes=true.",
        )
    workspace = named_workspace(config.azure)
    client = connect(workspace, config.azure.auth)
    place = TeardownScope(workspace, client, *_beside(workspace, config.azure.auth))
    steps = teardown_steps(place, kinds, config.endpoint)
    if not steps:
        named = f" and the name {config.endpoint}" if config.endpoint else ""
        log.info("Nothing here carries the tag made_by: pointseg%s.", named)
        return TornDown((), removed=False)

    def agreed(number: int) -> bool:
        return config.yes or ask(f"Remove {'this' if number == 1 else 'these'} {counted(number, 'thing')}?")

    removed = carry_out(steps, plan=config.plan, agreed=agreed)
    if "assets" not in kinds and config.endpoint is None:
        log.info("Models, environments, data assets and components stay: assets=true archives those of ours.")
    return TornDown(tuple(steps), removed)


def _kinds(config: TeardownConfig) -> tuple[str, ...]:
    """The kinds to remove, in order."""
    chosen = set(config.only) or set(REMOVED_BY_DEFAULT)
    chosen |= {kind for kind in ("clusters", "assets") if getattr(config, kind)}
    if config.endpoint is not None and chosen & {"clusters", "assets"}:
        raise ConfigError(
            "clusters and assets belong to no endpoint",
            where=f"endpoint={config.endpoint}",
            remedy="Leave out the name, or clusters and assets.",
        )
    return tuple(kind for kind in REMOVABLE if kind in chosen)


def _beside(workspace: Workspace, auth: str) -> tuple[Any, Any]:
    """Clients of what is beside the workspace; where a package is missing, nothing was made with it from here."""
    clients: list[Any] = []
    for what, make in (
        ("rules of autoscaling", lambda: monitor_client(workspace, auth)),
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
