"""What this project made in a workspace, by its tag, and the steps that remove it: dependants first.

Data, datastores, jobs, the workspace and whatever has no tag of ours are never touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pointseg.azure.container_client import container_groups, delete_group
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.ours import is_ours
from pointseg.azure.plan import Step
from pointseg.azure.workspace import Workspace
from pointseg.errors import ConfigError
from pointseg.words import counted, listed

__all__ = ["DEFAULT", "KINDS", "Place", "check_kinds", "teardown_steps"]

log = logging.getLogger(__name__)

KINDS = ("schedules", "endpoints", "containers", "clusters", "assets")  # in the order in which they go
DEFAULT = KINDS[:3]
FORBIDDEN = 403
ASSETS = {"models": "model", "environments": "environment", "data": "data asset", "components": "component"}


@dataclass(frozen=True)
class Place:
    """Where is looked: clients of one workspace and its resource group.

    Attributes:
        client: of the workspace.
        monitor: of its autoscale settings, and
        containers: of its container groups; None where the package is not installed: nothing is looked for then.
    """

    workspace: Workspace
    client: Any
    monitor: Any
    containers: Any


def check_kinds(given: Sequence[object]) -> tuple[str, ...]:
    """Raises ConfigError for a kind that there is not."""
    for kind in given:
        if kind not in KINDS:
            raise ConfigError(f"there is no kind {kind!r}", where="only", remedy=f"Use some of {', '.join(KINDS)}.")
    return tuple(str(kind) for kind in given)


def teardown_steps(place: Place, kinds: Sequence[str], endpoint: str | None = None) -> list[Step]:
    """What is there of ours, each as a step that removes it, in the order in which that works.

    Args:
        kinds: of things that shall go; clusters are listed in any case, since they may cost.
        endpoint: only what has this name: an endpoint, its schedule, its rules of autoscaling, a container group.

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


def _ours(what: str, ask: Callable[[], Iterable[Any]]) -> list[Any]:
    """Those of a list that have our tag; a list is asked for page by page."""
    with plain_errors(f"listing {what}"):
        return [one for one in ask() if is_ours(getattr(one, "tags", None))]


def _deleting(what: str, delete: Callable[[], Any]) -> Callable[[], None]:
    """Call it, and wait for the end of the operation that it begins."""

    def do() -> None:
        with plain_errors(f"deleting {what}"):
            operation = delete()
            if hasattr(operation, "result"):
                operation.result()

    return do


def _schedules(client: Any) -> Iterator[Step]:
    for one in _ours("schedules", lambda: client.schedules.list(list_view_type="All")):
        notes = ("it starts jobs, which cost",) if one.is_enabled else ("it is off",)
        yield Step("schedule", one.name, "delete", (), _schedule(client, one), notes)


def _schedule(client: Any, one: Any) -> Callable[[], None]:
    def delete() -> Any:
        if one.is_enabled:  # Azure deletes only those that are off
            client.schedules.begin_disable(one.name).result()
        return client.schedules.begin_delete(one.name)

    return _deleting(f"the schedule {one.name}", delete)


def _where_allowed(what: str, look: Callable[[], Iterable[Step]]) -> list[Step]:
    """What lies beside the workspace, in its resource group, is not for all who may use the workspace."""
    try:
        return list(look())
    except AzureError as error:
        if error.status != FORBIDDEN:
            raise
        log.warning("Not looked for: %s (you may not list those of the resource group).", what)
        return []


def _autoscale(place: Place, endpoints: Sequence[str]) -> Iterator[Step]:
    """Rules for deployments of these endpoints."""
    if place.monitor is None:
        return
    group, settings = place.workspace.group, place.monitor.autoscale_settings
    places = [f"/workspaces/{place.workspace.name}/onlineendpoints/{name}/".lower() for name in endpoints]
    for one in _ours("rules of autoscaling", lambda: settings.list_by_resource_group(group)):
        target = str(one.target_resource_uri).lower()
        if any(within in target for within in places):
            delete = _deleting(f"the rules {one.name}", lambda name=one.name: settings.delete(group, name))  # type: ignore[misc]
            yield Step("autoscale", one.name, "delete", (), delete)


def _online(client: Any) -> Iterator[Step]:
    for one in _ours("online endpoints", client.online_endpoints.list):
        with plain_errors(f"listing the deployments of {one.name}"):
            deployments = list(client.online_deployments.list(one.name))
        machines = ", ".join(f"{each.name}: {each.instance_count} x {each.instance_type}" for each in deployments)
        cost = (f"its machines cost as long as they are there ({machines})",) if deployments else ()
        yield _endpoint(client.online_endpoints, "online endpoint", one.name, deployments, cost)


def _batch(client: Any) -> Iterator[Step]:
    for one in _ours("batch endpoints", client.batch_endpoints.list):
        with plain_errors(f"listing the deployments of {one.name}"):
            deployments = list(client.batch_deployments.list(one.name))
        notes = (f"it costs nothing by itself; deployments: {listed([each.name for each in deployments]) or 'none'}",)
        yield _endpoint(client.batch_endpoints, "batch endpoint", one.name, deployments, notes)


def _endpoint(endpoints: Any, kind: str, name: str, deployments: Sequence[Any], notes: tuple[str, ...]) -> Step:
    """An endpoint goes with its deployments, and so stays where one of them is somebody else's."""
    if others := [each.name for each in deployments if not is_ours(each.tags)]:
        return Step(kind, name, "keep", notes=(f"it has deployments of somebody else: {listed(others)}", *notes))
    delete = _deleting(f"the endpoint {name}", lambda: endpoints.begin_delete(name=name))
    return Step(kind, name, "delete", (), delete, notes)


def _containers(place: Place) -> Iterator[Step]:
    if place.containers is None:
        return
    for one in container_groups(place.containers, place.workspace.group):
        if is_ours(one.tags):
            cores = sum(each.resources.requests.cpu for each in one.containers)
            memory = sum(each.resources.requests.memory_in_gb for each in one.containers)
            notes = (f"it costs while it runs: {cores:g} cores, {memory:g} GB",)
            delete = _group(place, one.name)
            yield Step("container group", one.name, "delete", (), delete, notes)


def _group(place: Place, name: str) -> Callable[[], None]:
    return lambda: delete_group(place.containers, place.workspace.group, name)


def _clusters(client: Any, *, delete: bool) -> Iterator[Step]:
    for one in _ours("clusters", client.compute.list):
        kubernetes = str(one.type).lower() == "kubernetes"
        kind = "kubernetes compute" if kubernetes else "compute cluster"
        least = getattr(one, "min_instances", None) or 0
        cost = f"{counted(least, 'machine')} always on, which cost" if least else "it costs nothing while idle"
        if not delete:
            yield Step(kind, one.name, "keep", notes=(f"{cost}; clusters=true deletes it",))
            continue
        action = "Detach" if kubernetes else "Delete"
        do = _deleting(
            f"the compute {one.name}",
            lambda name=one.name, action=action: client.compute.begin_delete(name, action=action),  # type: ignore[misc]
        )
        yield Step(kind, one.name, "delete", (), do, (cost,))


def _assets(client: Any, attribute: str, kind: str) -> Iterator[Step]:
    """Assets cannot be deleted, only hidden: each of our versions."""
    operations = getattr(client, attribute)
    with plain_errors(f"listing {attribute}"):
        names = sorted({one.name for one in operations.list()})
    for name in names:
        versions = _ours(f"versions of {name}", lambda name=name: operations.list(name=name))  # type: ignore[misc]
        if numbers := [str(one.version) for one in versions]:
            said = (f"{counted(len(numbers), 'version')}: {listed(numbers, 6)}",)
            yield Step(kind, name, "archive", said, _archive(operations, name, numbers))


def _archive(operations: Any, name: str, versions: Sequence[str]) -> Callable[[], None]:
    def do() -> None:
        for version in versions:
            try:
                with plain_errors(f"archiving {name}:{version}"):
                    operations.archive(name=name, version=version)
            except AzureError as error:
                raise AzureError(error.what, where=f"{name}:{version}", remedy=error.remedy) from error

    return do
