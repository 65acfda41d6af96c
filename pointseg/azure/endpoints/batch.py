"""Batch endpoints: a deployment for each content, beside the older ones; the default moves to it when it is ready."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from pointseg.azure.empty_workspace import is_connected
from pointseg.azure.endpoints.deployment import (
    BATCH_DRIVER,
    READY,
    Deployment,
    default_deployment,
    endpoint_and_deployments,
    provisioning_state,
    set_default,
)
from pointseg.azure.errors import AzureError, completed, completing, get_or_none, sdk_entities
from pointseg.azure.names import check_cluster_name, check_matches, check_whole
from pointseg.azure.steps import Step
from pointseg.azure.tags import MADE_BY_TAG, made_by_pointseg, refuse_foreign
from pointseg.core.errors import ConfigError

__all__ = ["BatchDeployment", "BatchSettings", "batch_steps"]

LIMITS = {
    "instances": (1, 1000),
    "concurrency": (1, 256),
    "mini_batch_size": (1, 100_000),
    "retries": (0, 100),
    "seconds": (1, 259_200),
    "error_threshold": (-1, 2**31 - 1),
}


@dataclass(frozen=True)
class BatchSettings:
    """How a batch deployment works, by the keys of `batch`; `BatchConfig` declares what each means.

    Raises:
        ConfigError: naming the key, for what Azure would refuse only later, or accept and ignore.
    """

    cluster: str
    instances: int
    concurrency: int
    mini_batch_size: int
    retries: int
    seconds: int
    error_threshold: int
    output_action: str
    output_file: str
    write: str
    probabilities: bool
    strict: bool
    remission_scale: float | None

    def __post_init__(self) -> None:
        check_cluster_name("batch.cluster", self.cluster)
        for key, limits in LIMITS.items():
            check_whole(f"batch.{key}", getattr(self, key), *limits)
        file = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
        check_matches("batch.output_file", self.output_file, file, "file name", "Such as predictions.csv.")
        scale = self.remission_scale
        if scale is not None and not (isinstance(scale, int | float) and not isinstance(scale, bool) and scale > 0):
            raise ConfigError(
                f"{scale!r} is not a positive number", where="batch.remission_scale", remedy="Such as 255."
            )

    @property
    def content(self) -> dict[str, Any]:
        """The settings that a new deployment is made for when they change: all of them."""
        return asdict(self)

    @property
    def variables(self) -> dict[str, str]:
        """The environment that `serving.batch_score` reads."""
        values = {"POINTSEG_WRITE": self.write, "WORKER_COUNT": str(self.concurrency)}
        values |= {"POINTSEG_PROBABILITIES": "true"} if self.probabilities else {}
        values |= {"POINTSEG_STRICT": "true"} if self.strict else {}
        values |= {"POINTSEG_REMISSION_SCALE": str(self.remission_scale)} if self.remission_scale else {}
        return values


@dataclass(frozen=True)
class BatchDeployment(Deployment):
    """One version of what a batch endpoint runs."""

    settings: BatchSettings

    def entity(self) -> Any:
        """The SDK's `ModelBatchDeployment`."""
        sdk, settings = sdk_entities(), self.settings
        return sdk.ModelBatchDeployment(
            **self.fields(BATCH_DRIVER),
            compute=settings.cluster,
            settings=sdk.ModelBatchDeploymentSettings(
                instance_count=settings.instances,
                max_concurrency_per_instance=settings.concurrency,
                mini_batch_size=settings.mini_batch_size,
                retry_settings=sdk.BatchRetrySettings(max_retries=settings.retries, timeout=settings.seconds),
                error_threshold=settings.error_threshold,
                output_action=settings.output_action,
                output_file_name=settings.output_file if settings.output_action == "append_row" else None,
                environment_variables=settings.variables,
                logging_level="info",
            ),
        )


def batch_steps(client: Any, wanted: BatchDeployment, *, delete_old: bool = False) -> list[Step]:
    """What to do so that the endpoint works with this deployment; nothing is sent but questions.

    Args:
        delete_old: delete the endpoint's other deployments at the end.

    Raises:
        ConfigError: if the cluster does not exist or is too small, or the endpoint is somebody else's.
        AzureError: if Azure cannot be asked.
    """
    cost, name = _cost(client, wanted.settings), wanted.endpoint
    endpoint, old = endpoint_and_deployments(client.batch_endpoints, client.batch_deployments, name)
    if endpoint is not None:
        refuse_foreign(f"endpoint={name}", endpoint.tags)
    default = default_deployment(endpoint)
    steps = [_endpoint_step(client, name, endpoint), _deployment_step(client, wanted, old, default, cost)]
    if default == wanted.name:
        steps.append(Step("default deployment", wanted.name, "keep"))
    else:
        change = (f"{default} -> {wanted.name}" if default else f"jobs of {name} go to it",)
        move = partial(set_default, client, name, wanted.name)
        steps.append(Step("default deployment", wanted.name, "update" if default else "create", change, move))
    for other in old if delete_old else ():
        if other.name != wanted.name and made_by_pointseg(other.tags):
            delete = partial(client.batch_deployments.begin_delete, name=other.name, endpoint_name=name)
            do = completing(f"deleting the deployment {other.name}", delete)
            steps.append(Step("batch deployment", other.name, "delete", (), do))
    return steps


def _cost(client: Any, settings: BatchSettings) -> str:
    """What the cluster costs, for people; checks that it exists."""
    name = settings.cluster
    if not is_connected(client):
        return f"the cluster {name} must exist: scripts/provision.py makes it; its machines are paid for while jobs run"
    cluster = get_or_none(f"the cluster {name}", lambda: client.compute.get(name))
    if cluster is None:
        remedy = "scripts/provision.py makes it."
        raise ConfigError("the workspace has no such cluster", where=f"batch.cluster={name}", remedy=remedy)
    most, least = getattr(cluster, "max_instances", None), getattr(cluster, "min_instances", None)
    if most is not None and settings.instances > most:
        text, where = f"the cluster {name} has at most {most} machines", f"batch.instances={settings.instances}"
        raise ConfigError(text, where=where, remedy="Give fewer, or a larger cluster.")
    idle = "the cluster keeps none while idle" if not least else f"the cluster keeps {least} on, even while idle"
    return f"an endpoint costs nothing by itself: machines of {name} are paid for while jobs run, and {idle}"


def _endpoint_step(client: Any, name: str, existing: Any) -> Step:
    if existing is not None:
        return Step("batch endpoint", name, "keep")

    def create() -> None:
        endpoint = sdk_entities().BatchEndpoint(name=name, tags=dict(MADE_BY_TAG))
        completed(f"making the endpoint {name}", lambda: client.batch_endpoints.begin_create_or_update(endpoint))

    notes = ("callers sign in (Microsoft Entra); batch endpoints have no keys",)
    return Step("batch endpoint", name, "create", (), create, notes)


def _deployment_step(client: Any, wanted: BatchDeployment, old: list[Any], default: str | None, cost: str) -> Step:
    existing = next((deployment for deployment in old if deployment.name == wanted.name), None)
    if existing is not None and provisioning_state(existing) == READY:
        return Step("batch deployment", wanted.name, "keep", notes=(cost,))
    settings = wanted.settings
    differences: tuple[str, ...] = (
        f"model {wanted.model.address}",
        f"environment {wanted.environment.address}",
        f"{settings.instances} x {settings.concurrency} processes on {settings.cluster}",
        f"{settings.mini_batch_size} files at once, {settings.retries} retries, {settings.seconds} s",
    )
    if existing is not None:
        differences = (f"it is {provisioning_state(existing)}: made again", *differences)

    def create() -> None:
        what = f"making the deployment {wanted.name}"
        try:
            completed(what, lambda: client.batch_deployments.begin_create_or_update(wanted.entity()))
        except AzureError as error:
            kept = (
                f"the default deployment is {default}, as before" if default else "there is no default deployment yet"
            )
            raise AzureError(f"{error.what}; {kept}", where=error.where, remedy=error.remedy) from error

    return Step("batch deployment", wanted.name, "replace" if existing else "create", differences, create, (cost,))
