"""What Azure would not take of a managed endpoint, or take and not do, is refused by name before anybody is asked."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from online_helpers import online_settings
from verbs import run

from pointseg.azure.endpoints.autoscale import Autoscale
from pointseg.azure.endpoints.deployment import SCORE_DRIVER, copy_scoring_code
from pointseg.azure.endpoints.online import OnlineDeployment
from pointseg.azure.endpoints.online_traffic import Rollout, shifted, traffic_of
from pointseg.azure.names import check_endpoint_name
from pointseg.azure.resources.environments import JobEnvironment
from pointseg.azure.resources.models import ModelAsset
from pointseg.core.errors import ConfigError
from pointseg.workflows.settings.deploy import AutoscaleConfig


def rollout(**changes: Any) -> Rollout:
    return Rollout(**{"steps": [10, 50, 100], "checks": 10, "seconds": 30, "keep_failed": False, **changes})


def autoscale(**changes: Any) -> Autoscale:
    return Autoscale(**{**asdict(AutoscaleConfig()), **changes})


@pytest.mark.parametrize(
    ("values", "key", "says"),
    [
        ({"instance_type": "DS3"}, "managed.instance_type", "Standard_DS3_v2"),
        ({"instances": 0}, "managed.instances", "1 to 50"),
        ({"instances": 51}, "managed.instances", "1 to 50"),
        ({"request_seconds": 181}, "managed.request_seconds", "5 to 180"),
        ({"request_seconds": 2.5}, "managed.request_seconds", "whole number"),
        ({"concurrency": 0}, "managed.concurrency", "1 to"),
        ({"workers": 5, "concurrency": 4}, "managed.workers", "some would never work"),
        ({"liveness": {"period": 0}}, "managed.liveness.period", "1 to"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        online_settings(**values)
    assert str(caught.value.where) == key
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: rollout(steps=[]), "managed.traffic"),
        (lambda: rollout(steps=[10, 50]), "managed.traffic"),
        (lambda: rollout(steps=[50, 10, 100]), "managed.traffic"),
        (lambda: rollout(steps=[10, 10, 100]), "managed.traffic"),
        (lambda: rollout(steps=[0, 100]), "managed.traffic"),
        (lambda: rollout(steps=[10, 110]), "managed.traffic"),
        (lambda: rollout(checks=0), "managed.checks"),
        (lambda: rollout(seconds=-1), "managed.step_seconds"),
        (lambda: rollout(seconds=True), "managed.step_seconds"),
        (lambda: autoscale(max=2, min=3), "managed.autoscale.max"),
        (lambda: autoscale(max=0), "managed.autoscale.max"),
        (lambda: autoscale(cpu_percent=30, low_percent=30), "managed.autoscale.low_percent"),
        (lambda: autoscale(minutes=1), "managed.autoscale.minutes"),
        (lambda: autoscale(max=3, min=2).check_instances(1), "managed.instances"),
    ],
)
def test_plans_that_cannot_be(make: Any, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value.where) == key


@given(seconds=st.integers(5, 180), concurrency=st.integers(1, 64), workers=st.integers(1, 8))
def test_the_services_own_limits_end_before_azures(seconds: int, concurrency: int, workers: int) -> None:
    variables = online_settings(
        request_seconds=seconds, concurrency=max(concurrency, workers), workers=workers
    ).variables
    body, cloud = int(variables["POINTSEG_BODY_SECONDS"]), int(variables["POINTSEG_TIME_LIMIT"])
    assert body >= 1
    assert cloud >= 1
    assert body + cloud < seconds
    threads = int(variables["GUNICORN_CMD_ARGS"].split("--threads ")[1].split()[0])
    assert threads * workers > max(concurrency, workers)


SHARES = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 100), min_size=1, max_size=5)


@given(weights=SHARES, share=st.integers(1, 100))
@settings(max_examples=100)
def test_shares_are_whole_and_add_up_and_others_keep_their_proportions(weights: dict[str, int], share: int) -> None:
    after = shifted(weights, "new", share)
    assert sum(after.values()) == 100
    assert after["new"] == share
    assert all(part > 0 for part in after.values())
    total = sum(weights.values())
    for name, weight in weights.items():
        assert abs(after.get(name, 0) - weight * (100 - share) / total) < 1


def test_a_deployment_without_others_gets_all() -> None:
    assert shifted({}, "new", 10) == {"new": 100}
    assert shifted({"new": 30}, "new", 50) == {"new": 100}
    assert traffic_of(SimpleNamespace(traffic={"a": 0, "b": 100})) == {"b": 100}
    assert traffic_of(SimpleNamespace(traffic=None)) == {}
    assert traffic_of(SimpleNamespace(traffic={"Blue": 100})) == {"blue": 100}  # as the SDK sends it


def test_a_deployment_is_called_after_its_content(tmp_path: Path) -> None:
    environment = JobEnvironment("env", "example.azurecr.io/x:1", "dependencies: []")
    given = online_settings()
    one = OnlineDeployment("street", ModelAsset("net", "1"), environment, tmp_path, "code", given)
    assert check_endpoint_name("name", one.name) == one.name
    for same in ({"instances": 3}, {"auth_mode": "aad"}, {"public_network": "disabled"}):
        assert replace(one, settings=replace(given, **same), code=tmp_path / "elsewhere").name == one.name
    others = {
        one.name,
        replace(one, model=ModelAsset("net", "2")).name,
        replace(one, code_sha256="other").name,
        replace(one, environment=replace(environment, image="example.azurecr.io/x:2")).name,
        replace(one, settings=replace(given, request_seconds=90)).name,
        replace(one, settings=replace(given, concurrency=5)).name,
        replace(one, settings=replace(given, instance_type="Standard_F4s_v2")).name,
        replace(one, settings=replace(given, liveness={**given.liveness, "period": 20})).name,
    }
    assert len(others) == 8


def test_the_code_has_its_script_at_the_root(tmp_path: Path) -> None:
    copy_scoring_code(tmp_path / "code", SCORE_DRIVER)
    assert {path.name for path in (tmp_path / "code").iterdir()} == {"pointseg", SCORE_DRIVER}
    assert "from pointseg.serving.score import init, run" in (tmp_path / "code" / SCORE_DRIVER).read_text()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["endpoint=Street"], "lower-case"),
        (["managed.traffic=[50]"], "managed.traffic"),
        pytest.param(["managed.autoscale.max=2", "managed.instances=3"], "managed.instances", marks=pytest.mark.slow),
        pytest.param(["managed.smoke_scan=nowhere.bin"], "nowhere.bin", marks=pytest.mark.slow),
        pytest.param(["managed.environment=environments/batch.txt"], "inference-server", marks=pytest.mark.slow),
        pytest.param(["managed.image=no image"], "not a valid container image", marks=pytest.mark.slow),
        pytest.param(["managed.keep_failed=maybe"], "keep_failed", marks=pytest.mark.slow),
        pytest.param(["checkpoint=null"], "no checkpoint is given", marks=pytest.mark.slow),
        pytest.param(["managed.request_second=3"], "managed.request_seconds", marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_with_a_deployment_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / ".azureml").mkdir()
    ids = {"subscription_id": "11111111-2222-3333-4444-555555555555", "resource_group": "rg", "workspace_name": "ws-1"}
    (tmp_path / ".azureml/config.json").write_text(json.dumps(ids))
    given = {"endpoint": "street", "checkpoint": "x"} | dict(word.split("=", 1) for word in words)
    done = run("deploy", "target=managed", *(f"{key}={value}" for key, value in given.items()), cwd=tmp_path)
    assert says in done.message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["endpoint=online:Street", "input=."], "lower-case"),
        pytest.param(["endpoint=online:street"], "input", marks=pytest.mark.slow),
        pytest.param(["endpoint=online:street", "input=.", "url=http://127.0.0.1:1"], "url", marks=pytest.mark.slow),
        pytest.param(["endpoint=online:street", "input=.", "wait=true"], "only a batch", marks=pytest.mark.slow),
        pytest.param(["endpoint=street", "input=."], "endpoint=online:NAME", marks=pytest.mark.slow),
    ],
)
def test_what_is_wrong_with_a_call_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    assert says in run("invoke", *words, cwd=tmp_path).message
