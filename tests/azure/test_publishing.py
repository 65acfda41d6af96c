"""What is published beside what is there already: somebody else's things, other contents, halves. The real SDK, the stand-in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from azure_fixtures import azure, client, cluster, code, running, started
from batch_helpers import batch_settings, default_of, deployments_of

from pointseg.azure.endpoints.batch import BatchDeployment, batch_steps
from pointseg.azure.errors import AzureError
from pointseg.azure.publishing.files import Publication, write_publication
from pointseg.azure.publishing.steps import published, steps_to_publish, switch_schedule
from pointseg.azure.resources.environments import JobEnvironment
from pointseg.azure.resources.models import ModelAsset
from pointseg.azure.steps import Step, carry_out
from pointseg.azure.tags import MADE_BY_TAG
from pointseg.azure.teardown import TeardownScope, teardown_steps
from pointseg.azure.workspace import Workspace
from pointseg.core.errors import ConfigError

pytestmark = pytest.mark.azure


def written(folder: Path, code: Path, cluster: str, words: str = "main.py") -> Path:
    """A pipeline of one step, as `write_pipeline` lays it out."""
    settings = {"default_compute": f"azureml:{cluster}", "force_rerun": False}
    jobs = {"greet": {"type": "command", "component": "components/greet.yaml"}}
    environment = {
        "image": "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04",
        "conda_file": f"{code.parent}/conda.yml",
    }
    step = {"type": "command", "name": "pointseg_greet", "command": f"python {words}", "code": str(code)}
    (folder / "components").mkdir(parents=True)
    for name, content in (
        ("pipeline", {"type": "pipeline", "experiment_name": "tests", "settings": settings, "jobs": jobs}),
        ("components/greet", {**step, "environment": environment}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.fixture
def chain(tmp_path: Path, code: Path, cluster: str) -> Path:
    return written(tmp_path / "chain", code, cluster)


def publish(client: Any, made: Publication) -> list[Step]:
    steps = steps_to_publish(client, made)
    carry_out(steps, plan=False)
    return steps


def changed(azure: Any) -> list[str]:
    return [call.short for call in azure.calls.matching("(PUT|PATCH|DELETE) .*")]


@pytest.mark.parametrize(
    ("name", "tags", "says"),
    [
        ("taken-by-others", {"team": "maps"}, "an endpoint of this name that was not made from here"),
        ("taken-by-deploy", MADE_BY_TAG, "an endpoint of this name that another command made"),
    ],
)
def test_an_endpoint_of_something_else_is_left(
    name: str, tags: dict[str, str], says: str, azure: Any, client: Any, chain: Path
) -> None:
    from azure.ai.ml.entities import BatchEndpoint

    client.batch_endpoints.begin_create_or_update(BatchEndpoint(name=name, tags=tags)).result()
    azure.calls.clear()
    with pytest.raises(ConfigError, match=says) as raised:
        publish(client, write_publication(chain, name))
    assert raised.value.where == f"publish={name}"
    assert changed(azure) == []


def test_a_schedule_of_somebody_else_is_left(azure: Any, client: Any, chain: Path) -> None:
    from azure.ai.ml import load_job
    from azure.ai.ml.entities import CronTrigger, JobSchedule

    theirs = JobSchedule(
        name="taken-schedule", trigger=CronTrigger(expression="0 5 * * *"), create_job=load_job(chain / "pipeline.yaml")
    )
    client.schedules.begin_create_or_update(theirs).result()
    azure.calls.clear()
    with pytest.raises(ConfigError, match="a schedule of this name that was not made from here"):
        publish(client, write_publication(chain, "taken-schedule", schedule="0 3 * * *"))
    for action in ("disable", "remove", "enable"):
        with pytest.raises(ConfigError, match="not made from here") as raised:
            switch_schedule(client, "taken-schedule", action)
        assert raised.value.where == f"{action}=taken-schedule"
    with pytest.raises(AzureError, match="there is no such schedule"):
        switch_schedule(client, "nowhere", "enable")
    assert changed(azure) == []


def test_what_is_published_is_left_by_deploy(
    azure: Any, client: Any, chain: Path, tmp_path: Path, cluster: str
) -> None:
    publish(client, write_publication(chain, "taken-by-pipeline"))
    environment = JobEnvironment("env", "example.azurecr.io/x:1", "dependencies: []")
    model, settings = ModelAsset("net", "1"), batch_settings(cluster=cluster)
    wanted = BatchDeployment("taken-by-pipeline", model, environment, tmp_path, "code", settings)
    with pytest.raises(ConfigError, match="that another command made"):
        batch_steps(client, wanted)


def test_a_deployment_that_failed_is_made_again_before_it_is_run(
    azure: Any, client: Any, chain: Path, code: Path, cluster: str
) -> None:
    first = write_publication(chain, "half-made")
    publish(client, first)
    azure.store.change(_endpoint(azure, "half-made"), defaults=None)  # as some versions of the service say it
    assert "endpoint  half-made  runs nothing" in published(client)
    publish(client, first)
    assert default_of(client, "half-made") == first.deployment
    other = write_publication(written(chain.parent / "other", code, cluster, "other.py"), "half-made")
    azure.faults.add("PUT batchEndpoints/half-made/deployments/.*", operation_error="no capacity")
    with pytest.raises(AzureError, match="no capacity"):
        publish(client, other)
    with pytest.raises(AzureError, match="no capacity"):
        publish(client, other)
    assert default_of(client, "half-made") == first.deployment
    azure.faults.clear()
    steps = {step.kind: step for step in publish(client, other)}
    assert (steps["deployment"].action, steps["deployment"].differences) == ("replace", ("it is Failed: made again",))
    assert deployments_of(client, "half-made") == {first.deployment: "Succeeded", other.deployment: "Succeeded"}
    assert default_of(client, "half-made") == other.deployment


def _endpoint(azure: Any, name: str) -> str:
    return f"{azure.arm.scope.workspace(azure.workspace)}/batchEndpoints/{name}"


def test_a_schedule_that_failed_is_made_again(azure: Any, client: Any, chain: Path) -> None:
    made = write_publication(chain, "half-timed", schedule="0 3 * * *")
    azure.faults.add("PUT schedules/half-timed", operation_error="no time")
    with pytest.raises(AzureError, match="no time"):
        publish(client, made)
    azure.faults.clear()
    assert publish(client, made)[-1].differences == ("it is Failed: made again",)
    assert {step.action for step in publish(client, made)} == {"keep"}


def test_a_version_is_of_one_content(azure: Any, client: Any, chain: Path, code: Path, cluster: str) -> None:
    first = write_publication(chain, "numbered", version="1")
    publish(client, first)
    folder = written(chain.parent / "other", code, cluster, "other.py")
    azure.calls.clear()
    with pytest.raises(ConfigError, match="numbered exists in this version, with other content") as raised:
        publish(client, write_publication(folder, "numbered", version="1"))
    assert raised.value.where == "version=1"
    assert changed(azure) == []
    beside = write_publication(folder, "numbered-too", version="1")
    publish(client, beside)
    commands = [client.components.get("pointseg_greet", made.content).command for made in (first, beside)]
    assert commands == ["python main.py", "python other.py"]
    jobs = azure.calls.body("PUT components/numbered_too/versions/1")["componentSpec"]["jobs"]
    assert jobs["greet"]["componentId"].endswith(f"/components/pointseg_greet/versions/{beside.content}")
    publish(client, write_publication(folder, "numbered", version="2"))
    assert default_of(client, "numbered") == "v-2"


def test_teardown_finds_the_components_of_the_steps(azure: Any, client: Any, chain: Path) -> None:
    made = write_publication(chain, "to-archive")
    publish(client, made)
    place = TeardownScope(Workspace(azure.subscription, azure.group, azure.workspace, "tests"), client, None, None)
    archived = {step.name: step.differences for step in teardown_steps(place, ("assets",)) if step.kind == "component"}
    assert made.content in archived["pointseg_greet"][0]
    assert made.version in archived["to_archive"][0]
