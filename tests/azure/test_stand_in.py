"""What the stand-in for Azure ML takes from the real MLClient, and what it keeps of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, running, scans, started
from azure_helpers import batch_deployment, command_job, environment, online_deployment

pytestmark = [pytest.mark.azure, pytest.mark.slow]


def test_a_command_job_is_its_snapshot_its_environment_and_its_body(
    azure: Any, client: Any, cluster: str, code: Path, scans: Path
) -> None:
    from azure.ai.ml import Input, Output
    from azure.ai.ml.entities import JobResourceConfiguration, UserIdentityConfiguration

    job = command_job(
        code,
        cluster,
        command="python main.py --data ${{inputs.scans}} --epochs ${{inputs.epochs}} --out ${{outputs.run}}",
        inputs={"scans": Input(type="uri_folder", path=str(scans), mode="ro_mount"), "epochs": 3},
        outputs={"run": Output(type="uri_folder")},
        distribution={"type": "pytorch", "process_count_per_instance": 2},
        instance_count=2,
        shm_size="8g",
        timeout=3600,
        environment_variables={"A": "1"},
        identity=UserIdentityConfiguration(),
        queue_settings={"job_tier": "spot"},
    )
    assert isinstance(job.resources, JobResourceConfiguration)
    sent = client.jobs.create_or_update(job)

    azure.calls.assert_order(
        r"GET codes/[^/]+/versions",
        r"POST codes/[^/]+/versions/1/startPendingUpload",
        r"PUT codes/[^/]+/versions/1",
        r"PUT environments/[^/]+/versions/[^/]+",
        rf"PUT jobs/{sent.name}",
    )
    body = azure.calls.body(r"PUT jobs/.*")
    assert body["jobType"] == "Command"
    assert body["distribution"] == {"distributionType": "PyTorch", "processCountPerInstance": 2}
    assert (body["resources"]["instanceCount"], body["resources"]["shmSize"]) == (2, "8g")
    assert body["limits"]["timeout"] == "PT1H"
    assert body["queueSettings"]["jobTier"].lower() == "spot"
    assert body["inputs"]["scans"]["mode"] == "ReadOnlyMount"
    assert body["inputs"]["epochs"] == {"jobInputType": "literal", "value": "3"}
    snapshot = azure.calls.body(r"PUT codes/.*")["codeUri"]
    assert f"PUT {azure.blobs.split(snapshot)[0]}/code/main.py" in azure.blobs.calls
    assert [name.rsplit("/", 1)[1] for name in azure.blobs.list(*azure.blobs.split(snapshot))] == ["main.py"]


def test_an_unchanged_snapshot_is_not_sent_again(azure: Any, client: Any, cluster: str, code: Path) -> None:
    for _ in range(2):
        client.jobs.create_or_update(command_job(code, cluster))
    assert len(azure.calls.matching("PUT codes/.*")) == 1
    assert len(azure.calls.matching("PUT jobs/.*")) == 2
    first, second = (call.body["properties"]["codeId"] for call in azure.calls.matching("PUT jobs/.*"))
    assert first == second


def test_a_sweep(azure: Any, client: Any, cluster: str, code: Path) -> None:
    from azure.ai.ml.sweep import BanditPolicy, Choice, LogUniform

    trial = command_job(
        code, cluster, command="python main.py --lr ${{inputs.lr}} --b ${{inputs.b}}", inputs={"lr": 0.1, "b": 1}
    )
    job = trial(lr=LogUniform(-7, -2), b=Choice([8, 16])).sweep(
        primary_metric="val/miou",
        goal="maximize",
        sampling_algorithm="random",
        early_termination_policy=BanditPolicy(slack_factor=0.1, evaluation_interval=1),
    )
    job.set_limits(max_total_trials=8, max_concurrent_trials=2, timeout=7200)
    client.jobs.create_or_update(job)
    body = azure.calls.body("PUT jobs/.*")
    assert body["jobType"] == "Sweep"
    assert set(body["searchSpace"]) == {"lr", "b"}
    assert body["objective"] == {"goal": "maximize", "primaryMetric": "val/miou"}


def test_a_pipeline_of_five_steps(azure: Any, client: Any, cluster: str, code: Path, scans: Path) -> None:
    from azure.ai.ml import Input, Output, dsl

    def step(name: str) -> Callable[..., Any]:
        return command_job(
            code,
            cluster,
            name=name,
            command="python main.py ${{inputs.given}} ${{outputs.made}}",
            inputs={"given": Input(type="uri_folder")},
            outputs={"made": Output(type="uri_folder")},
        )

    names = ["prepare", "train", "evaluate", "export", "report"]

    @dsl.pipeline(default_compute=cluster)
    def life(raw):  # the SDK reads annotations, and knows only its own
        given = raw
        for name in names:
            given = step(name)(given=given).outputs.made

    client.jobs.create_or_update(life(raw=Input(type="uri_folder", path=str(scans))), experiment_name="life")
    body = azure.calls.body("PUT jobs/.*")
    assert body["jobType"] == "Pipeline"
    assert len(body["jobs"]) == len(names)


def test_a_cluster_is_made_and_changed(azure: Any, client: Any) -> None:
    from azure.ai.ml.entities import AmlCompute

    cluster = AmlCompute(
        name="gpu", size="Standard_NC4as_T4_v3", max_instances=2, tier="low_priority", idle_time_before_scale_down=120
    )
    assert client.compute.begin_create_or_update(cluster).result().provisioning_state == "Succeeded"
    found = client.compute.get("gpu")
    found.max_instances = 5
    client.compute.begin_update(found).result()
    assert client.compute.get("gpu").max_instances == 5
    client.compute.begin_delete("gpu").result()
    assert "gpu" not in [each.name for each in client.compute.list()]


def test_data_assets_get_their_files_and_the_next_version(azure: Any, client: Any, scans: Path) -> None:
    from azure.ai.ml.entities import Data

    asset = client.data.create_or_update(Data(name="scans", path=str(scans), type="uri_folder", tags={"kind": "raw"}))
    place = asset.path.split("/datastores/workspaceblobstore/paths/")[1]
    container = client.datastores.get("workspaceblobstore").container_name
    assert [*azure.blobs.list(container, place)] == [f"{place.rstrip('/')}/0.bin"]
    (scans / "1.bin").write_bytes(b"more")
    assert (
        asset.version,
        client.data.create_or_update(Data(name="scans", path=str(scans), type="uri_folder")).version,
    ) == ("1", "2")
    assert client.data.get("scans", label="latest").version == "2"


@pytest.mark.slow
def test_an_mltable(azure: Any, client: Any, scans: Path) -> None:
    from azure.ai.ml.entities import Data

    (scans / "MLTable").write_text(
        "type: mltable\npaths:\n  - folder: .\ntransformations:\n  - read_delimited: {delimiter: ','}\n"
    )
    client.data.create_or_update(Data(name="table", version="7", path=str(scans), type="mltable"))
    assert azure.calls.body("PUT data/table/versions/7")["dataType"] == "mltable"


@pytest.mark.parametrize("kind", ["custom_model", "mlflow_model"])
def test_a_model(azure: Any, client: Any, scans: Path, kind: str) -> None:
    from azure.ai.ml.entities import Model

    if kind == "mlflow_model":
        (scans / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: none\n")
    for expected in ("1", "2"):
        made = client.models.create_or_update(
            Model(name=f"net-{kind}", path=str(scans), type=kind, tags={"miou": "0.5"})
        )
        assert made.version == expected
    assert client.models.get(f"net-{kind}", label="latest").type == kind
    assert [model.version for model in client.models.list(f"net-{kind}")] == ["2", "1"]


def test_an_environment(azure: Any, client: Any, code: Path) -> None:
    named = environment(code)
    named.name, named.version = "pointseg", "3"
    client.environments.create_or_update(named)
    assert "conda-forge" in azure.calls.body("PUT environments/pointseg/versions/3")["condaFile"]
    assert client.environments.get("pointseg", "3").image == named.image


@pytest.mark.slow
def test_traffic_moves_from_blue_to_green(azure: Any, client: Any, code: Path, scans: Path) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint, Model
    from azure.core.exceptions import HttpResponseError

    model = Model(name="net", path=str(scans))
    endpoint = ManagedOnlineEndpoint(name="points", auth_mode="key")
    client.online_endpoints.begin_create_or_update(endpoint).result()
    for name in ("blue", "green"):
        client.online_deployments.begin_create_or_update(online_deployment(name, "points", code, model)).result()
    endpoint.traffic = {"blue": 90, "green": 10}
    assert client.online_endpoints.begin_create_or_update(endpoint).result().traffic == {"blue": 90, "green": 10}
    assert client.online_endpoints.get_keys("points").primary_key

    with pytest.raises(HttpResponseError, match="gets 90 % of the traffic"):
        client.online_deployments.begin_delete("blue", "points").result()
    endpoint.traffic = {"green": 110}
    with pytest.raises(HttpResponseError, match="traffic sums to 110"):
        client.online_endpoints.begin_create_or_update(endpoint).result()
    endpoint.traffic = {"red": 100}
    with pytest.raises(HttpResponseError, match="deployment red, which does not exist"):
        client.online_endpoints.begin_create_or_update(endpoint).result()
    endpoint.traffic = {"green": 100}
    client.online_endpoints.begin_create_or_update(endpoint).result()
    client.online_deployments.begin_delete("blue", "points").result()
    assert [each.name for each in client.online_deployments.list("points")] == ["green"]
    client.online_endpoints.begin_delete("points").result()
    assert "points" not in [each.name for each in client.online_endpoints.list()]


def test_a_batch_endpoint(azure: Any, client: Any, cluster: str, code: Path, scans: Path) -> None:
    from azure.ai.ml.entities import BatchEndpoint

    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="many-points")).result()
    client.batch_deployments.begin_create_or_update(batch_deployment("many-points", cluster, code, scans)).result()
    endpoint = client.batch_endpoints.get("many-points")
    endpoint.defaults.deployment_name = "first"
    client.batch_endpoints.begin_create_or_update(endpoint).result()
    assert client.batch_endpoints.get("many-points").defaults.deployment_name == "first"


def test_a_schedule(azure: Any, client: Any, cluster: str, code: Path) -> None:
    from azure.ai.ml import dsl
    from azure.ai.ml.entities import CronTrigger, JobSchedule

    train = command_job(code, cluster, name="train")

    @dsl.pipeline(default_compute=cluster)
    def nightly():  # the SDK schedules pipelines only
        train()

    schedule = JobSchedule(name="nightly", trigger=CronTrigger(expression="0 3 * * *"), create_job=nightly())
    assert client.schedules.begin_create_or_update(schedule).result().provisioning_state == "Succeeded"
    assert azure.calls.body("PUT schedules/nightly")["trigger"]["expression"] == "0 3 * * *"
    client.schedules.begin_disable("nightly").result()
    assert client.schedules.get("nightly").is_enabled is False


def test_a_job_goes_on_and_is_canceled(azure: Any, client: Any, cluster: str, code: Path) -> None:
    azure.jobs.script("*", "Starting", "Running")
    job = client.jobs.create_or_update(command_job(code, cluster))
    assert [client.jobs.get(job.name).status for _ in range(3)] == ["Starting", "Running", "Running"]
    client.jobs.begin_cancel(job.name).result()
    assert client.jobs.get(job.name).status == "Canceled"
    azure.calls.assert_order(f"POST jobs/{job.name}/cancel", r".*/mfeOperationResults/.*")


def test_a_workspace_is_provisioned(azure: Any, client: Any) -> None:
    from azure.ai.ml.entities import Workspace

    storage = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a"
    made = client.workspaces.begin_create(
        Workspace(name="ws-second", location="eastus", storage_account=storage)
    ).result()
    assert made.discovery_url.startswith("https://eastus.api.azureml.ms/")
    assert {workspace.name for workspace in client.workspaces.list()} == {"ws-tests", "ws-second"}
    containers = [azure.client().datastores.get("workspaceblobstore").container_name]
    azure.workspace = "ws-second"
    try:
        containers.append(azure.client().datastores.get("workspaceblobstore").container_name)
    finally:
        del azure.workspace
    assert containers[0] != containers[1]
    client.workspaces.begin_delete("ws-second", delete_dependent_resources=False).result()
    assert [workspace.name for workspace in client.workspaces.list()] == ["ws-tests"]


def test_a_model_comes_from_a_job_that_exists(azure: Any, client: Any, cluster: str, code: Path) -> None:
    from azure.ai.ml.entities import Model
    from azure.core.exceptions import HttpResponseError

    job = client.jobs.create_or_update(command_job(code, cluster))
    path = f"azureml://jobs/{job.name}/outputs/artifacts/paths/model/"
    assert client.models.create_or_update(Model(name="of-a-job", path=path, type="mlflow_model")).path == path
    with pytest.raises(HttpResponseError, match="jobs/no_such_job does not exist"):
        client.models.create_or_update(
            Model(name="of-a-job", path=path.replace(job.name, "no_such_job"), type="mlflow_model")
        )


def test_archived_things_are_not_listed(azure: Any, client: Any, cluster: str, code: Path, scans: Path) -> None:
    from azure.ai.ml.entities import Model

    job = client.jobs.create_or_update(command_job(code, cluster))
    client.jobs.archive(job.name)
    assert job.name not in [each.name for each in client.jobs.list()]
    for _ in range(2):
        client.models.create_or_update(Model(name="old", path=str(scans)))
    client.models.archive("old", "1")
    assert [model.version for model in client.models.list("old")] == ["2"]


@pytest.mark.slow
def test_endpoints_answer_with_their_keys_only(azure: Any, client: Any, cluster: str, code: Path, scans: Path) -> None:
    import requests
    from azure.ai.ml import Input
    from azure.ai.ml.entities import BatchEndpoint, ManagedOnlineEndpoint, Model
    from stand_in.messages import Answer

    endpoint = client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="scored", auth_mode="key")
    ).result()
    deployment = online_deployment("blue", "scored", code, Model(name="net", path=str(scans)))
    client.online_deployments.begin_create_or_update(deployment).result()
    azure.scoring.scorers["blue"] = lambda request: Answer(200, {"points": len(request.raw)})
    body = scans / "request.json"
    body.write_text("[1]")
    with pytest.raises(Exception, match="No deployment for this call"):  # no traffic yet
        client.online_endpoints.invoke("scored", request_file=str(body))
    endpoint.traffic = {"blue": 100}
    client.online_endpoints.begin_create_or_update(endpoint).result()
    assert client.online_endpoints.invoke("scored", request_file=str(body)) == '{"points": 3}'
    assert requests.post(endpoint.scoring_uri, data=bytes(7), timeout=10).status_code == 401
    key = client.online_endpoints.get_keys("scored").primary_key
    answer = requests.post(endpoint.scoring_uri, data=bytes(7), headers={"Authorization": f"Bearer {key}"}, timeout=10)
    assert answer.json() == {"points": 7}

    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="scored-many")).result()
    client.batch_deployments.begin_create_or_update(batch_deployment("scored-many", cluster, code, scans)).result()
    place = Input(type="uri_folder", path="azureml://datastores/workspaceblobstore/paths/scans")
    job = client.batch_endpoints.invoke("scored-many", deployment_name="first", inputs={"scans": place})
    assert client.jobs.get(job.name).status == "Starting"
