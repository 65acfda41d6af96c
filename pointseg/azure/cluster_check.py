"""Whether a cluster can give a job's processes what they need, asked before anything is sent."""

from __future__ import annotations

from typing import Any

from pointseg.azure.errors import get_or_none
from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.machine_sizes import gpus_of
from pointseg.core.errors import ConfigError

__all__ = ["check_cluster", "check_size"]


def check_size(size: str, where: str, processes: int, *, gpu: bool) -> None:
    """Refuse more processes than a machine has GPUs, and a GPU job on a machine without; what is not known is let pass.

    Args:
        size: of Azure's machines.
        where: the key that says it.
        processes: on each machine.
        gpu: whether the job needs a GPU.

    Raises:
        ConfigError: naming the key.
    """
    gpus = gpus_of(size)
    if gpu and gpus == 0:
        raise ConfigError(
            f"machines of the size {size} have no GPU",
            where=where,
            remedy="Use machines such as Standard_NC24ads_A100_v4, or go without one: compute.gpu=false.",
        )
    if gpus and processes > gpus:
        raise ConfigError(
            f"{processes} processes on a machine need a GPU each, and one of the size {size} has {gpus}",
            where="compute.processes",
            remedy=f"Give {gpus}, or larger machines: Standard_NC96ads_A100_v4 has 4.",
        )


def check_cluster(client: Any, on: AzureCompute, processes: int) -> None:
    """Refuse a job that its cluster cannot run; where machines are the job's own, there is nothing to ask.

    Raises:
        ConfigError: if there is no such cluster, its machines have too few GPUs, or a Kubernetes cluster is not told what
            the job gets of it.
        AzureError: if Azure cannot be asked.
    """
    if on.cluster is None:
        return
    where = f"compute.cluster={on.cluster}"
    cluster = get_or_none(f"the cluster {on.cluster}", lambda: client.compute.get(on.cluster))
    if cluster is None:
        remedy = "Make it with scripts/provision.py, or name another."
        raise ConfigError("the workspace has no such cluster", where=where, remedy=remedy)
    kind = str(getattr(cluster, "type", "")).lower()
    if kind == "kubernetes" and on.instance_type is None:
        raise ConfigError(
            "a job on a Kubernetes cluster gets a tenth of a processor and no GPU unless it says of what type it is",
            where=where,
            remedy="Give compute.instance_type=NAME, one that the cluster has.",
        )
    if kind != "kubernetes" and on.instance_type is not None:
        raise ConfigError(
            f"the cluster is of the kind {kind}, and instance types are of Kubernetes clusters",
            where=f"compute.instance_type={on.instance_type}",
            remedy="Leave it out.",
        )
    if kind == "amlcompute" and getattr(cluster, "size", None):
        check_size(str(cluster.size), where, processes, gpu=on.gpu)
