"""Pipelines that a workspace keeps: components behind a batch endpoint, and the times at which they run."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pointseg.azure.batch import default_deployment
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.found import found
from pointseg.azure.ours import PUBLISHED, refuse_others
from pointseg.azure.plan import Step
from pointseg.azure.states import READY, state_of
from pointseg.compute.publication import CONTENT, Publication
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = ["check_time_zone", "invoke", "published", "steps_to_publish", "switch_schedule"]

log = logging.getLogger(__name__)

LOOKING = "looking at what is published"


def check_time_zone(name: str) -> None:
    """Raises ConfigError for a time zone that Azure ML does not know, naming near ones."""
    import difflib

    known = [zone.value for zone in needed("azure.ai.ml.constants", "azure", "Azure ML").TimeZone]
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, cutoff=0.4)
        said = f"Did you mean {', '.join(near)}?" if near else "Such as UTC or W. Europe Standard Time."
        raise ConfigError(f"{name!r} is no time zone of Azure's", where="time_zone", remedy=said)


def steps_to_publish(client: Any, made: Publication) -> list[Step]:
    """What is to be done so that a publication is as it was written; what is so already is kept.

    Raises:
        ConfigError: if the version is there with other content, or endpoint or schedule are of something else.
        AzureError: if the workspace cannot be asked.

    Example:
        >>> carry_out(steps_to_publish(client, write_publication(folder, "nightly")), plan=False)
    """
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    endpoint = found(LOOKING, lambda: client.batch_endpoints.get(made.name))
    if endpoint is not None:
        refuse_others(f"publish={made.name}", endpoint.tags, mark=PUBLISHED)
    component = partial(_component, client, sdk, made)
    steps = [component(name, made.content, path) for path, name in made.steps.items()]
    steps.append(component(made.component, made.version, made.file("component")))
    steps.append(
        Step("batch endpoint", made.name, "keep")
        if endpoint
        else Step("batch endpoint", made.name, "create", (), _make_endpoint(client, sdk, made))
    )
    steps.append(_deployment(client, made, endpoint))
    default = default_deployment(endpoint)
    if default != made.deployment:
        difference = f"it runs {default or 'nothing'} -> {made.deployment}"
        steps.append(Step("default of", made.name, "update", (difference,), _make_default(client, made)))
    if made.schedule:
        steps.append(_schedule(client, sdk, made))
    return steps


def _component(client: Any, sdk: Any, made: Publication, name: str, version: str, path: Path) -> Step:
    there = found(LOOKING, lambda: client.components.get(name, version))
    if there is not None:
        _refuse_other_content(made, there)
        return Step("component", f"{name}:{version}", "keep")

    def make() -> None:
        with plain_errors("registering the component"):
            component = sdk.load_component(str(path))
            component.version, component.tags = version, made.tags
            client.components.create_or_update(component)

    return Step("component", f"{name}:{version}", "create", (), make)


def _refuse_other_content(made: Publication, there: Any) -> None:
    """A version stays what it was made of: Azure changes none, and the older content would run.

    Raises:
        ConfigError: naming the version.
    """
    if (there.tags or {}).get(CONTENT) != made.content:
        raise ConfigError(
            f"{there.name} is there in this version, with other content",
            where=f"version={made.version}",
            remedy="Name another, or leave it out: then it is made of the content.",
        )


def _make_endpoint(client: Any, sdk: Any, made: Publication) -> Callable[[], None]:
    def make() -> None:
        with plain_errors("making the endpoint"):
            client.batch_endpoints.begin_create_or_update(sdk.load_batch_endpoint(str(made.file("endpoint")))).result()

    return make


def _deployment(client: Any, made: Publication, endpoint: Any) -> Step:
    """One that failed stays there under its name, and runs nothing: it is made again."""
    there = endpoint and found(LOOKING, lambda: client.batch_deployments.get(made.deployment, made.name))
    if there is None:
        return Step("deployment", made.deployment, "create", (), _make_deployment(client, made))
    _refuse_other_content(made, there)
    if state_of(there) == READY:
        return Step("deployment", made.deployment, "keep")
    difference = f"it is {state_of(there)}: made again"
    return Step("deployment", made.deployment, "replace", (difference,), _make_deployment(client, made))


def _make_deployment(client: Any, made: Publication) -> Callable[[], None]:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")

    def make() -> None:
        with plain_errors("making the deployment"):
            content = yaml.safe_load(made.file("deployment").read_text(encoding="utf-8"))
            wanted = {key: content[key] for key in ("name", "endpoint_name", "component", "tags", "settings")}
            deployment = entities.PipelineComponentBatchDeployment(**wanted)  # the SDK loads only those of models
            client.batch_deployments.begin_create_or_update(deployment).result()

    return make


def _make_default(client: Any, made: Publication) -> Callable[[], None]:
    def make() -> None:
        with plain_errors("choosing what the endpoint runs"):
            endpoint = client.batch_endpoints.get(made.name)
            endpoint.defaults = {"deployment_name": made.deployment}
            client.batch_endpoints.begin_create_or_update(endpoint).result()

    return make


def _schedule(client: Any, sdk: Any, made: Publication) -> Step:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    present = found(LOOKING, lambda: client.schedules.get(made.name))
    content = yaml.safe_load(made.file("schedule").read_text(encoding="utf-8"))
    time = {key: content["trigger"][key] for key in ("expression", "time_zone")}
    with plain_errors("reading the scheduled job"):
        wanted = entities.JobSchedule(
            name=made.name,
            trigger=entities.CronTrigger(**time),
            create_job=sdk.load_job(str(made.file("job"))),
            tags=content["tags"],
            is_enabled=True if present is None else present.is_enabled,
        )
    differences: tuple[str, ...] = ()
    if present is not None:
        refuse_others(f"publish={made.name}", present.tags, what="a schedule", mark=PUBLISHED)
        pairs = {
            "time": (present.trigger.expression, wanted.trigger.expression),
            "time zone": (str(present.trigger.time_zone), str(wanted.trigger.time_zone)),
            "version": ((present.tags or {}).get("version"), made.version),
        }
        differences = tuple(f"{key}: {old} -> {new}" for key, (old, new) in pairs.items() if old != new)
        if state_of(present) != READY:
            differences = (f"it is {state_of(present)}: made again", *differences)
        if not differences:
            return Step("schedule", made.name, "keep")

    def make() -> None:
        with plain_errors("making the schedule"):
            client.schedules.begin_create_or_update(wanted).result()

    return Step("schedule", made.name, "update" if present else "create", differences, make)


def published(client: Any) -> list[str]:
    """What is published and scheduled, one line each.

    Raises:
        AzureError: if the workspace cannot be asked.
    """
    with plain_errors("listing what is published"):
        endpoints = [each for each in client.batch_endpoints.list() if _is_ours(each)]
        schedules = [each for each in client.schedules.list(list_view_type="All") if _is_ours(each)]
    lines = [f"endpoint  {each.name}  runs {default_deployment(each) or 'nothing'}" for each in endpoints]
    return lines + [
        f"schedule  {each.name}  {each.trigger.expression} {each.trigger.time_zone}  {'on' if each.is_enabled else 'off'}"
        for each in schedules
    ]


def _is_ours(resource: Any) -> bool:
    return PUBLISHED.items() <= (resource.tags or {}).items()


def invoke(client: Any, name: str, inputs: Mapping[str, Any]) -> str:
    """Run what is published; gives the name of the job.

    Args:
        inputs: of the pipeline by name: an address or a folder of this machine as (kind, path), or a number.

    Raises:
        AzureError: if there is no such endpoint, or it refuses.
    """
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    given = {
        key: sdk.Input(type="number", default=value)
        if isinstance(value, float)
        else sdk.Input(type=value[0], path=value[1])
        for key, value in inputs.items()
    }
    with plain_errors("running what is published"):
        # by name: the SDK keeps the deployment of an earlier call in this process
        deployment = default_deployment(client.batch_endpoints.get(name))
        if deployment is None:
            raise AzureError("the endpoint runs nothing yet", where=f"invoke={name}", remedy="Publish again.")
        job = client.batch_endpoints.invoke(endpoint_name=name, deployment_name=deployment, inputs=given)
    return str(job.name)


def switch_schedule(client: Any, name: str, action: str) -> None:
    """Let a schedule run or rest, or delete it.

    Args:
        action: enable, disable or remove.

    Raises:
        ConfigError: if the schedule is not of a published pipeline.
        AzureError: if there is no such schedule, or Azure ML refuses.
    """
    schedules = client.schedules
    there = found(LOOKING, lambda: schedules.get(name))
    if there is None:
        raise AzureError(
            "there is no such schedule", where=f"{action}={name}", remedy="list=true says which there are."
        )
    refuse_others(f"{action}={name}", there.tags, what="a schedule", mark=PUBLISHED)
    with plain_errors(f"schedule {name}: {action}"):
        if action == "enable":
            schedules.begin_enable(name).result()
            return
        schedules.begin_disable(name).result()  # Azure ML deletes none that is on
        if action == "remove":
            schedules.begin_delete(name).result()
