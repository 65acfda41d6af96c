"""Managed online endpoints: the script and the real SDK against the stand-in, whose deployments answer as the test says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from azure_fixtures import azure, client, here, running, started
from batch_helpers import write_bundle, write_scans
from online_helpers import (
    ENDPOINT,
    answers,
    changes,
    deploy,
    deployments_now,
    endpoints_now,
    fails,
    register,
    shares_put,
    traffic_now,
)
from verbs import run

from pointseg.azure.endpoints import online_traffic

pytestmark = [pytest.mark.azure, pytest.mark.slow]

FIRST, SECOND, THIRD = (f"checkpoint=azureml:street:{version}" for version in (1, 2, 3))


@pytest.fixture(scope="module")
def models(running: Any, client: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    bundle = write_bundle(tmp_path_factory.mktemp("model") / "bundle")
    register(client, bundle, "1", "2", "3")
    yield bundle
    client.online_endpoints.begin_delete(ENDPOINT).result()


@pytest.fixture
def ready(azure: Any, client: Any, models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three versions of a model that answer; no rules of autoscaling stay."""
    for version, label in (("1", 10), ("2", 40), ("3", 50)):
        azure.scoring.scorers[f"street:{version}"] = answers(f"street/{version}", label)
    monkeypatch.setattr(online_traffic, "WAITS", (0.0, 0.0))
    yield
    azure.faults.clear()
    for one in rules(azure):
        azure.store.delete(one["id"])


@pytest.fixture
def nothing(client: Any, ready: None) -> None:
    """No endpoint."""
    client.online_endpoints.begin_delete(ENDPOINT).result()


_made: list[str] = []


@pytest.fixture
def old(azure: Any, client: Any, here: Path, ready: None) -> str:
    """The deployment of the first version, which has all traffic and stands alone; it is made once for these tests."""
    names = deployments_now(client) if ENDPOINT in endpoints_now(client) else {}
    if not _made or names.get(_made[0]) != "Succeeded":
        client.online_endpoints.begin_delete(ENDPOINT).result()
        assert deploy(here, FIRST).code == 0
        _made[:] = list(deployments_now(client))
    elif traffic_now(client) != {_made[0]: 100} or len(names) > 1:
        endpoint = client.online_endpoints.get(ENDPOINT)
        endpoint.traffic = {_made[0]: 100}
        client.online_endpoints.begin_create_or_update(endpoint).result()
        for name in set(names) - set(_made):
            client.online_deployments.begin_delete(name, ENDPOINT).result()
    azure.calls.clear()
    return _made[0]


def rules(azure: Any) -> list[dict[str, Any]]:
    return [one for one in azure.store.everything() if "/autoscalesettings/" in one["id"].lower()]


def test_the_first_deployment_gets_all_traffic_after_its_smoke_test(
    azure: Any, client: Any, here: Path, nothing: None
) -> None:
    done = deploy(here, FIRST, "managed.smoke_scan=null")
    assert done.code == 0, done.out + done.err
    assert "3 requests of 112,692 points answered" in done.out
    (name,) = _made[:] = list(deployments_now(client))
    assert traffic_now(client) == {name: 100}
    azure.calls.assert_order(
        f"PUT onlineEndpoints/{ENDPOINT}",
        f"PUT onlineEndpoints/{ENDPOINT}/deployments/{name}",
        "POST .*score",
        "PUT .*",
    )
    scored = azure.calls.matching("POST .*score")
    assert scored[0].headers["azureml-model-deployment"] == name
    assert shares_put(azure)[-1] == {name: 100}
    assert f"https://{ENDPOINT}.eastus.inference.ml.azure.com/score" in done.out
    sent = azure.calls.body(f"PUT onlineEndpoints/{ENDPOINT}/deployments/{name}")
    assert sent["requestSettings"] == {"maxConcurrentRequestsPerInstance": 4, "requestTimeout": "PT1M"}
    assert sent["codeConfiguration"]["scoringScript"] == "score.py"
    variables = sent["environmentVariables"]
    assert int(variables["POINTSEG_TIME_LIMIT"]) + int(variables["POINTSEG_BODY_SECONDS"]) < 60
    key = client.online_endpoints.get_keys(ENDPOINT).primary_key
    assert key not in done.out + done.err


def test_an_update_shifts_the_traffic_by_steps_and_again_there_is_nothing_to_do(
    azure: Any, client: Any, here: Path, old: str
) -> None:
    done = deploy(here, SECOND)
    assert done.code == 0, done.out + done.err
    (new,) = set(deployments_now(client)) - {old}
    assert shares_put(azure) == [{old: 90, new: 10}, {old: 50, new: 50}, {new: 100}]
    assert "street/1 9, street/2 1" in done.out
    assert "street/1 5, street/2 5" in done.out
    azure.calls.clear()
    done = deploy(here, SECOND)
    assert "Nothing to do" in done.out, done.out + done.err
    assert changes(azure) == []
    assert not azure.calls.matching("POST .*score")
    assert deploy(here, SECOND, "delete_old=true").code == 0
    assert deployments_now(client) == {new: "Succeeded"}


def test_what_is_collected_is_part_of_the_deployment(azure: Any, here: Path, old: str) -> None:
    done = deploy(here, FIRST, "managed.collect=true", "managed.collect_rate=0.5", "managed.traffic=[100]")
    assert done.code == 0, done.out + done.err
    assert "collects statistics of 50 % of the scans" in done.out
    sent = azure.calls.body(f"PUT onlineEndpoints/{ENDPOINT}/deployments/.*")
    assert sent["dataCollector"]["collections"]["model_inputs"]["dataCollectionMode"].lower() == "enabled"
    assert sent["environmentVariables"]["POINTSEG_COLLECT"] == "azure"
    environment = azure.calls.body("PUT environments/.*")["condaFile"]
    assert "azureml-ai-monitoring==" in environment
    words = ["managed.collect=true", "managed.collect_rate=0.5", "managed.instances=2"]
    done = deploy(here, FIRST, *words)
    assert "machines: 1 -> 2" in done.out, done.out + done.err


@pytest.mark.parametrize(
    ("scorer", "says"),
    [
        (fails(500), "made up by the test"),
        (answers("street/2", short=7), "are not the labels of"),
    ],
    ids=["an error of the server", "labels of other length"],
)
def test_a_smoke_test_that_fails_takes_everything_back(
    azure: Any, client: Any, here: Path, old: str, scorer: Any, says: str
) -> None:
    azure.scoring.scorers["street:2"] = scorer
    azure.scoring.logs["street:2"] = "loading\nValueError: no such bundle\n"
    done = deploy(here, SECOND)
    assert "smoke test" in done.message
    assert says in done.message
    assert "ValueError: no such bundle" in done.message
    assert "the deployment v-" in done.message and "is removed" in done.message
    assert "loading" in done.out
    assert deployments_now(client) == {old: "Succeeded"}
    assert traffic_now(client) == {old: 100}
    assert shares_put(azure) == []


def test_a_check_that_fails_at_half_of_the_traffic_gives_it_back(azure: Any, client: Any, here: Path, old: str) -> None:
    azure.scoring.scorers["street:2"] = fails(500, after=20)  # 3 of the smoke test, 11 at 10 %
    message = deploy(here, SECOND).message
    assert f"the traffic is as before ({old} 100 %)" in message
    assert "is removed" in message
    assert deployments_now(client) == {old: "Succeeded"}
    assert traffic_now(client) == {old: 100}
    assert [len(shares) for shares in shares_put(azure)] == [2, 2, 1]


def test_traffic_among_several_goes_back_as_it_was(azure: Any, client: Any, here: Path, old: str) -> None:
    assert deploy(here, SECOND).code == 0
    one, two = deployments_now(client)
    endpoint = client.online_endpoints.get(ENDPOINT)
    endpoint.traffic = {one: 35, two: 65}
    client.online_endpoints.begin_create_or_update(endpoint).result()
    azure.scoring.scorers["street:3"] = fails(500, after=5)
    azure.calls.clear()
    assert "Taken back" in deploy(here, THIRD).message
    assert traffic_now(client) == {one: 35, two: 65}
    assert set(deployments_now(client)) == {one, two}
    assert sum(shares_put(azure)[0].values()) == 100


def test_a_first_deployment_that_fails_leaves_nothing(azure: Any, client: Any, here: Path, nothing: None) -> None:
    azure.scoring.scorers["street:1"] = fails(500)
    message = deploy(here, FIRST, "managed.autoscale.max=3").message
    assert f"the endpoint {ENDPOINT} of this call is removed" in message
    assert ENDPOINT not in endpoints_now(client)
    assert rules(azure) == []


def test_a_deployment_that_cannot_be_made_is_removed_and_its_log_told(
    azure: Any, client: Any, here: Path, old: str
) -> None:
    azure.scoring.logs["street:2"] = "loading\nImportError: no module\n"
    azure.faults.add("PUT onlineEndpoints/.*/deployments/.*", operation_error="the container crashed")
    message = deploy(here, SECOND).message
    assert "the container crashed" in message
    assert "ImportError: no module" in message
    assert "not done: smoke test" in message
    assert deployments_now(client) == {old: "Succeeded"}


def test_a_failed_deployment_is_kept_where_that_is_asked_for(azure: Any, client: Any, here: Path, old: str) -> None:
    azure.scoring.scorers["street:2"] = fails(500, after=4)
    message = deploy(here, SECOND, "managed.keep_failed=true").message
    assert "is removed" not in message
    assert len(deployments_now(client)) == 2
    assert traffic_now(client) == {old: 100}
    azure.scoring.scorers["street:2"] = answers("street/2")
    done = deploy(here, SECOND)
    assert done.code == 0, done.err
    assert old not in traffic_now(client)


def test_traffic_that_cannot_go_back_is_told(azure: Any, client: Any, here: Path, old: str) -> None:
    azure.scoring.scorers["street:2"] = fails(500, after=4)
    azure.faults.add(f"PUT onlineEndpoints/{ENDPOINT}", 403, after=1)
    message = deploy(here, SECOND).message
    assert "NOT taken back: traffic v-" in message
    assert ", deployment v-" in message
    (new,) = set(deployments_now(client)) - {old}
    assert traffic_now(client) == {old: 90, new: 10}
    azure.faults.clear()
    azure.scoring.scorers["street:2"] = answers("street/2")
    azure.calls.clear()
    done = deploy(here, SECOND)  # it goes on where that ended
    assert done.code == 0, done.err
    assert shares_put(azure) == [{old: 50, new: 50}, {new: 100}]


def test_traffic_that_fails_half_way_is_given_back_at_the_second_attempt(
    azure: Any, client: Any, here: Path, old: str
) -> None:
    azure.faults.add(f"PUT onlineEndpoints/{ENDPOINT}", operation_error="lost its way", times=2)
    message = deploy(here, SECOND).message
    assert "lost its way" in message
    assert f"the traffic is as before ({old} 100 %)" in message
    assert traffic_now(client) == {old: 100}
    assert client.online_endpoints.get(ENDPOINT).provisioning_state == "Succeeded"
    assert deployments_now(client) == {old: "Succeeded"}


def test_ctrl_c_at_half_of_the_traffic_takes_everything_back(
    azure: Any, client: Any, here: Path, old: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:  # of the smoke test, at 10 %, at 50 %
            raise KeyboardInterrupt

    monkeypatch.setattr(online_traffic, "time", SimpleNamespace(sleep=sleep))
    done = deploy(here, SECOND, "managed.checks=2")
    assert done.code == 130, done.out + done.err
    assert "Stopped during: traffic" in done.out
    assert "is removed" in done.out
    assert [len(shares) for shares in shares_put(azure)] == [2, 2, 1]
    assert traffic_now(client) == {old: 100}
    assert deployments_now(client) == {old: "Succeeded"}


@pytest.mark.parametrize(
    ("pattern", "status", "says"),
    [
        ("PUT onlineEndpoints/[^/]+", 401, "does not accept the sign-in"),
        ("PUT onlineEndpoints/[^/]+", 403, "AzureML Data Scientist"),
        ("PUT onlineEndpoints/[^/]+", 409, "409"),
        ("POST onlineEndpoints/[^/]+/listkeys", 403, "asking for the address and key"),
        ("GET onlineEndpoints/[^/]+", 0, "cannot be reached"),
    ],
)
def test_what_azure_refuses_is_said_plainly(
    azure: Any, client: Any, here: Path, nothing: None, pattern: str, status: int, says: str
) -> None:
    azure.faults.add(f"(?i:{pattern})", status)
    assert says in deploy(here, FIRST).message
    azure.faults.clear()
    assert ENDPOINT not in endpoints_now(client)


def test_a_plan_sends_nothing_and_tells_the_cost(azure: Any, client: Any, here: Path, old: str) -> None:
    done = deploy(here, SECOND, "plan=true", "managed.instances=3", "delete_old=true", "managed.autoscale.max=4")
    assert done.code == 0, done.err
    assert changes(azure) == []
    assert not azure.calls.matching("POST .*score")
    for words in (
        "cost: 3 x Standard_DS3_v2",
        "the quota must allow 4",
        "paid for beside it",
        "100 % -> v-",
        "delete",
        "1 to 4 machines",
    ):
        assert words in done.out


def test_what_an_endpoint_cannot_become_is_refused(azure: Any, client: Any, here: Path, old: str) -> None:
    assert "callers rely on that" in deploy(here, FIRST, "managed.auth_mode=aad").message
    (name,) = deployments_now(client)
    place = next(one["id"] for one in azure.store.everything() if one["id"].endswith(f"/deployments/{name}"))
    azure.store.change(place, provisioningState="Updating")
    assert "another command is changing it" in deploy(here, FIRST).message
    azure.store.change(place, provisioningState="Succeeded")


def test_invoke_finds_address_and_key(azure: Any, client: Any, here: Path, old: str) -> None:
    scans = write_scans(here / "scans").root
    assert "no such online endpoint" in run("invoke", "endpoint=online:other", f"input={scans}", cwd=here).message
    words = [f"endpoint=online:{ENDPOINT}", f"input={scans}"]
    done = run("invoke", *words, "output=labels", cwd=here)
    assert done.code == 0, done.out + done.err
    assert len(list((here / "labels").rglob("*.label"))) == 6
    assert client.online_endpoints.get_keys(ENDPOINT).primary_key not in done.out + done.err
    assert deploy(here, SECOND).code == 0
    done = run("invoke", *words, f"deployment={old}", cwd=here)
    assert "model street/1" in done.out, done.out + done.err
    assert "model street/2" in run("invoke", *words, cwd=here).out
    assert "looked up" in run("invoke", *words, "key=abc", cwd=here).message


def test_callers_with_tokens_in_place_of_keys(azure: Any, client: Any, here: Path, nothing: None) -> None:
    done = deploy(here, FIRST, "managed.auth_mode=aad")
    assert done.code == 0, done.out + done.err
    assert not azure.calls.matching("POST .*listkeys")
    assert "Nothing to do" in deploy(here, FIRST, "managed.auth_mode=aad").out
    scans = write_scans(here / "scans").root
    done = run("invoke", f"endpoint=online:{ENDPOINT}", f"input={scans}", cwd=here)
    assert "model street/1" in done.out, done.out + done.err


def test_machines_and_rules_of_autoscaling_change_in_place(azure: Any, client: Any, here: Path, nothing: None) -> None:
    assert deploy(here, FIRST, "managed.autoscale.max=3").code == 0
    (name,) = deployments_now(client)
    (rule,) = rules(azure)
    assert rule["properties"]["targetResourceUri"].endswith(f"/deployments/{name}")
    capacity = rule["properties"]["profiles"][0]["capacity"]
    assert capacity == {"minimum": "1", "maximum": "3", "default": "1"}
    azure.calls.clear()
    assert "Nothing to do" in deploy(here, FIRST, "managed.autoscale.max=3").out
    assert "1/1 updated: autoscale" in deploy(here, FIRST, "managed.autoscale.max=5").out
    assert rules(azure)[0]["properties"]["profiles"][0]["capacity"]["maximum"] == "5"
    done = deploy(here, FIRST, "managed.instances=2")
    assert "machines: 1 -> 2" in done.out, done.out + done.err
    assert rules(azure) == []
    assert client.online_deployments.get(name, ENDPOINT).instance_count == 2
    assert list(deployments_now(client)) == [name]
    assert deploy(here, FIRST, "managed.instances=2", "managed.autoscale.max=3").code == 0
    (rule,) = rules(azure)
    azure.store.put(f"{rule['id']}-theirs", {**rule, "tags": {"team": "maps"}})
    assert deploy(here, SECOND, "delete_old=true").code == 0
    assert [one["tags"] for one in rules(azure)] == [{"team": "maps"}]


def test_an_endpoint_of_somebody_else_is_left_alone(azure: Any, client: Any, here: Path, nothing: None) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint

    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=ENDPOINT)).result()
    azure.calls.clear()
    assert "not made from here" in deploy(here, FIRST).message
    assert changes(azure) == []
