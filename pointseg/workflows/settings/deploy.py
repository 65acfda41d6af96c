"""What `deploy` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from pointseg.azure.job_compute import BASE_IMAGE
from pointseg.core.config import MAPPING, READS, TEXT, WRITES, key, section
from pointseg.workflows.settings.shared import ACCELERATORS, AzureConfig, TrackingConfig

__all__ = [
    "TARGETS",
    "AciConfig",
    "AutoscaleConfig",
    "BatchConfig",
    "DeployConfig",
    "LocalConfig",
    "ManagedConfig",
    "ProbeConfig",
]

TARGETS = ("local", "managed", "aci", "batch")
SWITCH = ("enabled", "disabled")


@dataclass
class ProbeConfig:
    """How Azure asks a machine or container whether it works."""

    initial_delay: int = key(60, "seconds before the first question")
    period: int = key(30, "seconds between two questions")
    timeout: int = key(10, "seconds that an answer may take")
    failures: int = key(10, "answers missing in a row, after which it counts as failed")


@dataclass
class BatchConfig:
    """A batch endpoint, which labels folders of scans."""

    cluster: str = key(
        "cpu-cluster", "cluster of the workspace that runs its jobs; scripts/provision.py makes one", TEXT
    )
    instances: int = key(1, "machines for a job")
    concurrency: int = key(1, "processes on each, which share its cores")
    mini_batch_size: int = key(16, "files given to a process at once")
    retries: int = key(3, "retries of a mini-batch that failed or took too long; finished files are not labelled again")
    seconds: int = key(1800, "seconds for a mini-batch")
    error_threshold: int = key(-1, "files that may fail before the job is ended; -1: any number")
    output_action: str = key(
        "summary_only",
        "append_row: a line for each file in output_file as well",
        choices=("summary_only", "append_row"),
    )
    output_file: str = key("predictions.csv", "the name of that file", TEXT)
    write: str = key("auto", "as write of pointseg.predict", choices=("auto", "label", "own"))
    probabilities: bool = key(False, "also NAME.probs.npy, float16 (points, classes)")
    strict: bool = key(False, "refuse doubtful clouds instead of a warning")
    remission_scale: float | None = key(
        None, "what intensity is divided by; null: 255 or 65535 where it goes beyond 1, except in .bin and .np*"
    )
    environment: str = key(
        "environments/batch.txt", "file with the packages of the environment, NAME==VERSION a line", READS
    )
    image: str = key(BASE_IMAGE, "what the environment is built on", TEXT)


@dataclass
class LocalConfig:
    """A service of this machine, in the background."""

    action: str = key("start", "status: of all services here, or of endpoint=NAME", choices=("start", "status", "stop"))
    host: str = key(
        "127.0.0.1", "beyond this machine only with a key, from POINTSEG_API_KEY, POINTSEG_KEY or key_file", TEXT
    )
    port: int = key(8000, "0: a free one, which is printed")
    threads: int | None = key(None, "CPU cores for prediction in all; null: all there are")
    workers: int = key(1, "clouds that are predicted at the same time")
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
    strict: bool = key(False, "refuse doubtful clouds instead of a note")
    time_limit: float = key(60.0, "seconds from a body's last byte to its answer, else 504")
    drain_seconds: float = key(30.0, "seconds to finish what is in flight when it is stopped or exchanged")
    key_file: str | None = key(
        None, "a file with the key that callers give, else POINTSEG_API_KEY or POINTSEG_KEY", READS
    )
    wait_seconds: float = key(120.0, "seconds until it serves, and for the scan that it is tried with")
    folder: str = key(".pointseg/services", "what is known of services, their logs, and a copy of their models", WRITES)


@dataclass
class AutoscaleConfig:
    """When machines of a managed endpoint come and go."""

    max: int | None = key(None, "machines at most; null: their number stays")
    min: int = key(1, "machines at least")
    cpu_percent: int = key(70, "one more above")
    low_percent: int = key(30, "one less below")
    minutes: int = key(5, "over which the load is averaged")
    cooldown: int = key(10, "minutes between two changes")


@dataclass
class ManagedConfig:
    """A managed online endpoint, which answers requests."""

    instance_type: str = key("Standard_DS3_v2", "a size of Azure's machines", TEXT)
    instances: int = key(1, "machines; with autoscale.max, those at the start")
    request_seconds: int = key(
        60, "seconds for a request in all, 180 at most; score.py's own limits end a second before"
    )
    concurrency: int = key(4, "requests that a machine takes at once; they wait in order for its cores")
    workers: int = key(1, "processes on each machine, with the model each")
    auth_mode: str = key("key", "how callers sign in", choices=("key", "aad"))
    public_network: str = key("enabled", "whether the endpoint is reached from everywhere", choices=SWITCH)
    egress: str = key(
        "enabled", "whether the deployment fetches model and image over the public network", choices=SWITCH
    )
    traffic: list[int] = key(
        [10, 50, 100],
        "percent for the new deployment, one after another; the first deployment gets 100 at once",
    )
    checks: int = key(
        10, "requests at each step of the traffic, by the traffic rules and by the name of the deployment"
    )
    step_seconds: float = key(30, "seconds over which the checks of one step are spread")
    smoke_scan: str | None = key(
        None, "a file of a point cloud for all these requests; null: a synthetic street of 112,692 points", READS
    )
    keep_failed: bool = key(False, "leave a deployment that failed standing without traffic, to look at")
    collect: bool = key(
        False, "statistics of the scans by Azure's data collector, for report drift=; docs/monitoring.md"
    )
    collect_rate: float = key(1.0, "the share of the scans, more than 0 and 1 at most")
    collect_rolling: str = key(
        "hour", "how long one folder of the storage is written to", choices=("minute", "hour", "day")
    )
    liveness: ProbeConfig = section(ProbeConfig, "a machine that fails is started anew")
    readiness: ProbeConfig = section(
        partial(ProbeConfig, initial_delay=20, period=10, failures=60), "requests come once it is ready"
    )
    autoscale: AutoscaleConfig = section(AutoscaleConfig, "rules by which machines come and go")
    environment: str = key(
        "environments/serving.txt", "file with the packages of the environment, NAME==VERSION a line", READS
    )
    image: str = key(BASE_IMAGE, "what the environment is built on", TEXT)


@dataclass
class AciConfig:
    """A container group; the key for its callers is taken from POINTSEG_KEY."""

    image: str | None = key(
        None,
        "with a model in it, such as REGISTRY.azurecr.io/NAME:TAG; null: built from the checkpoint by az acr build",
        TEXT,
    )
    registry: str | None = key(None, "the name of the container registry in which it is built", TEXT)
    repository: str = key("pointseg-model", "the name of the image there", TEXT)
    registry_identity: str | None = key(
        None,
        "id of a user-assigned identity that may pull; else POINTSEG_REGISTRY_USERNAME and _PASSWORD",
        TEXT,
    )
    location: str | None = key(None, "region; null: that of the workspace", TEXT)
    dns: str | None = key(None, "first part of its name LABEL.REGION.azurecontainer.io; null: as endpoint", TEXT)
    cpu: float = key(2, "cores of the scoring container")
    memory: float = key(4, "GB of the scoring container")
    tls: str = key("caddy", "caddy: a second container, which has the public ports", choices=("caddy", "none"))
    domain: str | None = key(None, "another name that leads to the group; null: that of Azure", TEXT)
    certificate: str | None = key(None, "PEM, for the domain; null: Caddy fetches one", READS)
    private_key: str | None = key(None, "PEM, without a passphrase", READS)
    tls_image: str = key("docker.io/library/caddy:2.10-alpine", "image of that second container", TEXT)
    subnet: str | None = key(None, "the id of one: no public address, and aci.tls=none", TEXT)
    public_http: bool = key(False, "aci.tls=none on a public address, where the key can be read on its way")
    environment: dict[str, str] = key({}, "further variables: aci.environment.POINTSEG_TIME_LIMIT=120", MAPPING)
    liveness: ProbeConfig = section(partial(ProbeConfig, failures=5), "a container that fails is started anew")
    readiness: ProbeConfig = section(
        partial(ProbeConfig, initial_delay=10, period=10, failures=30), "requests come once it is ready"
    )
    test: bool = key(True, "try it with a scan; false where the group is not reached from here")
    wait_seconds: float = key(
        900.0, "seconds until it answers with the labels of a scan; name and certificate take minutes"
    )
    pause_seconds: float = key(5.0, "seconds between two questions")


@dataclass
class DeployConfig:
    """Put a trained model to work: in the background here, on a managed or batch endpoint, or in a container.

    Example:
        >>> DeployConfig(target="managed", checkpoint="models:/street@champion", endpoint="street", plan=True)
    """

    tracking: TrackingConfig = section(TrackingConfig, "where models:/NAME@ALIAS is looked up")
    target: str | None = key(
        None,
        "batch: for folders of scans; managed: an online endpoint, which answers requests; local: in the background "
        "here; aci: a container",
        choices=TARGETS,
    )
    checkpoint: str | None = key(
        None,
        "a run folder, a bundle, a .ckpt, models:/NAME@ALIAS, azureml:NAME:VERSION of the workspace, or a folder of "
        "register_model",
        READS,
    )
    endpoint: str | None = key(
        None,
        "made if it is not there: small letters, digits and -; managed and batch: 3 to 32, of nobody else in the "
        'region; local: null is "local"',
        TEXT,
    )
    name: str = key("pointseg", "name of the model in the workspace, if the checkpoint is uploaded", TEXT)
    description: str | None = key(None, "description of the deployment, for people", TEXT)
    plan: bool = key(False, "say what would be done, and change nothing")
    delete_old: bool = key(
        False, "delete the endpoint's other deployments, once the new one is the default or has all traffic"
    )
    batch: BatchConfig = section(BatchConfig, "settings of target=batch: an endpoint that labels folders of scans")
    local: LocalConfig = section(LocalConfig, "target=local: a service of this machine, called after endpoint=NAME")
    managed: ManagedConfig = section(ManagedConfig, "settings of target=managed: an online endpoint")
    aci: AciConfig = section(AciConfig, "target=aci: a container group called after endpoint=NAME")
    azure: AzureConfig = section(AzureConfig, "the workspace")
