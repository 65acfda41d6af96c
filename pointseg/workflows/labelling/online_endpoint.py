"""`endpoint=online:NAME`: the URL and key of a managed online endpoint of the workspace."""

from __future__ import annotations

import logging

from pointseg.azure.endpoints.online_traffic import address_and_key, traffic_of, traffic_text
from pointseg.azure.errors import get_or_none
from pointseg.azure.names import check_endpoint_name
from pointseg.azure.workspace import connect
from pointseg.core.errors import ConfigError
from pointseg.workflows.settings.invoke import InvokeConfig
from pointseg.workflows.workspace.client import named_workspace

__all__ = ["endpoint_of"]

log = logging.getLogger(__name__)


def endpoint_of(config: InvokeConfig) -> tuple[str, str]:
    """URL and key of the endpoint that `endpoint` names; the key is masked in logs, and never saved.

    Raises:
        ConfigError: if a key contradicts another, there is no such endpoint, or none of its deployments would answer.
        AzureError: if Azure refuses or cannot be reached.
    """
    for key in ("url", "key"):
        if getattr(config, key):
            raise ConfigError(
                f"the {key} of an endpoint of the workspace is looked up",
                where=key,
                remedy="Leave it out, or endpoint.",
            )
    name = check_endpoint_name("endpoint", str(config.endpoint).partition(":")[2])
    client = connect(named_workspace(config.azure), config.azure.auth)
    existing = get_or_none(f"the endpoint {name}", lambda: client.online_endpoints.get(name))
    if existing is None:
        raise ConfigError(
            "the workspace has no such online endpoint",
            where=f"endpoint={config.endpoint}",
            remedy="scripts/deploy.py target=managed makes it.",
        )
    traffic = traffic_of(existing)
    if not traffic and not config.deployment:
        raise ConfigError(
            "no deployment of the endpoint has traffic",
            where=f"endpoint={config.endpoint}",
            remedy="Name one by deployment=NAME, or call scripts/deploy.py again.",
        )
    log.info("The endpoint %s: %s", name, config.deployment or traffic_text(traffic))
    return address_and_key(client, name)
