"""A run as a job in Azure ML: the real SDK and the verbs against the stand-in, which really runs what is submitted."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from azure_helpers import press_ctrl_c
from verbs import run

from pointseg.azure import jobs
from pointseg.azure.errors import AzureError
from pointseg.engine.bundle import load

pytestmark = pytest.mark.azure

SMALL = ("+experiment=quick", "trainer.max_epochs=1", "compute=aml_cpu")


def test_a_job_is_submitted_as_the_file_says(azure: Any, cluster: str, here: Path) -> None:
    done = run("train", *SMALL, "compute.shm=4g", "compute.seconds=900", "compute.tags.team=perception", cwd=here)
    assert done.code == 0, done.err
    assert f"Azure ML workspace {azure.workspace} in {azure.group}" in done.out
    assert "config.json), signed in by default" in done.out
    assert "https://ml.azure.com/runs/" in done.out
    azure.calls.assert_order("PUT codes/.*", "PUT environments/.*", "PUT jobs/.*")
    body = azure.calls.body("PUT jobs/.*")
    assert body["jobType"] == "Command"
    assert "pointseg.train --config-dir . --config-name config" in body["command"]
    assert body["resources"]["shmSize"] == "4g"
    assert body["limits"]["timeout"] == "PT15M"
    assert body["tags"] == {"team": "perception"}
    assert body["computeId"].endswith(f"/computes/{cluster}")


def test_services_and_a_named_output_reach_azure(azure: Any, cluster: str, here: Path) -> None:
    words = ("compute.services=[vs_code,jupyter_lab]", "compute.asset=street-runs", "compute.env.LEVEL=3")
    done = run("train", *SMALL, *words, cwd=here)
    assert done.code == 0, done.err
    body = azure.calls.body("PUT jobs/.*")
    assert {one["jobServiceType"] for one in body["services"].values()} == {"VSCode", "JupyterLab"}
    assert body["outputs"]["run"]["assetName"] == "street-runs"
    assert body["environmentVariables"]["LEVEL"] == "3"


@pytest.mark.slow
def test_a_training_runs_there_and_comes_back(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    (here / "other").mkdir()
    (here / "other/notes.txt").write_text("of a run whose name begins alike")
    store = azure.store.get(f"{azure.arm.scope.workspace(azure.workspace)}/datastores/workspaceblobstore")
    azure.blobs.upload(store["properties"]["containerName"], "pointseg/runs/night-10", here / "other")
    words = ("compute.processes=2", "model.sync_batchnorm=true", "compute.wait=true", "hydra.run.dir=run")
    words += ("compute.run=night-1", "azure.auth=cli", f"azure.workspace={azure.workspace}")
    done = run("train", *SMALL, *words, cwd=here)
    assert done.code == 0, done.err
    assert not list((here / "run").rglob("notes.txt"))
    assert load(here / "run").provenance["seed"] == 0
    assert 0 <= json.loads((here / "run/metrics.json").read_text())["miou"] <= 1
    assert not list((here / "run").glob(".fetched-*"))
    again = run("evaluate", "checkpoint=run", cwd=here)
    assert again.code == 0, again.err


@pytest.mark.slow
def test_a_job_that_fails_says_where_its_logs_are(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable)
    done = run("train", *SMALL, "data.azimuth_steps=1", "compute.wait=true", cwd=here)
    assert "the job ended as Failed" in done.message
    assert "https://ml.azure.com/runs/" in done.message


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "Sign in"),
        (403, "AzureML Data Scientist"),
        (404, "Check the workspace"),
        (409, "another name or version"),
        (412, "changed in the meantime"),
        *(
            pytest.param(*fault, marks=pytest.mark.slow)
            for fault in ((429, "slow down"), (500, "later"), (0, "network"))
        ),
    ],
)
def test_what_azure_refuses_is_said_plainly(azure: Any, cluster: str, here: Path, status: int, says: str) -> None:
    azure.faults.add("PUT jobs/.*", status)
    message = run("train", *SMALL, cwd=here).message
    assert "submitting the job" in message
    assert says in message


@pytest.mark.slow
@pytest.mark.parametrize(("status", "times"), [(429, 1), (500, 2), (0, 1)])
@pytest.mark.parametrize("call", ["PUT jobs/.*", "PUT environments/.*", "GET .*"])
def test_what_passes_is_tried_again(azure: Any, cluster: str, here: Path, call: str, status: int, times: int) -> None:
    azure.faults.add(call, status, times=times, headers={"Retry-After": "1"} if status == 429 else {})
    done = run("train", *SMALL, cwd=here)
    assert (done.code, done.err) == (0, "")
    assert len({request.path for request in azure.calls.matching("PUT jobs/.*")}) == 1


def test_a_job_that_cannot_be_cancelled(azure: Any, client: Any, cluster: str, here: Path) -> None:
    assert run("train", *SMALL, "hydra.run.dir=run", cwd=here).code == 0
    name = azure.calls.one("PUT jobs/.*").path.rsplit("/", 1)[-1]
    azure.faults.add("POST jobs/.*/cancel", operation_error="the node does not answer", polls=2)
    with pytest.raises(AzureError, match=r"cancelling the job.*the node does not answer"):
        jobs.cancel(client, name)


@pytest.mark.slow
def test_a_workspace_that_cannot_be_reached_while_a_job_runs(azure: Any, cluster: str, here: Path) -> None:
    azure.jobs.script("*", *["Running"] * 50)
    azure.faults.add("GET jobs/.*", 0)
    message = run("train", *SMALL, "compute.wait=true", cwd=here).message
    assert "following the job" in message
    assert "goes on" in message


def test_a_cluster_that_is_not_there(azure: Any, here: Path) -> None:
    message = run("train", *SMALL, "compute.cluster=no-such-cluster", cwd=here).message
    assert "no-such-cluster" in message


def test_a_job_is_cancelled(azure: Any, client: Any, cluster: str, here: Path) -> None:
    assert run("train", *SMALL, "hydra.run.dir=run", cwd=here).code == 0
    name = azure.calls.one("PUT jobs/.*").path.rsplit("/", 1)[-1]
    jobs.cancel(client, name)
    assert azure.calls.matching(f"POST jobs/{name}/cancel")
    with pytest.raises(AzureError, match="cancelling the job"):
        jobs.cancel(client, "no-such-job")


def test_ctrl_c_while_waiting_leaves_the_job_or_cancels_it(
    azure: Any, cluster: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.jobs.script("*", *["Running"] * 50)
    press_ctrl_c(monkeypatch)
    done = run("train", *SMALL, "compute.wait=true", cwd=here)
    assert (done.code, "The job goes on." in done.out) == (130, True), done.err
    assert "ended as" not in done.err
    assert not azure.calls.matching("POST jobs/.*/cancel")
    monkeypatch.setattr("pointseg.cli.console._answer", lambda question: "y" if "Cancel the job" in question else "")
    done = run("train", *SMALL, "compute.wait=true", cwd=here)
    assert (done.code, "Cancelled." in done.out) == (130, True), done.err
    assert len(azure.calls.matching("POST jobs/.*/cancel")) == 1
