"""Managed online endpoints: what a deployment is, and the steps by which an endpoint comes to work with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pointseg.azure.collection import CollectionSettings, collected_address
from pointseg.azure.environments import JobEnvironment
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.found import found
from pointseg.azure.models import ModelAsset
from pointseg.azure.names import check_matches, check_whole
from pointseg.azure.online_logs import with_last_words
from pointseg.azure.ours import TAG, refuse_others
from pointseg.azure.plan import Step
from pointseg.azure.quiet import quiet_unless_seen
from pointseg.azure.states import READY, state_of
from pointseg.compute.scoring_code import SCORE_DRIVER
from pointseg.errors import ConfigError
from pointseg.extras import needed

__all__ = [
    "OnlineDeployment",
    "OnlineSettings",
    "delete_deployment",
    "deployment_step",
    "endpoint_step",
]

MADE = ("Succeeded", "Failed", "Canceled")  # states in which nobody is at it
AUTH = {"key": "a key", "aad": "a Microsoft Entra token, by roles in the workspace"}
SDK_AUTH = {"key": "key", "aad": "aad_token"}
NETWORK = ("enabled", "disabled")
PROBE = {"initial_delay": (0, 3600), "period": (1, 3600), "timeout": (1, 3600), "failures": (1, 1000)}
MOST_DEPLOYMENTS = 20  # of an endpoint, and
MOST_INSTANCES = 50  # of a deployment, by Azure's limits of managed endpoints
MOST_SECONDS = 180  # that Azure lets a request take
BODY_SECONDS = 30  # that a body may take to come, of longer limits


@dataclass(frozen=True)
class OnlineSettings:
    """How an online deployment works.

    Args:
        instance_type: the machines.
        instances: how many there are at the start, or all the time where nothing scales them.
        request_seconds: that a request may take in all.
        concurrency: requests that a machine takes at once; they wait in order for its cores.
        workers: processes on each, with the model each.
        auth_mode: how callers sign in: key or aad.
        public_network: whether the endpoint is reached from everywhere: enabled or disabled.
        egress: whether the deployment fetches model and image over the public network: enabled or disabled.
        liveness, readiness: how Azure looks at a machine: initial_delay, period and timeout in seconds, failures.
        collection: what is collected of the scans, if anything.

    Raises:
        ConfigError: naming the key, for whatever Azure would refuse only later, or take and not do.

    Example:
        >>> OnlineSettings(instance_type="Standard_F4s_v2", instances=2)
    """

    instance_type: str = "Standard_DS3_v2"
    instances: int = 1
    request_seconds: int = 60
    concurrency: int = 4
    workers: int = 1
    auth_mode: str = "key"
    public_network: str = "enabled"
    egress: str = "enabled"
    liveness: Mapping[str, int] = field(default_factory=dict)
    readiness: Mapping[str, int] = field(default_factory=dict)
    collection: CollectionSettings | None = None

    def __post_init__(self) -> None:
        size = r"Standard_[A-Za-z0-9_-]{1,60}"
        remedy = "Such as Standard_DS3_v2; Azure lists those that endpoints have."
        check_matches("managed.instance_type", self.instance_type, size, "type of a machine", remedy)
        for key, least, most in (
            ("instances", 1, MOST_INSTANCES),
            ("request_seconds", 5, MOST_SECONDS),
            ("concurrency", 1, 1000),
            ("workers", 1, 64),
        ):
            check_whole(f"managed.{key}", getattr(self, key), least, most)
        if self.workers > self.concurrency:
            raise ConfigError(
                f"{self.workers} processes for {self.concurrency} requests at once: some would never work",
                where="managed.workers",
                remedy="Give fewer, or a higher managed.concurrency.",
            )
        for key, known in (("auth_mode", tuple(AUTH)), ("public_network", NETWORK), ("egress", NETWORK)):
            if getattr(self, key) not in known:
                raise ConfigError(
                    f"there is no {getattr(self, key)!r}", where=f"managed.{key}", remedy=f"Use {' or '.join(known)}."
                )
        for name in ("liveness", "readiness"):
            for key, value in getattr(self, name).items():
                if key not in PROBE:
                    raise ConfigError("there is no such key", where=f"managed.{name}.{key}")
                check_whole(f"managed.{name}.{key}", value, *PROBE[key])

    @property
    def variables(self) -> dict[str, str]:
        """What `serving.score` and the server around it read of the environment.

        A body's time and a cloud's time end a second before Azure's, so that the caller is told which of them it was. There
        is a thread more than requests, which answers the probes while all others work.
        """
        body = min(BODY_SECONDS, self.request_seconds // 4)
        threads = math.ceil(self.concurrency / self.workers) + 1
        return {
            "WORKER_COUNT": str(self.workers),
            "GUNICORN_CMD_ARGS": f"--worker-class gthread --threads {threads} --no-control-socket",
            "POINTSEG_BODY_SECONDS": str(body),
            "POINTSEG_TIME_LIMIT": str(self.request_seconds - body - 1),
            **(self.collection.variables if self.collection else {}),
        }

    @property
    def content(self) -> dict[str, Any]:
        """What makes another deployment; the number of machines and the endpoint's own settings change in place."""
        of_deployment = ("instance_type", "request_seconds", "concurrency", "egress")
        probes = {name: dict(getattr(self, name)) for name in ("liveness", "readiness")}
        rolling = {"rolling": self.collection.rolling} if self.collection else {}
        values = {key: getattr(self, key) for key in of_deployment}
        return {**values, **probes, **rolling, "variables": self.variables}


@dataclass(frozen=True)
class OnlineDeployment:
    """One content of an online endpoint.

    Attributes:
        code: the folder of `take_scoring_code`, and
        code_sha256: what it gave.
        scaled: whether the number of machines is left to autoscaling.
    """

    endpoint: str
    model: ModelAsset
    environment: JobEnvironment
    code: Path
    code_sha256: str
    settings: OnlineSettings
    description: str | None = None
    scaled: bool = False

    @property
    def name(self) -> str:
        """By content: the same call again finds it."""
        content = [self.model.address, self.environment.address, self.code_sha256, self.settings.content]
        return f"v-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]}"


def _refuse_busy(what: str, thing: Any) -> None:
    if state_of(thing) not in MADE:
        raise AzureError(
            f"{what} is {state_of(thing)}: another call is at it, or an earlier one that was stopped",
            remedy="Wait until that has ended, and give the same command again.",
        )


def endpoint_step(client: Any, wanted: OnlineDeployment, there: Any, *, keep_failed: bool) -> Step:
    """Make the endpoint, change what can be changed in place, or keep it.

    Raises:
        ConfigError: if it asks its callers for something else, or is somebody else's.
        AzureError: if it is being changed.
    """
    name, settings = wanted.endpoint, wanted.settings
    if there is None:
        differences: tuple[str, ...] = (
            f"callers give {AUTH[settings.auth_mode]}",
            f"public network {settings.public_network}",
        )

        def undo() -> str:
            return _remove_endpoint(client, name)

        make = _put_endpoint(client, wanted, None)
        return Step("endpoint", name, "create", differences, make, undo=None if keep_failed else undo)
    refuse_others(f"endpoint={name}", there.tags)
    _refuse_busy(f"the endpoint {name}", there)
    given = str(there.auth_mode).lower()
    given = next((mode for mode, word in SDK_AUTH.items() if word == given), given)
    if given != settings.auth_mode:
        raise ConfigError(
            f"the endpoint {name} asks for {given}, and callers rely on that",
            where=f"managed.auth_mode={settings.auth_mode}",
            remedy=f"Give managed.auth_mode={given}, or the name of another endpoint.",
        )
    network = str(there.public_network_access or "enabled").lower()
    if state_of(there) == READY and network == settings.public_network:
        return Step("endpoint", name, "keep")
    differences = (f"public network: {network} -> {settings.public_network}",)
    if state_of(there) != READY:
        differences = (f"it is {state_of(there)}: sent again",)
    return Step("endpoint", name, "update", differences, _put_endpoint(client, wanted, there))


def _put_endpoint(client: Any, wanted: OnlineDeployment, there: Any) -> Callable[[], None]:
    def put() -> None:
        entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
        endpoint = there
        if there is None:
            mode = SDK_AUTH[wanted.settings.auth_mode]
            endpoint = entities.ManagedOnlineEndpoint(name=wanted.endpoint, auth_mode=mode, tags=dict(TAG))
        endpoint.public_network_access = wanted.settings.public_network
        with plain_errors(f"making the endpoint {wanted.endpoint}"):
            client.online_endpoints.begin_create_or_update(endpoint).result()

    return put


def _remove_endpoint(client: Any, name: str) -> str:
    if found(f"looking for the endpoint {name}", lambda: client.online_endpoints.get(name)) is None:
        return f"there is no endpoint {name}, as before"
    with plain_errors(f"deleting the endpoint {name}"):
        client.online_endpoints.begin_delete(name=name).result()
    return f"the endpoint {name} of this call is removed, with its deployment"


def deployment_step(
    client: Any, wanted: OnlineDeployment, old: list[Any], *, undo: bool, new_endpoint: bool = False
) -> Step:
    """Make the deployment beside the others, change its number of machines, or keep it.

    Args:
        old: deployments of the endpoint.
        undo: delete it where it, or what follows, fails.
        new_endpoint: that goes with all that is in it.

    Raises:
        ConfigError: if there are too many deployments.
        AzureError: if it is being changed.
    """
    there = next((deployment for deployment in old if deployment.name == wanted.name), None)
    notes = (_cost(wanted), *_standing(wanted, old))
    settings = wanted.settings
    if there is not None:
        _refuse_busy(f"the deployment {wanted.name}", there)
        count = there.instance_count
        if state_of(there) == READY and (wanted.scaled or count == settings.instances):
            return Step("deployment", wanted.name, "keep", notes=notes)
        if state_of(there) == READY:
            change = (f"machines: {count} -> {settings.instances}",)
            return Step("deployment", wanted.name, "update", change, _resize(client, wanted), notes)
    elif len(old) >= MOST_DEPLOYMENTS:
        raise ConfigError(
            f"the endpoint {wanted.endpoint} has {len(old)} deployments, as many as Azure allows",
            where="endpoint",
            remedy="Delete some: az ml online-deployment delete.",
        )
    differences: tuple[str, ...] = (
        f"model {wanted.model.address}",
        f"environment {wanted.environment.address}",
        f"{settings.instances} x {settings.instance_type}, {settings.concurrency} requests at once on each",
        f"a request may take {settings.request_seconds} s",
    )
    if settings.collection:
        address = collected_address(wanted.endpoint, wanted.name)
        differences += (f"collects statistics of {100 * settings.collection.rate:g} % of the scans, in {address}",)
    if there is not None:
        differences = (f"it is {state_of(there)}: made again", *differences)
    notes = (*notes, "the first time takes 10 to 20 minutes: Azure builds the image")
    take_back = None
    if undo and not new_endpoint:

        def take_back() -> str:
            return delete_deployment(client, wanted.endpoint, wanted.name)

    action: Any = "create" if there is None else "replace"
    return Step("deployment", wanted.name, action, differences, _create(client, wanted), notes, undo=take_back)


def _create(client: Any, wanted: OnlineDeployment) -> Callable[[], None]:
    def create() -> None:
        with (
            with_last_words(client, wanted.endpoint, wanted.name),
            plain_errors(f"making the deployment {wanted.name}"),
            quiet_unless_seen(),
        ):
            client.online_deployments.begin_create_or_update(_entity(wanted)).result()

    return create


def _resize(client: Any, wanted: OnlineDeployment) -> Callable[[], None]:
    def resize() -> None:
        with plain_errors(f"changing the machines of {wanted.name}"), quiet_unless_seen():
            deployment = client.online_deployments.get(wanted.name, wanted.endpoint)  # as it is now
            deployment.instance_count = wanted.settings.instances
            for collection in getattr(deployment.data_collector, "collections", {}).values():
                collection.data = None  # the SDK cannot send what it has read here
            client.online_deployments.begin_create_or_update(deployment).result()

    return resize


def _entity(wanted: OnlineDeployment) -> Any:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    settings = wanted.settings
    return entities.ManagedOnlineDeployment(
        name=wanted.name,
        endpoint_name=wanted.endpoint,
        description=wanted.description,
        model=wanted.model.address,
        environment=wanted.environment.address,
        code_configuration=entities.CodeConfiguration(code=str(wanted.code), scoring_script=SCORE_DRIVER),
        instance_type=settings.instance_type,
        instance_count=settings.instances,
        tags={**TAG, "code.sha256": wanted.code_sha256[:12]},
        environment_variables=settings.variables,
        data_collector=settings.collection.entity() if settings.collection else None,
        egress_public_network_access=settings.egress,
        request_settings=entities.OnlineRequestSettings(
            request_timeout_ms=1000 * settings.request_seconds,
            max_concurrent_requests_per_instance=settings.concurrency,
        ),
        liveness_probe=_probe(entities, settings.liveness),
        readiness_probe=_probe(entities, settings.readiness),
    )


def _probe(entities: Any, values: Mapping[str, int]) -> Any:
    if not values:
        return None
    named = {key: value for key, value in values.items() if key != "failures"}
    return entities.ProbeSettings(failure_threshold=values.get("failures"), success_threshold=1, **named)


def _cost(wanted: OnlineDeployment) -> str:
    count, size = wanted.settings.instances, wanted.settings.instance_type
    return (
        f"cost: {count} x {size}, for every hour that the deployment stands, asked or not; the quota has to have "
        f"{math.ceil(1.2 * count)}, since Azure keeps a fifth for its own upgrades"
    )


def _standing(wanted: OnlineDeployment, old: list[Any]) -> tuple[str, ...]:
    others = [f"{one.name} ({one.instance_count} x {one.instance_type})" for one in old if one.name != wanted.name]
    if not others:
        return ()
    return (f"paid for beside it, until deleted (delete_old=true): {', '.join(others)}",)


def delete_deployment(client: Any, endpoint: str, name: str) -> str:
    """Delete a deployment, if it is there.

    Returns:
        What was done, for people.

    Raises:
        AzureError: if Azure refuses.
    """
    there = found(f"looking for the deployment {name}", lambda: client.online_deployments.get(name, endpoint))
    if there is None:
        return f"there is no deployment {name}, as before"
    with plain_errors(f"deleting the deployment {name}"):
        client.online_deployments.begin_delete(name=name, endpoint_name=endpoint).result()
    return f"the deployment {name} is removed"
