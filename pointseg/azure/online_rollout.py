"""All steps of a managed online endpoint: endpoint, deployment, autoscaling, smoke test, traffic, deletion of others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.azure.autoscale import Autoscale, autoscale_steps, settings_of
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.found import found
from pointseg.azure.online import OnlineDeployment, delete_deployment, deployment_step, endpoint_step
from pointseg.azure.online_traffic import Rollout, traffic_of, traffic_steps
from pointseg.azure.ours import is_ours
from pointseg.azure.plan import Step

__all__ = ["Scaling", "online_steps"]

log = logging.getLogger(__name__)


class Scaling:
    """Azure Monitor, as far as it concerns the deployments of one endpoint.

    Args:
        monitor: its client.
        group: the resource group.
        wanted: rules for the wanted deployment.
    """

    def __init__(self, monitor: Any, group: str, wanted: Autoscale) -> None:
        self.monitor, self.group, self.wanted = monitor, group, wanted

    def steps(self, client: Any, wanted: OnlineDeployment, there: Any, *, undo: bool) -> list[Step]:
        """For the wanted deployment, `there` or not."""
        name = f"pointseg-{wanted.endpoint}-{wanted.name}"

        def target() -> tuple[str, str]:
            with plain_errors(f"looking at the deployment {wanted.name}"):
                made = client.online_deployments.get(wanted.name, wanted.endpoint)
                endpoint = client.online_endpoints.get(wanted.endpoint)
            return str(made.id), str(endpoint.location)

        present = [] if there is None else self._present(str(there.id))
        return autoscale_steps(self.monitor, self.group, name, self.wanted, target, present, undo=undo)

    def _present(self, deployment_id: str) -> list[Any]:
        try:
            return settings_of(self.monitor, self.group, deployment_id)
        except AzureError as error:
            if self.wanted.most is not None:
                raise
            log.warning("Whether there are rules of autoscaling is not known: %s", error)
            return []

    def remove(self, deployment_id: str) -> None:
        """Remove our rules of a deployment, which would stay without it."""
        for one in filter(lambda rules: is_ours(rules.tags), self._present(deployment_id)):
            with plain_errors(f"deleting the rules of autoscaling {one.name}"):
                self.monitor.autoscale_settings.delete(self.group, one.name)


def online_steps(
    client: Any,
    scaling: Scaling,
    wanted: OnlineDeployment,
    rollout: Rollout,
    scan: NDArray[np.float32],
    *,
    delete_old: bool = False,
) -> list[Step]:
    """What is to be done so that the endpoint works with this deployment; nothing is sent but questions.

    Up to the last step of traffic all is taken back where a step fails: the traffic first, then the rules of autoscaling, the
    deployment, and the endpoint, each if it was made by these steps.

    Args:
        scan: (N, 4) float32 points of the smoke test and of the checks.
        delete_old: delete the endpoint's other deployments at the end.

    Raises:
        ConfigError: if the endpoint is there with settings that do not change.
        AzureError: if Azure cannot be asked, or somebody else is at the endpoint.
    """
    name = wanted.endpoint
    endpoint = found(f"looking for the endpoint {name}", lambda: client.online_endpoints.get(name))
    old: list[Any] = []
    if endpoint is not None:
        with plain_errors(f"looking at the deployments of {name}"):
            old = list(client.online_deployments.list(name))
    there = next((deployment for deployment in old if deployment.name == wanted.name), None)
    before = {} if endpoint is None else traffic_of(endpoint)
    working = before.get(wanted.name) == 100
    steps = [
        endpoint_step(client, wanted, endpoint, keep_failed=rollout.keep_failed),
        deployment_step(
            client, wanted, old, undo=not rollout.keep_failed and not working, new_endpoint=endpoint is None
        ),
        *scaling.steps(client, wanted, there, undo=not working),
    ]
    timeout = 2.0 * wanted.settings.request_seconds + 30
    steps += traffic_steps(
        client, name, wanted.name, before, scan, rollout, timeout=timeout, new_endpoint=endpoint is None
    )
    if delete_old:
        steps += [
            Step("deployment", other.name, "delete", (), _delete(client, scaling, name, other))
            for other in old
            if other.name != wanted.name and is_ours(other.tags)
        ]
    return steps


def _delete(client: Any, scaling: Scaling, endpoint: str, deployment: Any) -> Callable[[], None]:
    def delete() -> None:
        scaling.remove(str(deployment.id))
        delete_deployment(client, endpoint, deployment.name)

    return delete
