"""Pipelines that a workspace keeps: published behind a batch endpoint, started, listed and scheduled."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from pointseg.azure.endpoints.deployment import READY, default_deployment, provisioning_state, set_default
from pointseg.azure.errors import AzureError, completed, completing, get_or_none, plain_errors, sdk_entities
from pointseg.azure.publishing.files import CONTENT_TAG, Publication
from pointseg.azure.steps import Step
from pointseg.azure.tags import PUBLISHED_TAG, has_tag, refuse_foreign
from pointseg.core.errors import ConfigError
from pointseg.core.optional_packages import needed

__all__ = ["check_time_zone", "start_published", "published", "steps_to_publish", "switch_schedule"]


def check_time_zone(name: str) -> None:
    """Raises ConfigError for a time zone that Azure ML does not know, suggesting similar ones."""
    known = [zone.value for zone in needed("azure.ai.ml.constants", "azure", "Azure ML").TimeZone]
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, cutoff=0.4)
        remedy = f"Did you mean {', '.join(near)}?" if near else "Such as UTC or W. Europe Standard Time."
        raise ConfigError(f"{name!r} is not one of Azure's time zones", where="time_zone", remedy=remedy)


def steps_to_publish(client: Any, publication: Publication) -> list[Step]:
    """What to do so that a publication is as its files say; what already is so is kept.

    Raises:
        ConfigError: if the version exists with other content, or endpoint or schedule belong to something else.
        AzureError: if the workspace cannot be asked.

    Example:
        >>> carry_out(steps_to_publish(client, write_publication(folder, "nightly")), plan=False)
    """
    sdk = needed("azure.ai.ml", "azure", "Azure ML")
    name = publication.name
    endpoint = get_or_none(f"the endpoint {name}", lambda: client.batch_endpoints.get(name))
    if endpoint is not None:
        refuse_foreign(f"publish={name}", endpoint.tags, tag=PUBLISHED_TAG)
    component = partial(_component, client, sdk, publication)
    steps = [component(step, publication.content, path) for path, step in publication.steps.items()]
    steps.append(component(publication.component, publication.version, publication.file("component")))
    if endpoint:
        steps.append(Step("batch endpoint", name, "keep"))
    else:
        file = str(publication.file("endpoint"))
        make = completing(
            f"making the endpoint {name}",
            lambda: client.batch_endpoints.begin_create_or_update(sdk.load_batch_endpoint(file)),
        )
        steps.append(Step("batch endpoint", name, "create", (), make))
    steps.append(_deployment(client, publication, endpoint))
    default = default_deployment(endpoint)
    if default != publication.deployment:
        difference = f"it runs {default or 'nothing'} -> {publication.deployment}"
        move = partial(set_default, client, name, publication.deployment)
        steps.append(Step("default of", name, "update", (difference,), move))
    if publication.schedule:
        steps.append(_schedule(client, sdk, publication))
    return steps


def _component(client: Any, sdk: Any, publication: Publication, name: str, version: str, path: Path) -> Step:
    existing = get_or_none(f"the component {name}", lambda: client.components.get(name, version))
    if existing is not None:
        _refuse_other_content(publication, existing)
        return Step("component", f"{name}:{version}", "keep")

    def make() -> None:
        with plain_errors(f"registering the component {name}"):
            component = sdk.load_component(str(path))
            component.version, component.tags = version, publication.tags
            client.components.create_or_update(component)

    return Step("component", f"{name}:{version}", "create", (), make)


def _refuse_other_content(publication: Publication, existing: Any) -> None:
    """A version stays what it was made of: Azure does not change it, and the older content would run.

    Raises:
        ConfigError: naming the version.
    """
    if (existing.tags or {}).get(CONTENT_TAG) != publication.content:
        raise ConfigError(
            f"{existing.name} exists in this version, with other content",
            where=f"version={publication.version}",
            remedy="Name another, or leave it out: then it is a digest of the content.",
        )


def _deployment(client: Any, publication: Publication, endpoint: Any) -> Step:
    """A deployment that failed keeps its name and runs nothing: it is made again."""
    name = publication.deployment
    existing = endpoint and get_or_none(
        f"the deployment {name}", lambda: client.batch_deployments.get(name, publication.name)
    )
    entity = sdk_entities().PipelineComponentBatchDeployment  # the SDK loads from files only those of models

    def make() -> None:
        content = yaml.safe_load(publication.file("deployment").read_text(encoding="utf-8"))
        fields = {key: content[key] for key in ("name", "endpoint_name", "component", "tags", "settings")}
        what = f"making the deployment {name}"
        completed(what, lambda: client.batch_deployments.begin_create_or_update(entity(**fields)))

    if existing is None:
        return Step("deployment", name, "create", (), make)
    _refuse_other_content(publication, existing)
    if provisioning_state(existing) == READY:
        return Step("deployment", name, "keep")
    return Step("deployment", name, "replace", (f"it is {provisioning_state(existing)}: made again",), make)


def _schedule(client: Any, sdk: Any, publication: Publication) -> Step:
    entities, name = sdk_entities(), publication.name
    existing = get_or_none(f"the schedule {name}", lambda: client.schedules.get(name))
    content = yaml.safe_load(publication.file("schedule").read_text(encoding="utf-8"))
    time = {key: content["trigger"][key] for key in ("expression", "time_zone")}
    with plain_errors("reading the scheduled job"):
        wanted = entities.JobSchedule(
            name=name,
            trigger=entities.CronTrigger(**time),
            create_job=sdk.load_job(str(publication.file("job"))),
            tags=content["tags"],
            is_enabled=True if existing is None else existing.is_enabled,
        )
    put = completing(f"making the schedule {name}", lambda: client.schedules.begin_create_or_update(wanted))
    if existing is None:
        return Step("schedule", name, "create", (), put)
    refuse_foreign(f"publish={name}", existing.tags, what="a schedule", tag=PUBLISHED_TAG)
    pairs = {
        "time": (existing.trigger.expression, wanted.trigger.expression),
        "time zone": (str(existing.trigger.time_zone), str(wanted.trigger.time_zone)),
        "version": ((existing.tags or {}).get("version"), publication.version),
    }
    differences = [f"{key}: {old} -> {new}" for key, (old, new) in pairs.items() if old != new]
    if provisioning_state(existing) != READY:
        differences.insert(0, f"it is {provisioning_state(existing)}: made again")
    return Step("schedule", name, "update", tuple(differences), put) if differences else Step("schedule", name, "keep")


def published(client: Any) -> list[str]:
    """The published endpoints and schedules, one line each.

    Raises:
        AzureError: if the workspace cannot be asked.
    """
    with plain_errors("listing what is published"):
        endpoints = [each for each in client.batch_endpoints.list() if has_tag(each.tags, PUBLISHED_TAG)]
        schedules = [each for each in client.schedules.list(list_view_type="All") if has_tag(each.tags, PUBLISHED_TAG)]
    lines = [f"endpoint  {each.name}  runs {default_deployment(each) or 'nothing'}" for each in endpoints]
    return lines + [
        f"schedule  {each.name}  {each.trigger.expression} {each.trigger.time_zone}  {'on' if each.is_enabled else 'off'}"
        for each in schedules
    ]


def start_published(client: Any, name: str, inputs: Mapping[str, Any]) -> str:
    """Run what is published; returns the name of the job.

    Args:
        inputs: of the pipeline by name: an address or a local folder as (kind, path), or a number.

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
    """Switch a schedule on or off, or delete it.

    Args:
        action: enable, disable or remove.

    Raises:
        ConfigError: if the schedule is not of a published pipeline.
        AzureError: if there is no such schedule, or Azure ML refuses.
    """
    schedules = client.schedules
    existing = get_or_none(f"the schedule {name}", lambda: schedules.get(name))
    if existing is None:
        remedy = "list=true lists those that exist."
        raise AzureError("there is no such schedule", where=f"{action}={name}", remedy=remedy)
    refuse_foreign(f"{action}={name}", existing.tags, what="a schedule", tag=PUBLISHED_TAG)
    what = f"schedule {name}: {action}"
    completed(what, lambda: schedules.begin_enable(name) if action == "enable" else schedules.begin_disable(name))
    if action == "remove":  # Azure ML deletes only those that are off
        completed(what, lambda: schedules.begin_delete(name))
