"""Batch endpoints: the scripts and the real SDK against the stand-in, which really runs the deployment's code and model."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from azure_helpers import press_ctrl_c
from batch_helpers import ENDPOINT, default_of, deploy, deployments_of, hashes, invoke, write_bundle, write_scans
from verbs import run

pytestmark = [pytest.mark.azure, pytest.mark.slow]


@pytest.fixture
def fresh(azure: Any, client: Any, cluster: str) -> Iterator[None]:
    """No endpoint, before and after."""
    yield
    azure.faults.clear()
    client.batch_endpoints.begin_delete(ENDPOINT).result()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


def locally(here: Path, bundle: Path, scans: Path, code: int = 0) -> dict[str, str]:
    done = run("predict", f"checkpoint={bundle}", f"input={scans}", "output=local", "accelerator=cpu", cwd=here)
    assert done.code == code, done.err
    return hashes(here / "local")


def puts(azure: Any) -> list[str]:
    return [call.short for call in azure.calls.matching("(PUT|PATCH|DELETE) .*")]


def test_labels_of_a_job_are_those_of_predict(azure: Any, client: Any, here: Path, bundle: Path, fresh: None) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    tree = write_scans(here / "scans", damaged=True)
    done = deploy(here, f"checkpoint={bundle}", "batch.mini_batch_size=2", "batch.instances=2")
    assert done.code == 0, done.err
    assert default_of(client) in deployments_of(client)
    done = invoke(here, f"input={tree.root}", "output=labels", "wait=true")
    assert done.code == 2, done.out + done.err
    assert "000003.bin" in done.out + done.err
    assert "1 file of 6 cannot be used" in done.err
    assert "https://ml.azure.com/runs/" in done.out
    assert hashes(here / "labels") == locally(here, bundle, tree.root, code=2)


def test_the_same_call_again_has_nothing_to_do_and_another_model_takes_over(
    azure: Any, client: Any, here: Path, bundle: Path, fresh: None
) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    scans = write_scans(here / "scans").root
    assert deploy(here, f"checkpoint={bundle}").code == 0
    first = default_of(client)
    azure.calls.clear()
    done = deploy(here, f"checkpoint={bundle}")
    assert "Nothing to do" in done.out, done.out + done.err
    assert puts(azure) == []
    other = write_bundle(here / "other", seed=1)
    done = deploy(here, f"checkpoint={other}")
    assert done.code == 0, done.err
    second = default_of(client)
    assert deployments_of(client) == {first: "Succeeded", second: "Succeeded"}
    assert f"{first} -> {second}" in done.out
    done = invoke(here, f"input={scans}", "output=labels", "wait=true")
    assert done.code == 0, done.out + done.err
    assert hashes(here / "labels") == locally(here, other, scans)
    done = invoke(here, f"input={scans}", "output=older", "wait=true", f"deployment={first}")
    assert done.code == 0, done.out + done.err
    assert hashes(here / "older") != hashes(here / "labels")
    assert deploy(here, f"checkpoint={other}", "delete_old=true").code == 0
    assert list(deployments_of(client)) == [second]


def test_a_plan_sends_nothing(azure: Any, client: Any, cluster: str, here: Path, bundle: Path) -> None:
    done = deploy(here, f"checkpoint={bundle}", "plan=true")
    assert done.code == 0, done.err
    assert puts(azure) == []
    assert not azure.calls.matching("POST .*")
    for words in ("create", "model", "environment", "batch endpoint", "batch deployment", "default deployment", "idle"):
        assert words in done.out


def test_a_deployment_that_fails_leaves_the_default(
    azure: Any, client: Any, here: Path, bundle: Path, fresh: None
) -> None:
    assert deploy(here, f"checkpoint={bundle}").code == 0
    first = default_of(client)
    other = write_bundle(here / "other", seed=5)
    azure.faults.add("PUT batchEndpoints/.*/deployments/.*", operation_error="the image could not be built")
    message = deploy(here, f"checkpoint={other}").message
    assert "the image could not be built" in message
    assert f"the default deployment is {first}, as before" in message
    assert "Done before it: model" in message
    assert "not done: default deployment" in message
    assert default_of(client) == first
    azure.faults.clear()
    done = deploy(here, f"checkpoint={other}")
    assert "it is Failed" in done.out
    assert default_of(client) != first


@pytest.mark.parametrize(
    ("pattern", "status", "says"),
    [
        ("PUT batchEndpoints/[^/]+", 403, "AzureML Data Scientist"),
        ("PUT models/.*", 429, "slow down"),
        ("PUT environments/.*", 500, "Try again later"),
        ("GET batchEndpoints/[^/]+", 0, "cannot be reached"),
    ],
)
def test_what_azure_refuses_is_said_plainly(
    azure: Any, cluster: str, here: Path, tmp_path: Path, pattern: str, status: int, says: str
) -> None:
    bundle = write_bundle(here / "model", seed=abs(hash(pattern)) % 1000)
    azure.faults.add(pattern, status, headers={"Retry-After": "0"})
    words = [f"checkpoint={bundle}", "endpoint=never-made", f"batch.image=example.azurecr.io/x:{status}"]
    assert says in deploy(here, *words).message


def test_a_refused_call_and_a_job_that_fails_are_said_plainly(
    azure: Any, client: Any, here: Path, bundle: Path, fresh: None
) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    scans = write_scans(here / "scans", damaged=True).root
    assert deploy(here, f"checkpoint={bundle}", "batch.error_threshold=0").code == 0
    assert "no such batch endpoint" in run("invoke", "endpoint=batch:other", f"input={scans}", cwd=here).message
    azure.faults.add("POST .*jobs", 403)
    message = invoke(here, f"input={scans}").message
    assert "starting a job of the endpoint" in message
    assert "403" in message
    azure.faults.clear()
    message = invoke(here, f"input={scans}", "output=labels", "wait=true").message
    assert "the job ended as Failed" in message
    assert "https://ml.azure.com/runs/" in message


def test_a_data_asset_is_read_and_a_job_fetched_later(
    azure: Any, client: Any, here: Path, bundle: Path, fresh: None
) -> None:
    from azure.ai.ml.entities import Data

    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    scans = write_scans(here / "scans").root  # with calibration, poses and labels, which are no scans
    client.data.create_or_update(Data(name="kitti", version="1", path=str(scans), type="uri_folder"))
    assert deploy(here, f"checkpoint={bundle}", "batch.output_action=append_row").code == 0
    done = invoke(here, "input=azureml:kitti:1")
    assert done.code == 0, done.err
    job = next(line for line in done.out.splitlines() if line.startswith("Job ")).split()[1].rstrip(",")
    done = invoke(here, f"job={job}", "output=labels")
    assert done.code == 0, done.out + done.err
    found = hashes(here / "labels")
    lines = (here / "labels/predictions.csv").read_text().splitlines()
    assert sum(" -> sequences/" in line for line in lines) == 6
    assert {name: of for name, of in found.items() if name != "predictions.csv"} == locally(here, bundle, scans)
    assert "results of another model" not in invoke(here, f"job={job}", "output=labels").err
    other = run("predict", f"checkpoint={write_bundle(here / 'o', 1)}", f"input={scans}", "output=mine", cwd=here)
    assert other.code == 0
    assert "results of another model" in invoke(here, f"job={job}", "output=mine").message


def test_models_of_the_workspace_are_referenced(azure: Any, client: Any, here: Path, bundle: Path, fresh: None) -> None:
    from azure.ai.ml.entities import Model

    client.models.create_or_update(Model(name="street", version="3", path=str(bundle), type="custom_model"))
    azure.calls.clear()
    assert deploy(here, "checkpoint=azureml:street:3").code == 0
    assert not azure.calls.matching("PUT models/.*")
    assert azure.calls.body("PUT batchEndpoints/.*/deployments/.*")["model"]["assetId"].endswith(
        "/models/street/versions/3"
    )
    assert "Nothing to do" in deploy(here, "checkpoint=azureml:street@latest").out
    assert "no such model" in deploy(here, "checkpoint=azureml:street:4").message


def test_models_of_a_registry(azure: Any, client: Any, here: Path, bundle: Path, fresh: None) -> None:
    """Of a registry elsewhere the bundle is uploaded; the workspace's own registry has the model already."""
    from azure.ai.ml.entities import Model

    assert run("register_model", f"run={bundle}", "name=street", "format=custom_model", cwd=here).code == 0
    done = deploy(here, "checkpoint=models:/street@candidate", "name=fetched")
    assert done.code == 0, done.err
    assert "/models/fetched/versions/" in azure.calls.body("PUT batchEndpoints/.*/deployments/.*")["model"]["assetId"]
    assert "Nothing to do" in deploy(here, f"checkpoint={bundle}", "name=fetched").out
    client.models.create_or_update(Model(name="own", version="7", path=str(bundle), type="custom_model"))
    workspace = (
        f"subscriptions/{azure.subscription}/resourceGroups/{azure.group}/providers/x/workspaces/{azure.workspace}"
    )
    uri = f"azureml://eastus.api.azureml.ms/mlflow/v1.0/{workspace}"
    azure.calls.clear()
    done = deploy(here, "checkpoint=models:/own/7", f"tracking.uri={uri}", "plan=true")
    assert done.code == 0, done.err
    assert "model azureml:own:7" in done.out


def test_ctrl_c_while_waiting_leaves_the_job(
    azure: Any, client: Any, here: Path, bundle: Path, fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = write_scans(here / "scans").root
    assert deploy(here, f"checkpoint={bundle}").code == 0
    press_ctrl_c(monkeypatch)
    done = invoke(here, f"input={scans}", "output=labels", "wait=true")
    assert done.code == 130, done.err
    assert "The job goes on" in done.out
    assert not azure.calls.matching("POST jobs/.*/cancel")
    monkeypatch.setattr("pointseg.cli.console._answer", lambda question: "y" if "Cancel the job" in question else "")
    done = invoke(here, f"input={scans}", "output=labels", "wait=true")
    assert done.code == 130, done.err
    assert azure.calls.matching("POST jobs/.*/cancel")


def test_a_cluster_that_is_not_there_or_too_small(azure: Any, cluster: str, here: Path, bundle: Path) -> None:
    assert "no such cluster" in deploy(here, f"checkpoint={bundle}", "batch.cluster=other-cluster").message
    assert "at most 4 machines" in deploy(here, f"checkpoint={bundle}", "batch.instances=5").message
    assert puts(azure) == []
