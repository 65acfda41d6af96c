"""All steps of a managed online endpoint: endpoint, deployment, autoscaling, smoke test, traffic, deletion of others."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.azure.endpoints.autoscale import Autoscaler
from pointseg.azure.endpoints.data_collection import collected_address
from pointseg.azure.endpoints.deployment import READY, endpoint_and_deployments, provisioning_state
from pointseg.azure.endpoints.online import OnlineDeployment
from pointseg.azure.endpoints.online_logs import with_log_tail
from pointseg.azure.endpoints.online_traffic import Rollout, traffic_of, traffic_steps
from pointseg.azure.errors import AzureError, completed, get_or_none, plain_errors, sdk_entities
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG, made_by_pointseg, refuse_foreign
from pointseg.core.errors import ConfigError

__all__ = ["online_steps"]

AT_REST = ("Succeeded", "Failed", "Canceled")  # states in which nobody is changing it
AUTH = {"key": "a key", "aad": "a Microsoft Entra token, by roles in the workspace"}
SDK_AUTH = {"key": "key", "aad": "aad_token"}
MOST_DEPLOYMENTS = 20  # of an endpoint, by Azure's limits


def online_steps(
    client: Any,
    scaler: Autoscaler,
    wanted: OnlineDeployment,
    rollout: Rollout,
    scan: NDArray[np.float32],
    *,
    delete_old: bool = False,
) -> list[Step]:
    """What to do so that the endpoint works with this deployment; nothing is sent but questions.

    Until the last step of traffic, everything is taken back where a step fails: first the traffic, then the rules of
    autoscaling, the deployment, and the endpoint, each if these steps made it.

    Args:
        scan: (N, 4) float32 points of the smoke test and of the checks.
        delete_old: delete the endpoint's other deployments at the end.

    Raises:
        ConfigError: if the endpoint exists with settings that do not change.
        AzureError: if Azure cannot be asked, or somebody else is changing the endpoint.
    """
    name = wanted.endpoint
    endpoint, old = endpoint_and_deployments(client.online_endpoints, client.online_deployments, name)
    existing = next((deployment for deployment in old if deployment.name == wanted.name), None)
    before = {} if endpoint is None else traffic_of(endpoint)
    has_all_traffic, new_endpoint = before.get(wanted.name) == 100, endpoint is None
    undo = not rollout.keep_failed and not has_all_traffic and not new_endpoint  # a new endpoint takes it along
    steps = [
        _endpoint_step(client, wanted, endpoint, keep_failed=rollout.keep_failed),
        _deployment_step(client, wanted, old, existing, undo=undo),
        *scaler.steps(client, name, wanted.name, existing, undo=not has_all_traffic),
    ]
    timeout = 2.0 * wanted.settings.request_seconds + 30
    steps += traffic_steps(client, name, wanted.name, before, scan, rollout, timeout=timeout, new_endpoint=new_endpoint)
    for other in old if delete_old else ():
        if other.name != wanted.name and made_by_pointseg(other.tags):
            steps.append(Step("deployment", other.name, "delete", (), partial(_delete, client, scaler, name, other)))
    return steps


def _refuse_busy(what: str, resource: Any) -> None:
    if provisioning_state(resource) not in AT_REST:
        raise AzureError(
            f"{what} is {provisioning_state(resource)}: another command is changing it, or one that was stopped did",
            remedy="Wait until that has ended, and give the same command again.",
        )


# ---- the endpoint ----------------------------------------------------------------------------------------------------


def _endpoint_step(client: Any, wanted: OnlineDeployment, existing: Any, *, keep_failed: bool) -> Step:
    """Make the endpoint, change what can be changed in place, or keep it.

    Raises:
        ConfigError: if it asks its callers for something else, or is somebody else's.
        AzureError: if it is being changed.
    """
    name, settings = wanted.endpoint, wanted.settings
    put = partial(_put_endpoint, client, wanted, existing)
    if existing is None:
        facts = (f"callers give {AUTH[settings.auth_mode]}", f"public network {settings.public_network}")
        undo = None if keep_failed else partial(_remove_endpoint, client, name)
        return Step("endpoint", name, "create", facts, put, undo=undo)
    refuse_foreign(f"endpoint={name}", existing.tags)
    _refuse_busy(f"the endpoint {name}", existing)
    mode = str(existing.auth_mode).lower()
    mode = next((ours for ours, theirs in SDK_AUTH.items() if theirs == mode), mode)
    if mode != settings.auth_mode:
        raise ConfigError(
            f"the endpoint {name} asks for {mode}, and callers rely on that",
            where=f"managed.auth_mode={settings.auth_mode}",
            remedy=f"Give managed.auth_mode={mode}, or the name of another endpoint.",
        )
    network, state = str(existing.public_network_access or "enabled").lower(), provisioning_state(existing)
    if state != READY:
        return Step("endpoint", name, "update", (f"it is {state}: sent again",), put)
    if network == settings.public_network:
        return Step("endpoint", name, "keep")
    return Step("endpoint", name, "update", (f"public network: {network} -> {settings.public_network}",), put)


def _put_endpoint(client: Any, wanted: OnlineDeployment, existing: Any) -> None:
    endpoint = existing or sdk_entities().ManagedOnlineEndpoint(
        name=wanted.endpoint, auth_mode=SDK_AUTH[wanted.settings.auth_mode], tags=dict(MADE_BY_TAG)
    )
    endpoint.public_network_access = wanted.settings.public_network
    put = partial(client.online_endpoints.begin_create_or_update, endpoint)
    completed(f"making the endpoint {wanted.endpoint}", put)


def _remove_endpoint(client: Any, name: str) -> str:
    if get_or_none(f"the endpoint {name}", lambda: client.online_endpoints.get(name)) is None:
        return f"there is no endpoint {name}, as before"
    completed(f"deleting the endpoint {name}", lambda: client.online_endpoints.begin_delete(name=name))
    return f"the endpoint {name} of this call is removed, with its deployment"


# ---- the deployment --------------------------------------------------------------------------------------------------


def _deployment_step(client: Any, wanted: OnlineDeployment, old: list[Any], existing: Any, *, undo: bool) -> Step:
    """Make the deployment beside the others, change its number of machines, or keep it.

    Raises:
        ConfigError: if the endpoint has too many deployments.
        AzureError: if the deployment is being changed.
    """
    name, settings = wanted.name, wanted.settings
    others = ", ".join(f"{one.name} ({one.instance_count} x {one.instance_type})" for one in old if one.name != name)
    notes = (wanted.cost, *([f"paid for beside it, until deleted (delete_old=true): {others}"] if others else []))
    differences: tuple[str, ...] = (
        f"model {wanted.model.address}",
        f"environment {wanted.environment.address}",
        f"{settings.instances} x {settings.instance_type}, {settings.concurrency} requests at once on each",
        f"a request may take {settings.request_seconds} s",
    )
    if settings.collection:
        address = collected_address(wanted.endpoint, name)
        differences += (f"collects statistics of {100 * settings.collection.rate:g} % of the scans, in {address}",)
    if existing is not None:
        _refuse_busy(f"the deployment {name}", existing)
        if provisioning_state(existing) == READY:
            count = existing.instance_count
            if wanted.scaled or count == settings.instances:
                return Step("deployment", name, "keep", notes=notes)
            change = (f"machines: {count} -> {settings.instances}",)
            return Step("deployment", name, "update", change, partial(_resize, client, wanted), notes)
        differences = (f"it is {provisioning_state(existing)}: made again", *differences)
    elif len(old) >= MOST_DEPLOYMENTS:
        raise ConfigError(
            f"the endpoint {wanted.endpoint} has {len(old)} deployments, as many as Azure allows",
            where="endpoint",
            remedy="Delete some: az ml online-deployment delete.",
        )
    notes = (*notes, "the first time takes 10 to 20 minutes: Azure builds the image")
    take_back = partial(_delete_deployment, client, wanted.endpoint, name) if undo else None
    action: Any = "create" if existing is None else "replace"
    return Step("deployment", name, action, differences, partial(_create, client, wanted), notes, undo=take_back)


def _create(client: Any, wanted: OnlineDeployment) -> None:
    create = client.online_deployments.begin_create_or_update
    with with_log_tail(client, wanted.endpoint, wanted.name):
        completed(f"making the deployment {wanted.name}", lambda: create(wanted.entity()))


def _resize(client: Any, wanted: OnlineDeployment) -> None:
    what = f"changing the machines of {wanted.name}"
    with plain_errors(what):
        deployment = client.online_deployments.get(wanted.name, wanted.endpoint)  # as it is now
    deployment.instance_count = wanted.settings.instances
    for collection in getattr(deployment.data_collector, "collections", {}).values():
        collection.data = None  # the SDK cannot send what it has read here
    completed(what, lambda: client.online_deployments.begin_create_or_update(deployment))


def _delete(client: Any, scaler: Autoscaler, endpoint: str, deployment: Any) -> None:
    scaler.remove(str(deployment.id))
    _delete_deployment(client, endpoint, deployment.name)


def _delete_deployment(client: Any, endpoint: str, name: str) -> str:
    """Delete a deployment, if it exists; what was done, for people."""
    if get_or_none(f"the deployment {name}", lambda: client.online_deployments.get(name, endpoint)) is None:
        return f"there is no deployment {name}, as before"
    delete = partial(client.online_deployments.begin_delete, name=name, endpoint_name=endpoint)
    completed(f"deleting the deployment {name}", delete)
    return f"the deployment {name} is removed"
