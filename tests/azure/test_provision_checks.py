"""What Azure would not take, or take and not do, is refused by name before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pointseg.azure.resources.compute import Cluster, wanted_compute
from pointseg.azure.resources.datastores import BlobDatastore
from pointseg.azure.resources.environments import JobEnvironment
from pointseg.azure.resources.workspace_step import check_workspace
from pointseg.core.errors import ConfigError

IDS = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/"
AKS = f"{IDS}Microsoft.ContainerService/managedClusters/aks"
USER = f"{IDS}Microsoft.ManagedIdentity/userAssignedIdentities/reader"
SIZE = {"vm_size": "Standard_D4s_v3"}
LAB = {"kind": "kubernetes", "resource_id": AKS}


@pytest.mark.parametrize(
    ("name", "values", "key", "says"),
    [
        ("1st", SIZE, "clusters.1st", "2 to 32 letters"),
        ("a", SIZE, "clusters.a", "2 to 32 letters"),
        ("a" * 33, SIZE, "clusters.aaa", "2 to 32 letters"),
        ("ends-", SIZE, "clusters.ends-", "no - at the end"),
        ("mine", {}, "clusters.mine.vm_size", "no machine size is given"),
        ("mine", {"vm_size": "A100"}, "clusters.mine.vm_size", "Such as Standard_"),
        ("mine", SIZE | {"min_nodes": 3, "max_nodes": 2}, "clusters.mine.min_nodes", "at least 3 machines, but at most 2"),
        ("mine", SIZE | {"min_nodes": -1}, "clusters.mine.min_nodes", "0 to 1,000"),
        ("mine", SIZE | {"max_nodes": 0}, "clusters.mine.max_nodes", "1 to 1,000"),
        ("mine", SIZE | {"max_nodes": True}, "clusters.mine.max_nodes", "whole number"),
        ("mine", SIZE | {"max_nodes": 2.5}, "clusters.mine.max_nodes", "whole number"),
        ("mine", SIZE | {"max_nodes": "four"}, "clusters.mine.max_nodes", "whole number"),
        ("mine", SIZE | {"idle_seconds": 5}, "clusters.mine.idle_seconds", "60 to"),
        ("mine", SIZE | {"tier": "spot"}, "clusters.mine.tier", "dedicated or low_priority"),
        ("mine", SIZE | {"identity": "me"}, "clusters.mine.identity", "none, system, or a list"),
        ("mine", SIZE | {"identity": []}, "clusters.mine.identity", "none, system, or a list"),
        ("mine", SIZE | {"identity": [AKS]}, "clusters.mine.identity", "userAssignedIdentities"),
        ("mine", SIZE | {"subnet": "default"}, "clusters.mine.subnet", "/subnets/"),
        ("mine", SIZE | {"location": "West Europe"}, "clusters.mine.location", "westeurope"),
        ("mine", SIZE | {"kind": "vm"}, "clusters.mine.kind", "amlcompute, kubernetes, attached"),
        ("mine", SIZE | {"max_node": 3}, "clusters.mine.max_node", "Did you mean clusters.mine.max_nodes?"),
        ("mine", SIZE | {"name": "other"}, "clusters.mine.name", "has no key name"),
        ("lab", {"kind": "kubernetes"}, "clusters.lab.resource_id", "no Kubernetes cluster id is given"),
        ("lab", LAB | {"resource_id": "aks"}, "clusters.lab.resource_id", "managedClusters"),
        ("lab", LAB | {"namespace": "A_b"}, "clusters.lab.namespace", "Use lower-case letters"),
        ("a" * 17, LAB, "clusters.aaa", "2 to 16 letters"),
        ("lab", LAB | SIZE, "clusters.lab.vm_size", "has no key vm_size"),
        ("lab", {"kind": "attached"} | SIZE, "clusters.lab.vm_size", "has no key vm_size"),
        ("lab", 7, "clusters.lab", "does not describe a cluster"),
    ],
)  # fmt: skip
def test_a_compute_that_cannot_be(name: str, values: Any, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        wanted_compute(name, values)
    assert str(caught.value.where).startswith(key)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("make", "key", "says"),
    [
        (lambda: BlobDatastore("a-b", "abc", "kitti"), "datastore.name", "Use letters, digits and _"),
        (lambda: BlobDatastore("workspaceblobstore", "abc", "kitti"), "datastore.name", "for itself"),
        (lambda: BlobDatastore("a", "A_b", "kitti"), "datastore.account", "lower-case letters"),
        (lambda: BlobDatastore("a", "abc", "a--b"), "datastore.container", "single -"),
        (lambda: JobEnvironment("a b", "image", "dependencies: []"), "environments.a b", "Use letters, digits"),
        (lambda: JobEnvironment("mine", "a b", "dependencies: []"), "environments.mine.image", "REGISTRY/NAME:TAG"),
        (lambda: check_workspace(create=True, location=None), "workspace.location", "westeurope"),
        (lambda: check_workspace(create=False, location="West Europe"), "workspace.location", "short name"),
    ],
)
def test_other_things_that_cannot_be(make: Callable[[], object], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value.where).startswith(key)
    assert says in str(caught.value)


def test_identities_are_compared_whatever_their_order_and_capitals() -> None:
    first, second = USER, USER.replace("reader", "writer")
    one = Cluster("mine", "Standard_D4s_v3", identity=(first, second))
    assert one == Cluster(
        "mine", "Standard_D4s_v3", identity=(second.upper().replace("SUBSCRIPTIONS", "subscriptions"), first)
    )


def test_the_version_of_an_environment_is_its_content() -> None:
    one = JobEnvironment("mine", "image:1", "dependencies: [python=3.11]\n")
    assert one.version == JobEnvironment("other", "image:1", "dependencies: [python=3.11]\n").version
    assert one.version != JobEnvironment("mine", "image:2", "dependencies: [python=3.11]\n").version
    assert one.version != JobEnvironment("mine", "image:1", "dependencies: [python=3.12]\n").version
    assert one.address == f"azureml:mine:{one.version}"
