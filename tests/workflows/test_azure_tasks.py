"""provision, register_data and teardown by a Python program, where nothing names a workspace."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from verbs import kitti_folder

from pointseg.azure.workspace import VARIABLES
from pointseg.core.errors import ConfigError
from pointseg.workflows import (
    ProvisionConfig,
    RegisterDataConfig,
    TeardownConfig,
    provision,
    register_data,
    teardown,
)
from pointseg.workflows.settings.provision import ClusterConfig, DatastoreConfig, WorkspaceConfig
from pointseg.workflows.settings.shared import AzureConfig


@pytest.fixture(autouse=True)
def nameless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_plan_of_what_jobs_need() -> None:
    done = provision(ProvisionConfig(plan=True))
    assert [(step.kind, step.name) for step in done.steps[:3]] == [
        ("compute cluster", "gpu-cluster"),
        ("compute cluster", "multi-gpu-cluster"),
        ("compute cluster", "cpu-cluster"),
    ]
    assert {step.action for step in done.steps} == {"create"}
    assert done.environments.keys() == {"pointseg-gpu", "pointseg-cpu"}
    assert all(address.startswith(f"azureml:{name}:") for name, address in done.environments.items())


def test_clusters_are_given_as_their_settings_or_as_a_mapping() -> None:
    config = ProvisionConfig(environments=None, datastore=DatastoreConfig("scans", "account1", "kitti"), plan=True)
    by_class = replace(config, clusters={"mine": ClusterConfig(vm_size="Standard_D4s_v3", max_nodes=3)})
    by_mapping = replace(config, clusters={"mine": {"vm_size": "Standard_D4s_v3", "max_nodes": 3}, "other": None})
    done = provision(by_class)
    assert [step.kind for step in done.steps] == ["compute cluster", "datastore"]
    assert done.steps[0].differences == provision(by_mapping).steps[0].differences
    assert "0 to 3 nodes" in done.steps[0].differences[0]


def test_defaults_are_not_shared_between_configurations() -> None:
    first = ProvisionConfig()
    assert first.clusters is not None
    first.clusters["gpu-cluster"]["max_nodes"] = 9
    assert (ProvisionConfig().clusters or {})["gpu-cluster"]["max_nodes"] == 2


def test_a_plan_of_a_data_asset(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copytree(kitti_folder(tmp_path_factory), tmp_path / "kitti")
    files: list[str] = []
    config = RegisterDataConfig(path="kitti", tags={"season": "winter"}, plan=True)
    done = register_data(config, folder=tmp_path / "run", progress=lambda what: lambda done, total: files.append(what))
    assert done.address.startswith("azureml:semantic-kitti:")
    assert (done.kind, done.step.action, done.planned, done.tags["season"]) == ("uri_folder", "create", True, "winter")
    assert set(files) == {"reading"}
    assert not (tmp_path / "run").exists()
    (tmp_path / "kitti/sequences/00/poses.txt").unlink(missing_ok=True)
    (tmp_path / "kitti/note.txt").write_text("other content")
    assert register_data(config).address != done.address


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: provision(ProvisionConfig()), "no Azure ML workspace is named"),
        (lambda: provision(ProvisionConfig(clusters={"a": {"vmsize": "x"}}, plan=True)), r"Did you mean clusters\.a"),
        (lambda: provision(ProvisionConfig(workspace=WorkspaceConfig(create=True))), r"workspace\.location"),
        (lambda: provision(ProvisionConfig(azure=AzureConfig(auth="me"))), r"there is no 'me': azure\.auth"),
        (lambda: register_data(RegisterDataConfig()), "no folder is given"),
        (lambda: register_data(RegisterDataConfig(path="x", version=1e3)), "1000.0 is not a valid version"),
        (lambda: teardown(TeardownConfig()), "nobody can be asked here"),
        (lambda: teardown(TeardownConfig(yes=True, only=["endpoint"])), r"Did you mean endpoints\?"),
        (lambda: teardown(TeardownConfig(plan=True)), "no Azure ML workspace is named"),
    ],
)
def test_what_cannot_be_is_refused(call: object, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()  # type: ignore[operator]
