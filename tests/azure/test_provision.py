"""`scripts/provision.py`: the real SDK against the stand-in, whose recorded calls say what was sent."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, here, running, started
from verbs import Done, run, succeed

pytestmark = pytest.mark.azure

IDS = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/rg/providers/"
USER = f"{IDS}Microsoft.ManagedIdentity/userAssignedIdentities/reader"
AKS = f"{IDS}Microsoft.ContainerService/managedClusters/aks"
BARE = (
    "clusters.gpu-cluster=null",
    "clusters.multi-gpu-cluster=null",
    "clusters.cpu-cluster=null",
    "environments=null",
)
CHANGES = "(PUT|PATCH|POST|DELETE) .*"


@pytest.fixture
def own(azure: Any, here: Path) -> Iterator[Path]:
    """A folder that names a workspace of this test's own."""
    name = f"ws-{uuid.uuid4().hex[:8]}"
    azure.arm.add_workspace(name)
    config = here / ".azureml/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"workspace_name": name}))
    yield here
    azure.store.delete(azure.arm.scope.workspace(name))


def one(*keys: str) -> list[str]:
    """A cluster `mine` of its own alone."""
    return [*BARE, "+clusters.mine.vm_size=Standard_D4s_v3", *(f"+clusters.mine.{key}" for key in keys)]


def provision(cwd: Path, *words: str) -> Done:
    return run("provision", *words, cwd=cwd)


@pytest.mark.slow
def test_the_first_run_makes_all_and_the_second_nothing(azure: Any, own: Path) -> None:
    store = ("datastore.name=scans", "datastore.account=account1", "datastore.container=kitti")
    done = succeed(provision(own, *store))
    azure.calls.assert_order(
        "PUT computes/gpu-cluster",
        "PUT computes/multi-gpu-cluster",
        "PUT computes/cpu-cluster",
        "PUT datastores/scans",
        "PUT environments/pointseg-gpu/versions/.*",
        "PUT environments/pointseg-cpu/versions/.*",
    )
    body = azure.calls.body("PUT computes/gpu-cluster")
    assert body["computeType"] == "AmlCompute"
    inner = body["properties"]
    assert (inner["vmSize"], inner["vmPriority"]) == ("Standard_NC24ads_A100_v4", "Dedicated")
    scale = {"minNodeCount": 0, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT10M"}
    assert inner["scaleSettings"] == scale
    assert inner["remoteLoginPortPublicAccess"] == "Disabled"
    assert azure.calls.body("PUT datastores/scans")["credentials"] == {"credentialsType": "None"}
    conda = azure.calls.body("PUT environments/pointseg-gpu/.*")["condaFile"]
    assert "torch==" in conda
    assert "azureml-mlflow==" in conda
    assert "laspy==" in conda
    assert "constraint" not in conda
    version = azure.calls.one("PUT environments/pointseg-gpu/.*").path.rsplit("/", 1)[1]
    assert f"compute.environment=azureml:pointseg-gpu:{version}" in done.out

    azure.calls.clear()
    again = succeed(provision(own, *store))
    assert not azure.calls.matching(CHANGES)
    assert "Nothing to do" in again.out


def test_a_plan_sends_nothing_but_questions(azure: Any, own: Path) -> None:
    done = succeed(provision(own, "plan=true", "environments=null"))
    assert "create  compute cluster  gpu-cluster" in done.out
    assert "0 to 2 nodes, dedicated" in done.out
    assert "3 steps to do" in done.out
    assert not azure.calls.matching(CHANGES)


@pytest.mark.slow
def test_a_cluster_is_changed_where_it_can_be(azure: Any, own: Path) -> None:
    succeed(provision(own, *one("max_nodes=2")))
    azure.calls.clear()
    done = succeed(provision(own, *one("max_nodes=4", "min_nodes=1", "identity=system", "idle_seconds=120")))
    for line in ("max_nodes: 2 -> 4", "min_nodes: 0 -> 1", "idle_seconds: 600 -> 120", "identity: none -> system"):
        assert line in done.out
    assert "note: min_nodes=1: 1 node always on, charged for while idle too" in done.out
    call = azure.calls.one("PUT computes/mine")
    scale = {"minNodeCount": 1, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT2M"}
    assert call.body["properties"]["properties"]["scaleSettings"] == scale
    assert call.body["identity"]["type"] == "SystemAssigned"
    azure.calls.clear()
    succeed(provision(own, *one("max_nodes=4", "min_nodes=1", "identity=system", "idle_seconds=120")))
    assert not azure.calls.matching(CHANGES)
    succeed(provision(own, *one("max_nodes=4", "min_nodes=1", "identity=none", "idle_seconds=120")))
    assert azure.calls.one("PUT computes/mine").body["identity"]["type"] == "None"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "says"),
    [
        ("vm_size=Standard_E8s_v5", "vm_size: Standard_D4s_v3 -> Standard_E8s_v5"),
        ("tier=low_priority", "tier: dedicated -> low_priority"),
        ("location=westeurope", "location: eastus -> westeurope"),
    ],
)
def test_what_cannot_be_changed_is_refused_before_anything_is_sent(azure: Any, own: Path, key: str, says: str) -> None:
    succeed(provision(own, *one()))
    azure.calls.clear()
    words = [word for word in one() if "vm_size" not in word or "vm_size" not in key]
    more = ["+clusters.zzz.vm_size=Standard_D4s_v3"]  # which would be made
    message = provision(own, *words, f"+clusters.mine.{key}", *more).message
    assert says in message
    assert "Choose another name, or delete it first: az ml compute delete --name mine" in message
    assert not azure.calls.matching(CHANGES)


@pytest.mark.slow
def test_capitals_of_a_size_are_no_difference(azure: Any, own: Path) -> None:
    succeed(provision(own, *one()))
    azure.calls.clear()
    succeed(provision(own, *BARE, "+clusters.mine.vm_size=STANDARD_D4S_V3"))
    assert not azure.calls.matching(CHANGES)


@pytest.mark.slow
def test_identities_of_ones_own(azure: Any, own: Path) -> None:
    words = one("tier=low_priority", f"identity=[{USER}]")
    succeed(provision(own, *words))
    call = azure.calls.one("PUT computes/mine")
    assert call.body["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {USER.lower(): {}}}
    assert call.body["properties"]["properties"]["vmPriority"] == "LowPriority"
    azure.calls.clear()
    succeed(provision(own, *words))
    assert not azure.calls.matching(CHANGES)


@pytest.mark.slow
def test_a_kubernetes_cluster_is_attached_and_then_only_looked_for(azure: Any, own: Path) -> None:
    lab = ["+clusters.lab.kind=kubernetes", f"+clusters.lab.resource_id={AKS}", "+clusters.lab.namespace=lidar"]
    succeed(provision(own, *BARE, *lab))
    body = azure.calls.body("PUT computes/lab")
    assert (body["computeType"], body["resourceId"]) == ("Kubernetes", AKS)
    assert body["properties"]["namespace"] == "lidar"
    azure.calls.clear()
    succeed(provision(own, *BARE, *lab))
    succeed(provision(own, *BARE, "+clusters.lab.kind=attached"))
    assert not azure.calls.matching(CHANGES)
    assert "namespace: lidar -> default" in provision(own, *BARE, *lab[:2]).message
    assert "of type kubernetes" in provision(own, *BARE, "+clusters.lab.vm_size=Standard_D4s_v3").message


@pytest.mark.slow
def test_an_attached_compute_that_is_not_there(azure: Any, own: Path) -> None:
    message = provision(own, *BARE, "+clusters.lab.kind=attached", "+clusters.mine.vm_size=Standard_D4s_v3").message
    assert "the workspace has no such compute: clusters.lab" in message
    assert not azure.calls.matching(CHANGES)


@pytest.mark.slow
def test_a_datastore_that_leads_elsewhere_is_refused(azure: Any, own: Path) -> None:
    words = ("datastore.name=scans", "datastore.account=account1")
    succeed(provision(own, *BARE, *words, "datastore.container=kitti"))
    message = provision(own, *BARE, *words, "datastore.container=other").message
    assert "leads to kitti of account1" in message


@pytest.mark.slow
def test_a_workspace_is_made_with_what_is_in_it(azure: Any, own: Path) -> None:
    name = f"ws-{uuid.uuid4().hex[:8]}"
    assert "there is no such workspace" in provision(own, f"azure.workspace={name}", *one()).message
    words = (f"azure.workspace={name}", "workspace.create=true", "workspace.location=eastus")
    done = succeed(provision(own, *words, "plan=true", *one()))
    assert f"create  workspace        {name}" in done.out
    succeed(provision(own, *words, *one()))
    azure.calls.assert_order("PUT .*/deployments/.*", "PUT computes/mine")
    azure.calls.clear()
    succeed(provision(own, *words, *one()))
    assert not azure.calls.matching(CHANGES)
    message = provision(own, *words[:2], "workspace.location=westeurope", *one()).message
    assert "the workspace is in eastus" in message


@pytest.mark.slow
def test_a_group_that_is_not_there(azure: Any, own: Path) -> None:
    message = provision(own, "azure.group=rg-none", "workspace.create=true", "workspace.location=eastus").message
    assert "Azure answered 404 (" in message
    assert "rg-none" in message


# ---- faults ------------------------------------------------------------------------------------------------------


def test_an_operation_that_fails_at_its_end_says_what_was_made(azure: Any, own: Path) -> None:
    azure.faults.add("PUT computes/mine", 200, operation_error="The quota of cores is exceeded.")
    words = ["+clusters.aaa.vm_size=Standard_D4s_v3", *one(), "+clusters.zzz.vm_size=Standard_D4s_v3"]
    message = provision(own, *words).message
    assert "compute cluster mine failed" in message
    assert "quota of cores" in message
    assert "Done before it: compute cluster aaa (created); not done: compute cluster zzz" in message

    azure.faults.clear()
    done = succeed(provision(own, *words))  # what was made is kept, what failed is sent again
    assert "keep    compute cluster  aaa" in done.out
    assert "its last change failed" in done.out
    assert "created: compute cluster zzz" in done.out


@pytest.mark.slow
@pytest.mark.parametrize(("status", "says"), [(401, "Sign in (az login)"), (403, "AzureML Data Scientist")])
def test_what_azure_refuses_is_said_plainly(azure: Any, own: Path, status: int, says: str) -> None:
    azure.faults.add("PUT computes/mine", status)
    message = provision(own, *one()).message
    assert "making the compute mine" in message
    assert says in message
    assert "Done before it: nothing" in message


@pytest.mark.slow
def test_a_question_that_is_refused_changes_nothing(azure: Any, own: Path) -> None:
    azure.faults.add("GET computes/mine", 403)
    assert "looking for the compute mine" in provision(own, *one()).message
    assert not azure.calls.matching(CHANGES)


@pytest.mark.slow
def test_azure_that_asks_to_wait_is_asked_again(azure: Any, own: Path) -> None:
    azure.faults.add("PUT computes/mine", 429, times=1, headers={"Retry-After": "0"})
    succeed(provision(own, *one()))
    assert len(azure.calls.matching("PUT computes/mine")) == 2


@pytest.mark.slow
def test_connections_that_break_for_good(azure: Any, own: Path) -> None:
    azure.faults.add("PUT computes/mine", 0)
    message = provision(own, *one()).message
    assert "making the compute mine: Azure cannot be reached" in message


# ---- checks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "names", "says"),
    [
        (["+clusters.GPU-cluster.vm_size=Standard_D4s_v3"], "gpu-cluster and GPU-cluster", "the same name for Azure"),
        (["+clusters.gpu-cluster.max_node=3"], "clusters.gpu-cluster.max_node", "clusters.gpu-cluster.max_nodes?"),
        (["workspace.create=true"], "workspace.location", "westeurope"),
        (["datastore.account=abc"], "datastore.name", "no datastore name is given"),
        (["environments.pointseg-gpu.file=none.yml"], "none.yml", "cannot be read"),
        (["+environments.mine.file=environments/conda.yml"], "environments.mine", "and .image"),
        (["cluster.gpu-cluster.max_nodes=1"], "cluster.gpu-cluster.max_nodes", "clusters.gpu-cluster.max_nodes"),
    ],
)
def test_mistakes_are_refused_before_anybody_is_asked(tmp_path: Path, words: list[str], names: str, says: str) -> None:
    message = provision(tmp_path, *words).message  # where no workspace is named
    assert names in message
    assert says in message
