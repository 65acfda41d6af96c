"""What the stand-in for Azure ML refuses, and how it fails where a test wants it to: the real SDK tells."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, running, scans, started
from azure_helpers import command_job

pytestmark = [pytest.mark.azure, pytest.mark.slow]


def put(client: Any, kind: str, name: str, body: dict[str, Any]) -> Any:
    """A body as it is, sent by the SDK's own client of the interface."""
    operations = {"jobs": client.jobs.service_client_01_2025_preview.jobs, "computes": client.compute._operation}[kind]
    words = {"resource_group_name": "rg-tests", "workspace_name": "ws-tests"}
    if kind == "computes":
        return operations.begin_create_or_update(compute_name=name, body=body, **words).result()
    return operations.create_or_update(id=name, body=body, **words)


GOOD = {
    "jobType": "Command",
    "command": "true",
    "environmentId": "azureml://registries/azureml/environments/e/versions/1",
}


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"shmSize": "2g"}, "JobBase.properties.shmSize: CommandJob has no such field"),
        ({"command": None}, "JobBase.properties.command: CommandJob requires it"),
        ({"resources": {"instanceCount": "2"}}, "instanceCount: a string where int is due"),
        ({"limits": {"jobLimitsType": "Command", "timeout": "3600"}}, "timeout: '3600' is no duration"),
        (
            {"distribution": {"distributionType": "Torch"}},
            "distributionType 'Torch' is none of Mpi, PyTorch, TensorFlow",
        ),
        (
            {"inputs": {"a": {"jobInputType": "uri_folder", "uri": "u", "mode": "Mounted"}}},
            "'Mounted' is none of ReadOnlyMount",
        ),
        ({"tags": {"a": 1}}, "tags.a: a number where str is due"),
        ({"queueSettings": "Spot"}, "queueSettings: CommandJob has no such field"),
        ({"codeId": "/codes/none"}, None),
        ({"command": "echo ${{inputs.nope}}"}, "inputs.nope}} in the command is not defined"),
    ],
)
def test_a_body_off_the_published_models_is_refused(
    azure: Any, client: Any, extra: dict[str, Any], expected: str | None
) -> None:
    from azure.core.exceptions import HttpResponseError

    name = f"job-{abs(hash(str(extra)))}"
    if expected is None:
        put(client, "jobs", name, {"properties": GOOD | extra})
        return
    with pytest.raises(HttpResponseError) as refused:
        put(client, "jobs", name, {"properties": GOOD | extra})
    assert refused.value.status_code == 400
    assert expected in str(refused.value)
    assert refused.value.error.details


def test_ids_that_lead_nowhere_are_refused(azure: Any, client: Any, code: Path) -> None:
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match="computes/no-such-cluster does not exist"):
        client.jobs.create_or_update(command_job(code, "no-such-cluster"))


def test_code_that_was_not_uploaded_is_refused(azure: Any, client: Any) -> None:
    import requests

    headers = {"Authorization": f"Bearer {azure.credential.get_token('https://management.azure.com/.default').token}"}
    url = f"https://management.azure.com{azure.arm.scope.workspace(azure.workspace)}/codes/none/versions/1"
    place = f"{azure.blobs.url}/upload-none/code"
    body = {"properties": {"codeUri": place, "properties": {}}}
    answer = requests.put(f"{url}?api-version=2023-04-01", json=body, headers=headers, timeout=10)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, f"No completed upload at {place}.")


def test_calls_out_of_order_are_noticed(azure: Any, client: Any, cluster: str) -> None:
    client.compute.get(cluster)
    client.datastores.get("workspaceblobstore")
    azure.calls.assert_order("GET computes/.*", "GET datastores/.*")
    with pytest.raises(AssertionError, match="is missing or too early"):
        azure.calls.assert_order("GET datastores/.*", "GET computes/.*")


def test_a_job_keeps_its_command(azure: Any, client: Any) -> None:
    from azure.core.exceptions import HttpResponseError

    put(client, "jobs", "once", {"properties": GOOD})
    with pytest.raises(HttpResponseError, match="A job with this name already exists"):
        put(client, "jobs", "once", {"properties": GOOD | {"command": "false"}})


def test_a_call_without_a_token_or_with_an_old_condition_is_refused(azure: Any, client: Any, cluster: str) -> None:
    import requests

    url = f"https://management.azure.com{azure.arm.scope.workspace(azure.workspace)}/computes/{cluster}?api-version=2023-04-01"
    assert requests.get(url, timeout=10).status_code == 401
    token = azure.credential.get_token("https://management.azure.com/.default").token
    headers = {"Authorization": f"Bearer {token}"}
    found = requests.get(url, headers=headers, timeout=10).headers
    body = {"properties": {"properties": {"scaleSettings": {"maxNodeCount": 3}}}}
    for condition, expected in (('"old"', 412), (found["ETag"], 200)):
        headers["If-Match"] = condition
        assert requests.patch(url, json=body, headers=headers, timeout=10).status_code == expected
    assert (
        requests.get(url.split("?")[0], headers=headers, timeout=10).json()["error"]["code"]
        == "MissingApiVersionParameter"
    )


def test_what_the_stand_in_does_not_know_is_no_404(azure: Any, client: Any) -> None:
    import requests

    token = azure.credential.get_token("https://management.azure.com/.default").token
    for host, path in (
        ("management.azure.com", "/subscriptions"),
        ("eastus.api.azureml.ms", "/x"),
        ("ml.azure.com", "/"),
    ):
        answer = requests.get(
            f"https://{host}{path}?api-version=1", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (501, "NotInStandIn")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, "ClientAuthenticationError"),
        (403, "HttpResponseError"),
        (404, "ResourceNotFoundError"),
        (409, "ResourceExistsError"),
        (412, "HttpResponseError"),
        (429, "HttpResponseError"),
        (500, "HttpResponseError"),
        (0, "ServiceResponseError"),
    ],
)
def test_a_fault_is_the_error_that_the_sdk_has_for_it(azure: Any, status: int, error: str) -> None:
    import azure.core.exceptions as known

    fault = azure.faults.add("GET computes/broken", status, message="it broke")
    with pytest.raises(known.AzureError) as raised:
        azure.client(retry_total=0).compute.get("broken")
    assert type(raised.value).__name__ == error
    assert fault.met >= 1
    if status:
        assert "it broke" in str(raised.value)
        assert raised.value.status_code == status


@pytest.mark.slow
def test_the_sdk_waits_and_asks_again(azure: Any, client: Any, cluster: str) -> None:
    azure.faults.add(f"GET computes/{cluster}", 429, times=1, headers={"Retry-After": "1"})
    azure.faults.add(f"GET computes/{cluster}", 500, times=1)
    azure.faults.add(f"GET computes/{cluster}", 0, times=1)
    assert client.compute.get(cluster).name == cluster
    assert [call.status for call in azure.calls] == [429, 500, 0, 200]


def test_a_slow_operation_fails_at_its_end(azure: Any, client: Any) -> None:
    from azure.ai.ml.entities import AmlCompute
    from azure.core.exceptions import HttpResponseError

    azure.faults.add("PUT computes/late", operation_error="out of quota", polls=4)
    poller = client.compute.begin_create_or_update(AmlCompute(name="late", size="Standard_D4s_v3"))
    with pytest.raises(HttpResponseError, match="out of quota"):
        poller.result()
    assert len(azure.calls.matching(".*mfeOperationsStatus/.*")) == 5
    assert client.compute.get("late").provisioning_state == "Failed"


def test_other_names_are_refused_here_and_in_children(azure: Any) -> None:
    program = (
        "import socket\n"
        "print(socket.getaddrinfo('management.azure.com', 443)[0][4])\n"
        "for name, port in (('example.com', 443), ('169.254.169.254', 80), ('management.azure.com', 80)):\n"
        "    try:\n        socket.getaddrinfo(name, port)\n    except socket.gaierror as error:\n        print(error.args[1])\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == f"('127.0.0.1', {azure.server.port})"
    assert [line.split()[-1] for line in said[1:3]] == ["example.com", "169.254.169.254"]
    assert "only that" in said[3]


@pytest.mark.slow
def test_it_ends_what_it_started(running: Any) -> None:
    import os
    import socket

    import psutil
    from stand_in.stand_in import StandIn

    before = dict(os.environ), socket.getaddrinfo, psutil.Process().children()
    with StandIn() as second:
        folder = second.folder
        assert len(psutil.Process().children()) == len(before[2]) + 1
    assert (dict(os.environ), psutil.Process().children()) == (before[0], before[2])
    assert not folder.exists()


@pytest.mark.slow
def test_azurite_ends_with_a_process_that_is_killed(running: Any) -> None:
    import psutil

    program = "import sys, time; from stand_in.stand_in import StandIn\nwith StandIn() as s: print(s.blobs.port, flush=True); time.sleep(600)"
    killed = subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None and killed.stdout.readline()
    (azurite,) = psutil.Process(killed.pid).children()
    killed.kill()
    killed.communicate()
    azurite.wait(20)
