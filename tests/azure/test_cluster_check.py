"""Jobs that their cluster could not run are refused before anything is sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pointseg.azure.backend import AzureML
from pointseg.azure.cluster_check import check_cluster
from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.machine_sizes import gpus_of
from pointseg.core.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "gpus"),
    [
        ("Standard_NC24ads_A100_v4", 1),
        ("STANDARD_NC96ADS_A100_V4", 4),
        ("Standard_ND96isr_H200_v5", 8),
        ("Standard_D8s_v5", 0),
        ("Standard_E8ds_v5", 0),
        ("Standard_F16s_v2", 0),
        ("Standard_HB120rs_v3", 0),
        ("Standard_NV12ads_A10_v5", None),  # a part of a GPU
        ("Standard_ND999_v9", None),
    ],
)
def test_gpus_of_a_size(size: str, gpus: int | None) -> None:
    assert gpus_of(size) == gpus


def workspace(**cluster: Any) -> Any:
    return SimpleNamespace(compute=SimpleNamespace(get=lambda name: SimpleNamespace(name=name, **cluster)))


def test_more_processes_than_gpus() -> None:
    client = workspace(type="amlcompute", size="Standard_NC24ads_A100_v4")
    on = AzureCompute(cluster="gpu-cluster", gpu=True)
    check_cluster(client, on, 1)
    with pytest.raises(ConfigError, match=r"4 processes .* has 1") as caught:
        check_cluster(client, on, 4)
    assert caught.value.where == "compute.processes"


def test_processes_share_the_cores_of_a_machine_without_gpus() -> None:
    check_cluster(workspace(type="amlcompute", size="Standard_D8s_v5"), AzureCompute(cluster="cpu-cluster"), 4)


def test_a_gpu_job_on_machines_without() -> None:
    client = workspace(type="amlcompute", size="Standard_D8s_v5")
    with pytest.raises(ConfigError, match="have no GPU"):
        check_cluster(client, AzureCompute(cluster="cpu-cluster", gpu=True), 1)


def test_kubernetes_needs_an_instance_type_and_others_take_none() -> None:
    kubernetes, own = workspace(type="kubernetes"), workspace(type="amlcompute", size="Standard_D8s_v5")
    with pytest.raises(ConfigError, match="tenth of a processor"):
        check_cluster(kubernetes, AzureCompute(cluster="aks"), 1)
    check_cluster(kubernetes, AzureCompute(cluster="aks", instance_type="gpu"), 4)
    with pytest.raises(ConfigError, match="kind amlcompute"):
        check_cluster(own, AzureCompute(cluster="own", instance_type="gpu"), 1)


def test_machines_of_the_job_are_checked_without_asking() -> None:
    with pytest.raises(ConfigError, match="has 1"):
        AzureML(vm_size="Standard_NC24ads_A100_v4", processes=4, gpu=True, dry_run=True)
    AzureML(vm_size="Standard_NC96ads_A100_v4", processes=4, gpu=True, dry_run=True)
