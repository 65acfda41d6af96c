"""A pipeline as one job in Azure ML, kept there and run by the clock: the real SDK and the verb against the stand-in."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from verbs import SMALL_TRAINING, Done, run, trained_run

from pointseg.azure.publishing.files import check_cron
from pointseg.core.errors import ConfigError

pytestmark = pytest.mark.azure

WORLD = ["synthetic.scans=11", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
TRAIN = [f"train=[{','.join([*SMALL_TRAINING, 'trainer.max_epochs=1'])}]"]
SHORT = ["steps=[prepare,train]", *WORLD, *TRAIN, "compute=aml_cpu"]


def pipeline(*words: str, here: Path) -> Done:
    return run("pipeline", *words, "hydra.run.dir=chain", cwd=here)


def good(done: Done) -> Done:
    assert done.code == 0, done.out + done.err
    return done


# ---- one job -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pipeline_is_submitted_as_its_file_says_also_from_elsewhere(
    azure: Any, client: Any, cluster: str, here: Path
) -> None:
    from azure.ai.ml import load_job

    words = ["gate.miou=0.25", "light_cluster=cpu-cluster", "force_rerun=true", "compute.tags.team=perception"]
    words += ["compute.processes=2", "compute.seconds=900", "compute.identity=managed"]
    done = good(pipeline(*WORLD, *TRAIN, "compute=aml_cpu", *words, here=here))
    assert "https://ml.azure.com/runs/" in done.out
    body = azure.calls.body("PUT jobs/.*")
    assert (body["jobType"], list(body["jobs"])) == ("Pipeline", ["prepare", "train", "evaluate", "register"])
    assert body["jobs"]["register"]["inputs"]["scores"]["value"] == "${{parent.jobs.evaluate.outputs.run}}"
    assert body["inputs"]["gate_miou"]["value"] == "0.25"
    assert body["settings"]["force_rerun"] is True
    assert body["tags"]["team"] == "perception"
    train = body["jobs"]["train"]
    assert train["distribution"] == {"distribution_type": "PyTorch", "process_count_per_instance": 2}
    assert (train["limits"]["timeout"], train["identity"]) == ("PT15M", {"identity_type": "Managed"})
    assert "distribution" not in body["jobs"]["evaluate"]
    components = azure.calls.matching("PUT components/.*")
    assert len(components) == 4
    # each with its own configuration in it: what one step is told is no reason to run another again
    assert len({call.body["properties"]["componentSpec"]["code"] for call in components}) == 4
    specs = [call.body["properties"]["componentSpec"] for call in components]
    assert [one["display_name"] for one in specs if not one["is_deterministic"]] == ["register"]

    shutil.move(here / "chain/pipeline", here / "moved")
    job = load_job(here / "moved/pipeline.yaml")
    assert list(job.jobs) == ["prepare", "train", "evaluate", "register"]
    azure.calls.clear()
    client.jobs.create_or_update(job)
    assert azure.calls.body("PUT jobs/.*")["jobs"].keys() == body["jobs"].keys()


def test_a_dry_run_asks_nobody(tmp_path: Path) -> None:
    done = good(pipeline(*SHORT, "compute.dry_run=true", here=tmp_path))
    assert "az ml job create -f" in done.out
    assert "${{parent.jobs.prepare.outputs.store}}" in done.out


def test_a_training_is_told_the_asset_that_was_prepared(tmp_path: Path) -> None:
    words = ("compute=aml_cpu", "compute.dry_run=true", "hydra.run.dir=chain", "input=azureml:kitti:4")
    good(pipeline(*words, here=tmp_path))
    for step, key in (("prepare", "input"), ("train", "data.root"), ("evaluate", "data.root")):
        taken_along = yaml.safe_load((tmp_path / f"chain/pipeline/code/{step}/config.yaml").read_text())
        assert taken_along["job_context"]["inputs"] == {key: "azureml:kitti:4"}


@pytest.mark.slow
def test_a_chain_runs_there_and_comes_back(azure: Any, client: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = [*WORLD, *TRAIN, "compute=aml_cpu", "compute.wait=true", "gate.accuracy=0", "register=[name=street]"]
    deploy = ["steps=[prepare,train,evaluate,register,deploy]", "deploy=[target=batch,endpoint=crossing]"]
    done = good(pipeline(*words, *deploy, here=here))
    assert "Fetched into" in done.out
    _deployed_as_registered(client, here / "chain")
    registered = json.loads((here / "chain/register/registration.json").read_text())
    assert (registered["name"], registered["version"]) == ("street", "1")
    (version,) = azure.tracking.registry.models["street"]["versions"].values()
    assert "pointseg.alias.candidate" in {tag["key"] for tag in version["tags"]}
    record = json.loads((here / "chain/pipeline.json").read_text())["steps"]
    assert {entry["state"] for entry in record.values()} == {"done"}
    again = good(run("evaluate", "checkpoint=chain/train", "data.root=chain/prepare/store", cwd=here))
    assert "mIoU" in again.out

    azure.tracking.registry.models.clear()
    done = pipeline(
        *words[:-2], "gate.miou=0.99", here=here
    )  # other words of the last step: the others are taken as they are
    assert "the step register ended as Failed: the model does not pass the gate" in done.message
    assert "is below 0.99" in done.message
    assert azure.tracking.registry.models == {}
    jobs = [
        r for r in azure.store.everything() if r["properties"].get("displayName") in ("prepare", "train", "evaluate")
    ]
    ran = [job for job in jobs if job["name"] in azure.jobs.executor.runs]
    assert (len(ran), len(jobs)) == (3, 6)


def _deployed_as_registered(client: Any, folder: Path) -> None:
    """The endpoint's default is of the version that the step before has registered; a second run looks after it again."""
    deployed = json.loads((folder / "deploy/deployment.json").read_text())
    version = json.loads((folder / "register/registration.json").read_text())["version"]
    assert (deployed["target"], deployed["model"]) == ("batch", f"azureml:street:{version}")
    assert client.batch_endpoints.get("crossing").defaults.deployment_name == deployed["deployment"]
    assert yaml.safe_load((folder / "pipeline/components/deploy.yaml").read_text())["is_deterministic"] is False
    packages = yaml.safe_load((folder / "pipeline/conda-deploy.yaml").read_text())["dependencies"][-1]["pip"]
    assert any(line.startswith("azure-ai-ml==") for line in packages)


@pytest.mark.slow
def test_a_step_that_fails_stops_the_later_ones(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = [*WORLD, "synthetic.scans=2", *TRAIN, "compute=aml_cpu", "compute.wait=true"]
    done = pipeline(*words, here=here)  # no scan of sequence 02 is made
    assert "the step train ended as Failed: sequence" in done.message
    assert "Fetched into" in done.out
    assert (here / "chain/prepare/store/store.json").is_file()
    assert not (here / "chain/evaluate").exists()

    azure.faults.add("GET datastores/workspaceartifactstore", 403, after=1)  # following the job looks there as well
    done = pipeline(*words, here=here)
    assert "the step train ended as Failed" in done.message
    assert "reading the words of the step: Azure answered 403" in done.out
    assert "Fetched into" in done.out


# ---- kept there ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_pipeline_is_published_once_and_runs_by_the_clock(azure: Any, cluster: str, here: Path) -> None:
    words = [*SHORT, "publish=nightly", "schedule='0 3 * * MON'", "time_zone='W. Europe Standard Time'"]
    done = good(pipeline(*words, here=here))
    assert "Published nightly, version " in done.out
    azure.calls.assert_order(
        "PUT components/pointseg_prepare/versions/.*",
        "PUT components/pointseg_train/versions/.*",
        "PUT components/nightly/versions/.*",
        "PUT batchEndpoints/nightly",
        "PUT batchEndpoints/nightly/deployments/v-.*",
        "PUT batchEndpoints/nightly",
        "PUT schedules/nightly",
    )
    spec = azure.calls.body("PUT components/nightly/versions/.*")["componentSpec"]
    assert list(spec["jobs"]) == ["prepare", "train"]
    assert "/components/pointseg_train/versions/" in spec["jobs"]["train"]["componentId"]
    deployment = azure.calls.body("PUT batchEndpoints/nightly/deployments/v-.*")
    assert deployment["deploymentConfiguration"]["deploymentConfigurationType"] == "PipelineComponent"
    assert "/components/nightly/versions/" in deployment["deploymentConfiguration"]["componentId"]["assetId"]
    schedule = azure.calls.body("PUT schedules/nightly")
    assert schedule["trigger"]["expression"] == "0 3 * * MON"
    assert schedule["trigger"]["timeZone"] == "W. Europe Standard Time"
    assert schedule["action"]["jobDefinition"]["jobType"] == "Pipeline"

    azure.calls.clear()
    assert "Nothing to do" in good(pipeline(*words, here=here)).out
    assert not azure.calls.matching("PUT (?!codes|environments).*")

    listed = good(pipeline("compute=aml_cpu", "list=true", here=here)).out
    assert "endpoint  nightly  runs v-" in listed
    assert "schedule  nightly  0 3 * * MON W. Europe Standard Time  on" in listed
    good(pipeline("compute=aml_cpu", "disable=nightly", here=here))
    assert "  off" in good(pipeline("compute=aml_cpu", "list=true", here=here)).out
    assert "Job batchjob-" in good(pipeline(*SHORT, "invoke=nightly", here=here)).out
    good(pipeline("compute=aml_cpu", "remove=nightly", here=here))
    assert (
        "schedule" not in good(pipeline("compute=aml_cpu", "list=true", here=here)).out.split("Azure ML workspace")[1]
    )


@pytest.mark.slow
def test_what_is_published_runs_on_request_on_what_is_given_then(
    azure: Any, cluster: str, here: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from azure.ai.ml.constants._endpoint import EndpointInvokeFields as Fields

    monkeypatch.setitem(Fields.DEFAULT_HEADER, Fields.MODEL_DEPLOYMENT, "of-an-earlier-call")  # which the SDK keeps
    words = ["steps=[register]", f"checkpoint={trained_run(tmp_path_factory)}", "compute=aml_cpu"]
    good(pipeline(*words, "gate.accuracy=0.25", "publish=gated", here=here))
    spec = azure.calls.body("PUT components/gated/versions/.*")["componentSpec"]
    assert spec["inputs"] == {"run": {"type": "uri_folder"}, "gate_accuracy": {"type": "number", "default": "0.25"}}
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    done = pipeline(*words, "gate.accuracy=0.99", "invoke=gated", "compute.wait=true", here=here)
    assert "the step register ended as Failed: the model does not pass the gate" in done.message
    assert "is below 0.99" in done.message


@pytest.mark.slow
def test_machines_of_the_jobs_own(azure: Any, here: Path) -> None:
    words = ["compute.cluster=null", "compute.vm_size=Standard_E8s_v5", "compute.spot=true"]
    good(pipeline(*SHORT, *words, here=here))
    body = azure.calls.body("PUT jobs/.*")
    assert body["settings"]["default_compute"].endswith("/computes/serverless")
    assert body["jobs"]["train"]["resources"]["instance_type"] == "Standard_E8s_v5"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "fault", "says"),
    [
        ("PUT components/failing/.*", {"status": 409}, "component failing:1 failed: registering the component"),
        ("PUT batchEndpoints/failing", {"status": 500, "times": 99}, "batch endpoint failing failed"),
        (
            "PUT batchEndpoints/failing/deployments/.*",
            {"operation_error": "no capacity"},
            "deployment v-1 failed: making the deployment",
        ),
        ("PUT schedules/failing", {"status": 403}, "schedule failing failed: making the schedule"),
    ],
)
def test_what_fails_on_the_way_is_said_with_what_was_made(
    call: str, fault: dict[str, Any], says: str, azure: Any, cluster: str, here: Path
) -> None:
    azure.faults.add(call, **fault)
    message = pipeline(*SHORT, "publish=failing", "version=1", "schedule='0 3 * * *'", here=here).message
    assert says in message
    assert "Done before it: " in message


@pytest.mark.slow
def test_azure_asks_to_slow_down(azure: Any, cluster: str, here: Path) -> None:
    azure.faults.add("PUT jobs/.*", 429, times=99, headers={"Retry-After": "0"})
    assert "slow down" in pipeline(*SHORT, here=here).message


@pytest.mark.parametrize(
    "words",
    [
        ["publish=my_net"],
        ["publish=net", "schedule='0 25 * * *'"],
        ["publish=net", "version='a b'"],
        ["schedule='0 3 * * *'"],
    ],
)
def test_what_is_refused_before_anything_is_sent(words: list[str], tmp_path: Path) -> None:
    steps = ["steps=[prepare]", "compute=aml_cpu", "compute.dry_run=true"]
    done = pipeline(*steps, *words, here=tmp_path)
    assert words[-1].partition("=")[0] in done.message


@pytest.mark.parametrize("expression", ["0 3 * * 1", "*/15 * * * *", "0,30 8-18 * * mon-fri", "5 4 * * SUN"])
def test_times_that_azure_takes(expression: str) -> None:
    check_cron(expression)


@pytest.mark.parametrize(
    "expression",
    ["", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 3 1 * *", "0 3 * 5 *", "0 3 * * 7", "5-1 * * * *", "a * * * *"],
)
def test_times_that_it_does_not_take(expression: str) -> None:
    with pytest.raises(ConfigError):
        check_cron(expression)
