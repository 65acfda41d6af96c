"""What `provision` can be told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pointseg.azure.job_compute import BASE_IMAGE
from pointseg.core.config import MAPPING, READS, TEXT, key, section
from pointseg.workflows.settings.shared import AzureConfig

__all__ = ["ClusterConfig", "DatastoreConfig", "EnvironmentConfig", "ProvisionConfig", "WorkspaceConfig"]


@dataclass
class WorkspaceConfig:
    """Whether the workspace is made."""

    create: bool = key(False, "make it if it is not there")
    location: str | None = key(None, "its region, such as westeurope", TEXT)


@dataclass
class ClusterConfig:
    """A cluster of machines that Azure ML starts and stops itself. Of other kinds: kubernetes (resource_id, namespace,
    identity), attached (only looked for)."""

    kind: str = key(
        "amlcompute",
        "kubernetes: with resource_id, namespace, identity; attached: only looked for",
        choices=("amlcompute", "kubernetes", "attached"),
    )
    vm_size: str | None = key(None, "a size of Azure's machines", TEXT)
    min_nodes: int = key(0, "machines that are always on, and charged for")
    max_nodes: int = key(1, "machines at most")
    idle_seconds: int = key(600, "seconds after which an idle machine is given back")
    tier: str = key(
        "dedicated",
        "low_priority: spare machines, which may be taken away",
        choices=("dedicated", "low_priority"),
    )
    identity: Any = key("none", "none, system, or a list of ids of user-assigned identities")
    subnet: str | None = key(None, "the id of one, for machines in a network of your own", TEXT)
    location: str | None = key(None, "region; null: that of the workspace", TEXT)


@dataclass
class DatastoreConfig:
    """A blob container under a name. By identity: no key is kept."""

    name: str | None = key(None, "name in the workspace; null: none is made", TEXT)
    account: str | None = key(None, "account of the storage", TEXT)
    container: str | None = key(None, "container of blobs in it", TEXT)


@dataclass
class EnvironmentConfig:
    """An environment of jobs: packages are added at the versions of environments/constraints.txt, as jobs do."""

    file: str = key("environments/conda.yml", "a conda file", READS)
    image: str = key(BASE_IMAGE, "the container image that it is built on", TEXT)
    torch: str | None = key(
        "cpu", "build of torch, as compute.torch: cpu, or one of CUDA such as cu126; null: as PyPI has it", TEXT
    )


CLUSTERS = {  # of compute=aml_gpu, aml_multinode and aml_cpu
    "gpu-cluster": asdict(ClusterConfig(vm_size="Standard_NC24ads_A100_v4", max_nodes=2)),
    "multi-gpu-cluster": asdict(ClusterConfig(vm_size="Standard_NC96ads_A100_v4", max_nodes=2)),
    "cpu-cluster": asdict(ClusterConfig(vm_size="Standard_D8s_v5", max_nodes=4)),
}
ENVIRONMENTS = {
    "pointseg-gpu": asdict(EnvironmentConfig(torch="cu126")),
    "pointseg-cpu": asdict(EnvironmentConfig()),
}


@dataclass
class ProvisionConfig:
    """Make, or change, what jobs in Azure ML need: clusters, a datastore, environments.

    Example:
        >>> ProvisionConfig(clusters={"cpu-cluster": ClusterConfig(vm_size="Standard_D8s_v5")}, plan=True)
    """

    plan: bool = key(False, "say what would be done, and change nothing")
    azure: AzureConfig = section(AzureConfig, "the workspace")
    workspace: WorkspaceConfig = section(WorkspaceConfig, "whether it is made")
    clusters: dict[str, Any] | None = key(
        CLUSTERS,
        "clusters by name: gpu-cluster is that of compute=aml_gpu, multi-gpu-cluster of aml_multinode, cpu-cluster of "
        "aml_cpu; add your own with clusters.NAME.vm_size=SIZE; clusters.NAME=null leaves one out",
        MAPPING,
        entry=ClusterConfig,
    )
    datastore: DatastoreConfig | None = section(DatastoreConfig, "a blob container under a name")
    environments: dict[str, Any] | None = key(
        ENVIRONMENTS,
        "environments by name, their versions by content; with compute.environment=azureml:NAME:VERSION jobs share one "
        "built image",
        MAPPING,
        entry=EnvironmentConfig,
    )
