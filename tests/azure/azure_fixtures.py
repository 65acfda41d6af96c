"""Fixtures of the tests that ask the stand-in for Azure: import all of them, they use each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stand_in.requirements import missing

from pointseg.azure import sign_in, workspace


@pytest.fixture(scope="session")
def started() -> Iterator[Any]:
    """The servers; without `running` nothing in this process knows of them."""
    why_not = missing()
    if why_not:
        pytest.skip(why_not)
    from stand_in.stand_in import StandIn

    stand_in = StandIn().start()
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="module")
def running(started: Any) -> Iterator[Any]:
    """The stand-in behind Azure's names, for one file of tests."""
    with started.active():
        yield started


@pytest.fixture
def azure(running: Any) -> Iterator[Any]:
    """The stand-in with nothing recorded, no faults and scripted jobs."""
    running.reset()
    yield running
    running.reset()
    errors, running.server.errors = running.server.errors, []
    assert not errors, errors[0]


@pytest.fixture(scope="module")
def client(running: Any) -> Any:
    return running.client()


@pytest.fixture(scope="module")
def cluster(running: Any, client: Any) -> str:
    from azure.ai.ml.entities import AmlCompute

    name = "cpu-cluster"
    client.compute.begin_create_or_update(AmlCompute(name=name, size="Standard_D4s_v3", max_instances=4)).result()
    return name


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A code snapshot and a conda file beside it."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "main.py").write_text(f"print('a program of {tmp_path.name}')\n")
    (tmp_path / "conda.yml").write_text("name: tests\nchannels: [conda-forge]\ndependencies: [python=3.11]\n")
    return folder


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "0.bin").write_bytes(tmp_path.name.encode())
    return folder


@pytest.fixture
def here(azure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose .azureml/config.json names the stand-in's workspace, and its credential for whoever signs in."""
    names = {"subscription_id": azure.subscription, "resource_group": azure.group, "workspace_name": azure.workspace}
    (tmp_path / ".azureml").mkdir()
    (tmp_path / ".azureml/config.json").write_text(json.dumps(names))
    for variables in workspace.VARIABLES.values():
        for name in variables:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sign_in, "_credential", lambda auth: azure.credential)
    return tmp_path
