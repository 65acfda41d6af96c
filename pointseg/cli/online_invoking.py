"""`scripts/invoke.py endpoint=online:NAME`: where a managed online endpoint of the workspace is, and its key."""

from __future__ import annotations

import logging

from pointseg.azure.batch import check_endpoint
from pointseg.azure.found import found
from pointseg.azure.online_traffic import address_and_key, traffic_of, words_of
from pointseg.azure.workspace import connect
from pointseg.cli.azure_job import workspace_of
from pointseg.cli.entry import Job
from pointseg.errors import ConfigError

__all__ = ["endpoint_of"]

log = logging.getLogger(__name__)


def endpoint_of(job: Job) -> tuple[str, str]:
    """Address and key of the endpoint that `endpoint` names; the key is masked in logs, and never written down.

    Raises:
        ConfigError: if a key contradicts another, there is no such endpoint, or nothing that would answer.
        AzureError: if Azure refuses to tell, or cannot be reached.
    """
    config = job.config
    for key in ("url", "key"):
        if config[key]:
            raise ConfigError(
                f"the {key} of an endpoint of the workspace is fetched", where=key, remedy="Leave it out, or endpoint."
            )
    name = check_endpoint("endpoint", str(config.endpoint).partition(":")[2])
    client = connect(workspace_of(job), config.azure.auth)
    there = found(f"looking for the endpoint {name}", lambda: client.online_endpoints.get(name))
    if there is None:
        raise ConfigError(
            "the workspace has no such online endpoint",
            where=f"endpoint={config.endpoint}",
            remedy="scripts/deploy.py target=managed makes it.",
        )
    traffic = traffic_of(there)
    if not traffic and not config.deployment:
        raise ConfigError(
            "no deployment of the endpoint has traffic",
            where=f"endpoint={config.endpoint}",
            remedy="Name one by deployment=NAME, or call scripts/deploy.py again.",
        )
    log.info("The endpoint %s: %s", name, config.deployment or words_of(traffic))
    return address_and_key(client, name)
