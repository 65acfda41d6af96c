"""What carries the tag is listed and removed, in an order that works; what does not is left alone."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from azure_helpers import command_job, environment, online_deployment
from verbs import Done, run, succeed

from pointseg.azure.steps import Step, carry_out
from pointseg.azure.tags import made_by_pointseg

pytestmark = pytest.mark.azure
TAG = {"made_by": "pointseg"}


def teardown(here: Path, *words: str) -> Done:
    return run("teardown", *words, cwd=here)


class Terminal(io.StringIO):
    """Somebody at a keyboard, who has typed this."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def made(azure: Any, client: Any, cluster: str, code: Path, scans: Path) -> Iterator[str]:
    """An endpoint of each kind with the tag, and one without; a schedule, a cluster and a model; gives its name."""
    from azure.ai.ml.entities import (
        AmlCompute,
        BatchEndpoint,
        CronTrigger,
        JobSchedule,
        ManagedOnlineEndpoint,
        Model,
    )

    ours = f"ours-{code.parent.name[-12:].strip('-_')}"
    model = client.models.create_or_update(Model(name=ours, version="1", path=str(scans), tags=TAG))
    client.models.create_or_update(Model(name=ours, version="2", path=str(scans)))
    for name, tags in (("street", TAG), ("others", {"team": "maps"})):
        client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name=name, tags=tags)).result()
        deployment = online_deployment("blue", name, code, model)
        deployment.tags = tags
        client.online_deployments.begin_create_or_update(deployment).result()
        endpoint = client.online_endpoints.get(name)
        endpoint.traffic = {"blue": 100}
        client.online_endpoints.begin_create_or_update(endpoint).result()
    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="street-batch", tags=TAG)).result()
    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="batch-others")).result()
    for name, tags in (("nightly", {"made-by": "pointseg.pipeline"}), ("mine", {})):
        job = pipeline_job(code, cluster)
        trigger = CronTrigger(expression="0 3 * * *")
        schedule = JobSchedule(name=name, trigger=trigger, create_job=job, tags=tags)
        client.schedules.begin_create_or_update(schedule).result()
    machines = AmlCompute(name="ours-cluster", size="Standard_D4s_v3", max_instances=2, tags=TAG)
    client.compute.begin_create_or_update(machines).result()
    azure.calls.clear()
    yield ours
    azure.faults.clear()
    for name in ("street", "others"):
        client.online_endpoints.begin_delete(name=name).result()
    for name in ("street-batch", "batch-others"):
        client.batch_endpoints.begin_delete(name=name).result()
    for name in ("nightly", "mine"):
        client.schedules.begin_delete(name).result()
    client.compute.begin_delete("ours-cluster").result()


def pipeline_job(code: Path, cluster: str) -> Any:
    from azure.ai.ml.dsl import pipeline

    step = command_job(code, cluster, name="step")

    @pipeline(default_compute=cluster)
    def nightly() -> None:
        step()

    return nightly()


def names(operations: Any) -> set[str]:
    return {one.name for one in operations.list()}


def changed(azure: Any) -> list[str]:
    return [call.short for call in azure.calls.matching("(PUT|PATCH|DELETE) .*")]


def test_a_tag_is_known_in_both_its_forms() -> None:
    assert made_by_pointseg({"made_by": "pointseg", "x": "y"})
    assert made_by_pointseg({"made-by": "pointseg.pipeline"})
    assert not made_by_pointseg({"made_by": "somebody"})
    assert not made_by_pointseg(None)


def test_steps_wait_for_an_agreement() -> None:
    done: list[int] = []
    step = Step("endpoint", "x", "delete", (), lambda: done.append(1))
    carry_out([step], plan=False, agreed=lambda number: False)
    assert done == []
    carry_out([step], plan=False, agreed=lambda number: number == 1)
    assert done == [1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "nobody can be asked here"),
        (["only=[endpoint]"], "there is no 'endpoint'"),
        (["endpoint=street", "clusters=true", "yes=true"], "belong to no endpoint"),
        (["yes=true"], "workspace"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert says in teardown(tmp_path, *words).message


@pytest.mark.slow
def test_what_is_ours_goes_and_nothing_else(
    azure: Any, client: Any, here: Path, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = succeed(teardown(here, "plan=true"))
    assert ["delete", "online", "endpoint", "street"] in [line.split() for line in done.out.splitlines()]
    assert "its machines cost as long as they exist (blue: 1 x Standard_DS3_v2)" in done.out
    assert "4 steps to do" not in done.out
    assert "3 steps to do" in done.out
    assert "others" not in done.out
    assert "clusters=true deletes it" in done.out
    assert changed(azure) == []
    monkeypatch.setattr(sys, "stdin", Terminal("\n"))
    done = succeed(teardown(here))
    assert "Remove these 3 things? [y/N]" in done.out
    assert "Nothing was changed." in done.out
    assert changed(azure) == []
    azure.faults.add("GET .*containerGroups.*", 403)
    azure.faults.add("DELETE onlineEndpoints/.*", 403)
    refused = teardown(here, "yes=true")
    assert "Not looked for: container groups" in refused.out + refused.err
    message = refused.message
    assert "403" in message
    assert "Done before it: schedule nightly (deleted); not done: batch endpoint street-batch" in message
    azure.faults.clear()
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert "Remove these 2 things?" in succeed(teardown(here)).out  # the same call goes on
    assert (names(client.online_endpoints), names(client.batch_endpoints)) == ({"others"}, {"batch-others"})
    assert names(client.schedules) == {"mine"}
    assert "ours-cluster" in names(client.compute)
    done = succeed(teardown(here, "yes=true", "clusters=true", "assets=true", "only=[clusters]"))
    assert "archive  model" in done.out
    assert "1 version: 1" in done.out
    assert "ours-cluster" not in names(client.compute)
    assert "cpu-cluster" in names(client.compute)
    assert [one.version for one in client.models.list(name=made)] == ["2"]
    assert "Nothing here carries the tag" in succeed(teardown(here, "yes=true", "assets=true")).out


@pytest.mark.slow
def test_one_name_and_deployments_of_others(azure: Any, client: Any, here: Path, made: str, code: Path) -> None:
    from azure.ai.ml.entities import BatchEndpoint

    client.schedules.begin_disable("nightly").result()
    assert "it is off" in succeed(teardown(here, "only=[schedules]", "plan=true")).out
    done = succeed(teardown(here, "endpoint=street-batch", "yes=true"))
    assert changed(azure)[-1] == "DELETE batchEndpoints/street-batch"
    assert "Nothing here carries the tag" in succeed(teardown(here, "endpoint=batch-others", "yes=true")).out
    theirs = online_deployment("green", "street", code, client.models.get(made, version="2"))
    client.online_deployments.begin_create_or_update(theirs).result()
    done = succeed(teardown(here, "endpoint=street", "yes=true"))
    assert "it has deployments of somebody else: green" in done.out
    assert "street" in names(client.online_endpoints)


@pytest.mark.slow
def test_what_the_scripts_make_carries_the_tag(azure: Any, client: Any, here: Path, scans: Path) -> None:
    none = (
        "clusters.cpu-cluster=null",
        "clusters.gpu-cluster=null",
        "clusters.multi-gpu-cluster=null",
        "environments=null",
    )
    provision = ("clusters.tagged.vm_size=Standard_D4s_v3", *none)
    succeed(run("provision", *provision, cwd=here))
    assert made_by_pointseg(client.compute.get("tagged").tags)
    assert "Nothing to do" in succeed(run("provision", *provision, cwd=here)).out
    succeed(run("register_data", f"path={scans}", "check=false", "name=tagged", cwd=here))
    assert made_by_pointseg(next(iter(client.data.list(name="tagged"))).tags)
    assert "Nothing to do" in succeed(run("register_data", f"path={scans}", "check=false", "name=tagged", cwd=here)).out
