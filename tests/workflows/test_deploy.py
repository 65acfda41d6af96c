"""`deploy` by a Python program: its typed result, for each target; the local one with a real service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from conftest import scan_points
from service import write_bundle

from pointseg.azure.workspace import VARIABLES
from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.engine.predictor import Predictor
from pointseg.serving.client import Client
from pointseg.workflows import DeployConfig, Deployed, check_deploy, deploy
from pointseg.workflows.settings.deploy import AciConfig, AutoscaleConfig, BatchConfig, LocalConfig, ManagedConfig


@pytest.fixture(autouse=True)
def nameless(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of its own, where nothing names a workspace and nobody is asked."""
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    for name in ("POINTSEG_KEY", "POINTSEG_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pointseg.workflows.workspace.client.connect", lambda *_: pytest.fail("a workspace is asked"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def ended() -> Iterator[list[Deployed]]:
    """Services that are ended afterwards, whatever becomes of the test."""
    started: list[Deployed] = []
    yield started
    for file in Path(".pointseg/services").glob("*.json"):
        with suppress(psutil.Error, ValueError, KeyError):
            psutil.Process(json.loads(file.read_text())["process"][0]).kill()


def actions(deployed: Deployed) -> list[tuple[str, str]]:
    return [(step.action, step.kind) for step in deployed.steps]


def test_a_service_of_this_machine(tmp_path: Path, bundle: Path, ended: list[Deployed]) -> None:
    config = DeployConfig(target="local", checkpoint=str(bundle), endpoint="street", local=LocalConfig(port=0))
    done = deploy(config, folder=tmp_path / "run")
    assert (done.target, done.endpoint, done.planned) == ("local", "street", False)
    assert actions(done) == [("create", "local service")]
    assert json.loads((tmp_path / "run/deployment.json").read_text()) == done.to_dict()
    assert done.to_dict().keys() == {"target", "endpoint", "url", "model"}
    points = scan_points(2000, seed=5)
    with Client(str(done.url), None) as client:
        assert (client.score(points).labels == Predictor.load(bundle)(points)).all()
    assert actions(deploy(config)) == [("keep", "local service")]
    (state,) = deploy(replace(config, local=LocalConfig(action="status"))).services
    assert (state.name, state.state, state.url, state.model["sha256"]) == ("street", "running", done.url, done.model)
    deploy(replace(config, local=LocalConfig(action="stop")))
    assert deploy(DeployConfig(target="local", local=LocalConfig(action="status"))).services == ()


def test_a_plan_for_this_machine_makes_no_file(tmp_path: Path, bundle: Path) -> None:
    config = DeployConfig(target="local", checkpoint=str(bundle), local=LocalConfig(port=0), plan=True)
    done = deploy(config, folder=tmp_path / "run")
    assert (done.planned, done.url, actions(done)) == (True, None, [("create", "local service")])
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / ".pointseg").exists()


def test_a_plan_of_a_batch_endpoint(bundle: Path) -> None:
    config = DeployConfig(target="batch", checkpoint=str(bundle), endpoint="street", plan=True)
    done = deploy(config)
    assert actions(done) == [
        ("create", kind)
        for kind in ("model", "environment", "batch endpoint", "batch deployment", "default deployment")
    ]
    assert str(done.model).startswith("azureml:pointseg:")
    assert str(done.version).startswith("v-")
    other = deploy(replace(config, batch=BatchConfig(mini_batch_size=4)))
    assert (other.model, other.version != done.version) == (done.model, True)


def test_a_plan_of_a_managed_endpoint() -> None:
    managed = ManagedConfig(traffic=[50, 100], autoscale=AutoscaleConfig(max=3))
    config = DeployConfig(
        target="managed", checkpoint="azureml:street:3", endpoint="street", managed=managed, plan=True
    )
    done = deploy(config)
    assert actions(done)[:4] == [
        ("keep", "model"),
        ("create", "environment"),
        ("create", "endpoint"),
        ("create", "deployment"),
    ]
    assert ("create", "autoscale") in actions(done)
    assert (done.model, done.url, done.planned) == ("azureml:street:3", None, True)


def test_a_plan_of_a_container(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POINTSEG_KEY", "a-key-for-tests-0123456789")
    aci = AciConfig(registry="streets", location="westeurope")
    done = deploy(DeployConfig(target="aci", checkpoint=str(bundle), endpoint="street", aci=aci, plan=True))
    images = [("create", "image")] * 3  # of the code, the model, and Caddy, which is copied
    assert actions(done) == [*images, ("create", "container group")]
    assert str(done.image).startswith("streets.azurecr.io/pointseg-model:")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (DeployConfig(), "no target is named"),
        (DeployConfig(target="loca"), r"there is no 'loca': target.*Did you mean local\?"),
        (DeployConfig(target="local", local=LocalConfig(action="restart")), r"local\.action.*start \| status \| stop"),
        (DeployConfig(target="local", local=LocalConfig(accelerator="tpu")), r"'tpu': local\.accelerator"),
        (DeployConfig(target="managed", endpoint="s"), "not a valid endpoint name"),
        (DeployConfig(target="managed", endpoint="street", managed=ManagedConfig(workers=9)), r"managed\.workers"),
        (DeployConfig(target="batch", endpoint="street", batch=BatchConfig(write="all")), r"'all': batch\.write"),
        (DeployConfig(target="batch", endpoint="s-b", batch=BatchConfig(output_action="append")), r"batch\.output_act"),
        (
            DeployConfig(target="managed", endpoint="street", managed=ManagedConfig(auth_mode="x")),
            r"managed\.auth_mode",
        ),
        (DeployConfig(target="managed", endpoint="street", managed=ManagedConfig(egress="no")), r"managed\.egress"),
        (DeployConfig(target="aci", endpoint="street", aci=AciConfig(tls="yes")), r"'yes': aci\.tls"),
        (DeployConfig(target="aci", endpoint="street", checkpoint="x"), "POINTSEG_KEY"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(config: DeployConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_deploy(config)


def test_a_folder_of_a_registration_names_the_model(tmp_path: Path) -> None:
    (tmp_path / "registration.json").write_text('{"name": "street"}')
    with pytest.raises(CheckpointError, match=r"registration cannot be read.*models:/NAME/1"):
        deploy(DeployConfig(target="batch", checkpoint=str(tmp_path), endpoint="street", plan=True))
    (tmp_path / "registration.json").write_text('{"name": "street", "version": "7"}')
    with pytest.raises(Exception, match="models:/street/7"):
        deploy(DeployConfig(target="batch", checkpoint=str(tmp_path), endpoint="street", plan=True))
