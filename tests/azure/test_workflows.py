"""The workflows by a Python program against the stand-in: what they made is there, and their results say so."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, started
from batch_helpers import write_bundle, write_scans
from conftest import write_tree

from pointseg.workflows import (
    DeployConfig,
    InvokeConfig,
    ProvisionConfig,
    RegisterDataConfig,
    TeardownConfig,
    deploy,
    invoke,
    provision,
    register_data,
    teardown,
)
from pointseg.workflows.settings.provision import ClusterConfig

pytestmark = [pytest.mark.azure, pytest.mark.slow]


@pytest.fixture
def inside(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Python programs name their workspace by the folder that they run in, as commands do."""
    monkeypatch.chdir(here)
    return here


def test_the_life_of_a_batch_endpoint(azure: Any, client: Any, inside: Path, cluster: str) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    bundle, tree = write_bundle(inside / "bundle"), write_scans(inside / "scans")
    config = DeployConfig(target="batch", checkpoint=str(bundle), endpoint="street-py", delete_old=True)
    made = deploy(config, folder=inside)
    assert [one.name for one in client.batch_deployments.list("street-py")] == [made.version]
    assert {step.action for step in deploy(config).steps} == {"keep"}
    asking = InvokeConfig(endpoint="batch:street-py", input=str(tree.root))
    assert invoke(asking).files is None
    waited = InvokeConfig(endpoint="batch:street-py", input=str(tree.root), output="labels", wait=True)
    done = invoke(waited)
    assert (done.files, len(list(Path("labels").rglob("*.label")))) == (6, 6)
    assert invoke(InvokeConfig(endpoint="batch:street-py", job=done.job, output="again")).files == 6
    questions: list[str] = []
    torn = teardown(TeardownConfig(endpoint="street-py"), ask=lambda question: bool(questions.append(question)))
    assert (torn.removed, questions) == (False, ["Remove this 1 thing?"])
    torn = teardown(TeardownConfig(endpoint="street-py", yes=True))
    assert (torn.removed, [step.name for step in torn.steps]) == (True, ["street-py"])
    assert "street-py" not in [one.name for one in client.batch_endpoints.list()]


def test_clusters_and_data(azure: Any, client: Any, inside: Path) -> None:
    clusters = {"mine": ClusterConfig(vm_size="Standard_D4s_v3", max_nodes=3)}
    config = ProvisionConfig(clusters=clusters, environments=None)
    assert [step.action for step in provision(config).steps] == ["keep", "create"]
    assert client.compute.get("mine").max_instances == 3
    assert [step.action for step in provision(config).steps] == ["keep", "keep"]
    write_tree(inside / "kitti")
    done = register_data(RegisterDataConfig(path="kitti", name="streets"), folder=inside)
    assert (inside / "data_asset.json").is_file()
    name, version = done.address.split(":")[1:]
    assert client.data.get(name, version).tags["made_by"] == "pointseg"
    assert register_data(RegisterDataConfig(path="kitti", name="streets")).step.action == "keep"
