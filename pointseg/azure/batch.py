"""Batch endpoints: a deployment for each content, beside the older ones, and the default moved to it when it is ready."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pointseg.azure.environments import JobEnvironment
from pointseg.azure.errors import AzureError, plain_errors
from pointseg.azure.found import found
from pointseg.azure.models import ModelAsset
from pointseg.azure.names import check_matches, check_whole
from pointseg.azure.ours import TAG, is_ours, refuse_others
from pointseg.azure.plan import Step
from pointseg.azure.quiet import quiet_unless_seen
from pointseg.azure.states import READY, state_of
from pointseg.azure.unasked import is_asked
from pointseg.compute.scoring_code import BATCH_DRIVER
from pointseg.errors import ConfigError
from pointseg.extras import needed
from pointseg.prediction.inputs import WRITES

__all__ = ["BatchDeployment", "BatchSettings", "batch_steps", "check_endpoint", "default_deployment"]

OUTPUT_ACTIONS = ("summary_only", "append_row")
MOST = 2**31 - 1


def check_endpoint(key: str, name: object) -> str:
    """The name of an endpoint, if Azure takes it.

    Raises:
        ConfigError: naming the key.
    """
    remedy = "3 to 32 lower-case letters, digits and -, a letter first and no - at the end."
    return check_matches(key, name, r"[a-z][a-z0-9-]{1,30}[a-z0-9]", "name of an endpoint", remedy)


@dataclass(frozen=True)
class BatchSettings:
    """How a batch deployment works.

    Args:
        cluster: the compute cluster that its jobs run on.
        instances: machines for a job.
        concurrency: processes on each, which share its cores.
        mini_batch_size: files that a process is given at once.
        retries: of a mini-batch that failed or took too long.
        seconds: that a mini-batch may take.
        error_threshold: files that may fail before the job is ended; -1: any number.
        output_action: summary_only, or append_row: the lines of `run` in output_file as well.
        output_file: a name such as predictions.csv.
        write, probabilities, strict, remission_scale: as those keys of `pointseg.predict`.

    Raises:
        ConfigError: naming the key, for whatever Azure would refuse only later, or take and not do.

    Example:
        >>> BatchSettings(cluster="cpu-cluster", instances=4, concurrency=2)
    """

    cluster: str
    instances: int = 1
    concurrency: int = 1
    mini_batch_size: int = 16
    retries: int = 3
    seconds: int = 1800
    error_threshold: int = -1
    output_action: str = "summary_only"
    output_file: str = "predictions.csv"
    write: str = "auto"
    probabilities: bool = False
    strict: bool = False
    remission_scale: float | None = None

    def __post_init__(self) -> None:
        pattern = r"[A-Za-z][A-Za-z0-9-]{1,31}"
        remedy = "2 to 32 letters, digits and -, a letter first."
        check_matches("batch.cluster", self.cluster, pattern, "name of a cluster", remedy)
        for key, least, most in (
            ("instances", 1, 1000),
            ("concurrency", 1, 256),
            ("mini_batch_size", 1, 100_000),
            ("retries", 0, 100),
            ("seconds", 1, 259_200),
            ("error_threshold", -1, MOST),
        ):
            check_whole(f"batch.{key}", getattr(self, key), least, most)
        for key, value, known in (
            ("output_action", self.output_action, OUTPUT_ACTIONS),
            ("write", self.write, WRITES),
        ):
            if value not in known:
                raise ConfigError(f"there is no {value!r}", where=f"batch.{key}", remedy=f"Use {', '.join(known)}.")
        file = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
        check_matches("batch.output_file", self.output_file, file, "name of a file", "Such as predictions.csv.")
        scale = self.remission_scale
        if scale is not None and not (isinstance(scale, int | float) and not isinstance(scale, bool) and scale > 0):
            raise ConfigError(f"{scale!r} divides nothing", where="batch.remission_scale", remedy="Give 255 or so.")

    @property
    def variables(self) -> dict[str, str]:
        """What `serving.batch_score` reads of the environment."""
        values = {"POINTSEG_WRITE": self.write, "WORKER_COUNT": str(self.concurrency)}
        values |= {"POINTSEG_PROBABILITIES": "true"} if self.probabilities else {}
        values |= {"POINTSEG_STRICT": "true"} if self.strict else {}
        values |= {"POINTSEG_REMISSION_SCALE": str(self.remission_scale)} if self.remission_scale else {}
        return values


@dataclass(frozen=True)
class BatchDeployment:
    """One content of a batch endpoint.

    Attributes:
        code: the folder of `take_scoring_code`, and
        code_sha256: what it gave.
    """

    endpoint: str
    model: ModelAsset
    environment: JobEnvironment
    code: Path
    code_sha256: str
    settings: BatchSettings
    description: str | None = None

    @property
    def name(self) -> str:
        """By content: the same call again finds it."""
        content = [self.model.address, self.environment.address, self.code_sha256, asdict(self.settings)]
        return f"v-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]}"


def batch_steps(client: Any, wanted: BatchDeployment, *, delete_old: bool = False) -> list[Step]:
    """What is to be done so that the endpoint works with this deployment; nothing is sent but questions.

    Args:
        delete_old: delete the endpoint's other deployments at the end.

    Raises:
        ConfigError: if there is no such cluster, or it is too small, or the endpoint is somebody else's.
        AzureError: if Azure cannot be asked.
    """
    cost = _cost(client, wanted.settings)
    name = wanted.endpoint
    endpoint = found(f"looking for the endpoint {name}", lambda: client.batch_endpoints.get(name))
    old: list[Any] = []
    if endpoint is not None:
        refuse_others(f"endpoint={name}", endpoint.tags)
        with plain_errors(f"looking at the deployments of {name}"):
            old = list(client.batch_deployments.list(name))
    default = default_deployment(endpoint)
    steps = [_endpoint_step(client, wanted, endpoint), _deployment_step(client, wanted, old, default, cost)]
    if default == wanted.name:
        steps.append(Step("default deployment", wanted.name, "keep"))
    else:
        change = (f"{default} -> {wanted.name}" if default else f"jobs of {name} go to it",)
        act = "update" if default else "create"
        steps.append(Step("default deployment", wanted.name, act, change, lambda: _set_default(client, wanted)))  # type: ignore[arg-type]
    if delete_old:
        others = [one.name for one in old if one.name != wanted.name and is_ours(one.tags)]
        steps += [Step("batch deployment", other, "delete", (), _delete(client, name, other)) for other in others]
    return steps


def _cost(client: Any, settings: BatchSettings) -> str:
    """What the cluster costs, for people; the cluster is looked for here."""
    name = settings.cluster
    if not is_asked(client):
        return f"the cluster {name} has to be there: scripts/provision.py makes it; its machines are paid for while jobs run"
    cluster = found(f"looking for the cluster {name}", lambda: client.compute.get(name))
    if cluster is None:
        raise ConfigError(
            "the workspace has no such cluster",
            where=f"batch.cluster={name}",
            remedy="scripts/provision.py makes it.",
        )
    most, least = getattr(cluster, "max_instances", None), getattr(cluster, "min_instances", None)
    if most is not None and settings.instances > most:
        raise ConfigError(
            f"the cluster {name} has {most} machines at most",
            where=f"batch.instances={settings.instances}",
            remedy="Give fewer, or a larger cluster.",
        )
    idle = "the cluster keeps none while idle" if not least else f"the cluster keeps {least} on, also while idle"
    return f"an endpoint costs nothing by itself: machines of {name} are paid for while jobs run, and {idle}"


def default_deployment(endpoint: Any) -> str | None:
    """The name of an endpoint's default deployment; SDK versions give a mapping or an object."""
    defaults = getattr(endpoint, "defaults", None)
    if isinstance(defaults, dict):
        return defaults.get("deployment_name")
    return getattr(defaults, "deployment_name", None)


def _endpoint_step(client: Any, wanted: BatchDeployment, there: Any) -> Step:
    if there is not None:
        return Step("batch endpoint", wanted.endpoint, "keep")

    def create() -> None:
        entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
        endpoint = entities.BatchEndpoint(name=wanted.endpoint, tags=dict(TAG))
        with plain_errors(f"making the endpoint {wanted.endpoint}"):
            client.batch_endpoints.begin_create_or_update(endpoint).result()

    notes = ("callers sign in (Microsoft Entra); batch endpoints have no keys",)
    return Step("batch endpoint", wanted.endpoint, "create", (), create, notes)


def _deployment_step(client: Any, wanted: BatchDeployment, old: list[Any], default: str | None, cost: str) -> Step:
    there = next((deployment for deployment in old if deployment.name == wanted.name), None)
    if there is not None and state_of(there) == READY:
        return Step("batch deployment", wanted.name, "keep", notes=(cost,))
    settings = wanted.settings
    differences: tuple[str, ...] = (
        f"model {wanted.model.address}",
        f"environment {wanted.environment.address}",
        f"{settings.instances} x {settings.concurrency} processes on {settings.cluster}",
        f"{settings.mini_batch_size} files at once, {settings.retries} retries, {settings.seconds} s",
    )
    if there is not None:
        differences = (f"it is {state_of(there)}: made again", *differences)

    def create() -> None:
        try:
            with plain_errors(f"making the deployment {wanted.name}"), quiet_unless_seen():
                client.batch_deployments.begin_create_or_update(_entity(wanted)).result()
        except AzureError as error:
            kept = (
                f"the default deployment is {default}, as before" if default else "there is no default deployment yet"
            )
            raise AzureError(f"{error.what}; {kept}", where=error.where, remedy=error.remedy) from error

    action: Any = "create" if there is None else "replace"
    return Step("batch deployment", wanted.name, action, differences, create, (cost,))


def _entity(wanted: BatchDeployment) -> Any:
    entities = needed("azure.ai.ml.entities", "azure", "Azure ML")
    settings = wanted.settings
    return entities.ModelBatchDeployment(
        name=wanted.name,
        endpoint_name=wanted.endpoint,
        description=wanted.description,
        model=wanted.model.address,
        environment=wanted.environment.address,
        code_configuration=entities.CodeConfiguration(code=str(wanted.code), scoring_script=BATCH_DRIVER),
        compute=settings.cluster,
        tags={**TAG, "code.sha256": wanted.code_sha256[:12]},
        settings=entities.ModelBatchDeploymentSettings(
            instance_count=settings.instances,
            max_concurrency_per_instance=settings.concurrency,
            mini_batch_size=settings.mini_batch_size,
            retry_settings=entities.BatchRetrySettings(max_retries=settings.retries, timeout=settings.seconds),
            error_threshold=settings.error_threshold,
            output_action=settings.output_action,
            output_file_name=settings.output_file if settings.output_action == "append_row" else None,
            environment_variables=settings.variables,
            logging_level="info",
        ),
    )


def _set_default(client: Any, wanted: BatchDeployment) -> None:
    with plain_errors(f"moving the default of {wanted.endpoint}"):
        endpoint = client.batch_endpoints.get(wanted.endpoint)  # as it is now: others may have changed it
        endpoint.defaults = {"deployment_name": wanted.name}
        client.batch_endpoints.begin_create_or_update(endpoint).result()


def _delete(client: Any, endpoint: str, name: str) -> Callable[[], None]:
    def delete() -> None:
        with plain_errors(f"deleting the deployment {name}"):
            client.batch_deployments.begin_delete(name=name, endpoint_name=endpoint).result()

    return delete
