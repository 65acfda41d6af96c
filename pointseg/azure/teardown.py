"""The steps that remove what this project made in a workspace, known by its tag: dependants first.

Data, datastores, jobs, the workspace and whatever lacks the tag are never touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pointseg.azure.containers.client import container_groups, delete_group
from pointseg.azure.errors import AzureError, completed, completing, plain_errors
from pointseg.azure.steps import Step
from pointseg.azure.tags import made_by_pointseg
from pointseg.azure.workspace import Workspace
from pointseg.core.text import counted, listed

__all__ = ["REMOVED_BY_DEFAULT", "REMOVABLE", "TeardownScope", "teardown_steps"]

log = logging.getLogger(__name__)

REMOVABLE = ("schedules", "endpoints", "containers", "clusters", "assets")  # in the order in which they go
REMOVED_BY_DEFAULT = REMOVABLE[:3]
FORBIDDEN = 403
ASSETS = {"models": "model", "environments": "environment", "data": "data asset", "components": "component"}


@dataclass(frozen=True)
class TeardownScope:
    """Clients of one workspace and its resource group.

    Attributes:
        client: of the workspace.
        monitor: of its autoscale settings, and
        containers: of its container groups; None where the package is not installed: those are skipped.
    """

    workspace: Workspace
    client: Any
    monitor: Any
    containers: Any


def teardown_steps(place: TeardownScope, kinds: Sequence[str], endpoint: str | None = None) -> list[Step]:
    """What this project made, each as a step that removes it, in an order that works.

    Args:
        kinds: to remove; clusters are listed in any case, since they may cost.
        endpoint: only what has this name: an endpoint, its schedule and rules of autoscaling, a container group.

    Raises:
        AzureError: if Azure cannot be asked.
    """
    steps: list[Step] = []
    if "schedules" in kinds:
        steps += _schedules(place.client)
    if "endpoints" in kinds:
        online = list(_online(place.client))
        going = [step.name for step in online if step.action == "delete" and endpoint in (None, step.name)]
        steps += _where_allowed("rules of autoscaling", lambda: _autoscale(place, going))
        steps += online
        steps += _batch(place.client)
    if "containers" in kinds:
        steps += _where_allowed("container groups", lambda: _containers(place))
    if endpoint is not None:
        return [step for step in steps if step.kind == "autoscale" or step.name == endpoint]
    steps += _clusters(place.client, delete="clusters" in kinds)
    if "assets" in kinds:
        steps += [step for asset, kind in ASSETS.items() for step in _assets(place.client, asset, kind)]
    return steps


def _made_here(what: str, call: Callable[[], Iterable[Any]]) -> list[Any]:
    """Those of a list that have our tag; the SDK asks for a list page by page."""
    with plain_errors(f"listing {what}"):
        return [resource for resource in call() if made_by_pointseg(getattr(resource, "tags", None))]


def _schedules(client: Any) -> Iterator[Step]:
    for schedule in _made_here("schedules", lambda: client.schedules.list(list_view_type="All")):
        notes = ("it starts jobs, which cost",) if schedule.is_enabled else ("it is off",)
        do = partial(_delete_schedule, client, schedule.name, enabled=schedule.is_enabled)
        yield Step("schedule", schedule.name, "delete", (), do, notes)


def _delete_schedule(client: Any, name: str, *, enabled: bool) -> None:
    if enabled:  # Azure deletes only those that are off
        completed(f"switching off the schedule {name}", lambda: client.schedules.begin_disable(name))
    completed(f"deleting the schedule {name}", lambda: client.schedules.begin_delete(name))


def _where_allowed(what: str, look: Callable[[], Iterable[Step]]) -> list[Step]:
    """Not everybody who may use the workspace may list what is beside it in the resource group."""
    try:
        return list(look())
    except AzureError as error:
        if error.status != FORBIDDEN:
            raise
        log.warning("Not looked for: %s (you may not list those of the resource group).", what)
        return []


def _autoscale(place: TeardownScope, endpoints: Sequence[str]) -> Iterator[Step]:
    """Rules for deployments of these endpoints."""
    if place.monitor is None:
        return
    group, settings = place.workspace.group, place.monitor.autoscale_settings
    paths = [f"/workspaces/{place.workspace.name}/onlineendpoints/{name}/".lower() for name in endpoints]
    for rule in _made_here("rules of autoscaling", lambda: settings.list_by_resource_group(group)):
        if any(path in str(rule.target_resource_uri).lower() for path in paths):
            do = completing(f"deleting the rules {rule.name}", partial(settings.delete, group, rule.name))
            yield Step("autoscale", rule.name, "delete", (), do)


def _online(client: Any) -> Iterator[Step]:
    for endpoint in _made_here("online endpoints", client.online_endpoints.list):
        deployments = _deployments(client.online_deployments, endpoint.name)
        machines = ", ".join(f"{one.name}: {one.instance_count} x {one.instance_type}" for one in deployments)
        notes = (f"its machines cost as long as they exist ({machines})",) if deployments else ()
        yield _endpoint(client.online_endpoints, "online endpoint", endpoint.name, deployments, notes)


def _batch(client: Any) -> Iterator[Step]:
    for endpoint in _made_here("batch endpoints", client.batch_endpoints.list):
        deployments = _deployments(client.batch_deployments, endpoint.name)
        names = listed([one.name for one in deployments]) or "none"
        notes = (f"it costs nothing by itself; deployments: {names}",)
        yield _endpoint(client.batch_endpoints, "batch endpoint", endpoint.name, deployments, notes)


def _deployments(operations: Any, endpoint: str) -> list[Any]:
    with plain_errors(f"listing the deployments of {endpoint}"):
        return list(operations.list(endpoint))


def _endpoint(endpoints: Any, kind: str, name: str, deployments: Sequence[Any], notes: tuple[str, ...]) -> Step:
    """An endpoint is deleted with its deployments, and so stays if one of them is somebody else's."""
    if others := [one.name for one in deployments if not made_by_pointseg(one.tags)]:
        return Step(kind, name, "keep", notes=(f"it has deployments of somebody else: {listed(others)}", *notes))
    delete = completing(f"deleting the endpoint {name}", partial(endpoints.begin_delete, name=name))
    return Step(kind, name, "delete", (), delete, notes)


def _containers(place: TeardownScope) -> Iterator[Step]:
    if place.containers is None:
        return
    for group in container_groups(place.containers, place.workspace.group):
        if made_by_pointseg(group.tags):
            requests = [container.resources.requests for container in group.containers]
            cores, memory = sum(one.cpu for one in requests), sum(one.memory_in_gb for one in requests)
            notes = (f"it costs while it runs: {cores:g} cores, {memory:g} GB",)
            delete = partial(delete_group, place.containers, place.workspace.group, group.name)
            yield Step("container group", group.name, "delete", (), delete, notes)


def _clusters(client: Any, *, delete: bool) -> Iterator[Step]:
    for compute in _made_here("clusters", client.compute.list):
        kubernetes = str(compute.type).lower() == "kubernetes"
        kind = "kubernetes compute" if kubernetes else "compute cluster"
        least = getattr(compute, "min_instances", None) or 0
        cost = f"{counted(least, 'machine')} always on, which cost" if least else "it costs nothing while idle"
        if not delete:
            yield Step(kind, compute.name, "keep", notes=(f"{cost}; clusters=true deletes it",))
            continue
        remove = partial(client.compute.begin_delete, compute.name, action="Detach" if kubernetes else "Delete")
        do = completing(f"deleting the compute {compute.name}", remove)
        yield Step(kind, compute.name, "delete", (), do, (cost,))


def _assets(client: Any, attribute: str, kind: str) -> Iterator[Step]:
    """Assets cannot be deleted, only archived: each version that we made."""
    operations = getattr(client, attribute)
    with plain_errors(f"listing {attribute}"):
        names = sorted({asset.name for asset in operations.list()})
    for name in names:
        versions = _made_here(f"versions of {name}", partial(operations.list, name=name))
        if numbers := [str(version.version) for version in versions]:
            differences = (f"{counted(len(numbers), 'version')}: {listed(numbers, 6)}",)
            yield Step(kind, name, "archive", differences, partial(_archive, operations, name, numbers))


def _archive(operations: Any, name: str, versions: Sequence[str]) -> None:
    for version in versions:
        try:
            completed(f"archiving {name}:{version}", partial(operations.archive, name=name, version=version))
        except AzureError as error:
            raise AzureError(error.what, where=f"{name}:{version}", remedy=error.remedy) from error
