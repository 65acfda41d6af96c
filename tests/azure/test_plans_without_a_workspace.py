"""`plan=true` where nothing names a workspace: all that an empty one would need is said, and nobody is asked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from verbs import Done, kitti_folder, run, succeed

from pointseg.azure.empty_workspace import EmptyWorkspace, is_connected
from pointseg.azure.resources.models import ModelAsset, find_model_asset
from pointseg.azure.workspace import VARIABLES, NothingNamed, find_workspace
from pointseg.core.errors import ConfigError

NOBODY = "No workspace is named, and none was asked"


@pytest.fixture(autouse=True)
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No workspace in the environment, and no way to one."""
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)

    def refuse(*words: object) -> None:
        raise AssertionError("a workspace is asked")

    monkeypatch.setattr("pointseg.workflows.workspace.client.connect", refuse)


def planned(done: Done) -> list[str]:
    """The lines about steps, after the warning."""
    said = succeed(done).out + done.err
    assert said.count(NOBODY) == 1, said
    assert "Nothing was changed: plan=true." in done.out
    return [" ".join(line.split()[:3]) for line in done.out.splitlines() if line.startswith(("create", "keep"))]


def test_what_is_provisioned(tmp_path: Path) -> None:
    lines = planned(run("provision", "plan=true", cwd=tmp_path))
    assert lines[:3] == ["create compute cluster"] * 3
    assert sum(line.startswith("create environment pointseg-") for line in lines) == 2
    assert len(lines) == 5


def test_data_that_is_registered(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copytree(kitti_folder(tmp_path_factory), tmp_path / "kitti")
    done = run("register_data", "path=kitti", "plan=true", cwd=tmp_path)
    assert planned(done) == ["create data asset"]
    assert "uri_folder: uploads" in done.out


def test_data_in_a_datastore_that_nobody_looks_for(tmp_path: Path) -> None:
    words = ("path=azureml://datastores/scans/paths/kitti", "plan=true")
    assert planned(run("register_data", *words, cwd=tmp_path)) == ["create data asset"]


def test_a_batch_endpoint(tmp_path: Path) -> None:
    done = run(
        "deploy", "target=batch", "checkpoint=azureml:street@latest", "endpoint=street", "plan=true", cwd=tmp_path
    )
    assert [line.split()[0] for line in planned(done)] == ["keep", "create", "create", "create", "create"]
    assert "the cluster cpu-cluster must exist" in done.out


def test_a_managed_endpoint(tmp_path: Path) -> None:
    words = ("checkpoint=azureml:street@latest", "endpoint=street", "managed.autoscale.max=3", "plan=true")
    done = run("deploy", "target=managed", *words, cwd=tmp_path)
    lines = planned(done)
    assert "create endpoint street" in lines
    assert [line.split()[1] for line in lines] == ["model", "environment", "endpoint", "deployment", "autoscale"]
    assert "cost: 1 x Standard_DS3_v2" in done.out
    assert "no deployment has traffic -> v-" in done.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("azure.group=rg",), "no Azure ML workspace is named (subscription, name)"),
        (
            ("workspace.create=true", "workspace.location=westeurope"),
            "no Azure ML workspace is named (subscription, group",
        ),
    ],
)
def test_what_is_refused_as_before(words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    assert says in run("provision", "plan=true", *words, cwd=tmp_path).message


def test_nothing_named_is_not_the_same_as_half_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NothingNamed):
        find_workspace(tmp_path, {"subscription": None, "group": None, "name": None})
    with pytest.raises(ConfigError) as half:
        find_workspace(tmp_path, {"group": "rg"})
    monkeypatch.setenv("AZURE_ML_WORKSPACE", "ml")
    with pytest.raises(ConfigError, match="subscription, group") as other_half:
        find_workspace(tmp_path)
    assert NothingNamed not in (type(half.value), type(other_half.value))


def test_a_broken_config_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml/config.json").write_text('{"subscription_id": "1"}')
    with pytest.raises(ConfigError, match=r"not the config\.json of a workspace"):
        find_workspace(tmp_path)


def test_it_answers_questions_and_makes_nothing() -> None:
    client = EmptyWorkspace()
    assert not is_connected(client)
    assert find_model_asset(client, "street", None) == ModelAsset("street", "latest")
    assert list(client.online_deployments.list("street")) == []
    with pytest.raises(AttributeError, match="more than a question"):
        client.compute.begin_create_or_update("cluster")
