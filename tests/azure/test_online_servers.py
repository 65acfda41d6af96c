"""Traffic between two real scoring servers: Azure's own inference server with the code that a deployment uploads, behind
the stand-in. Answers come from the version that the traffic says, label for label."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azure_fixtures import azure, client, here, running, started
from batch_helpers import write_bundle
from conftest import scan_points
from online_helpers import (
    ENDPOINT,
    deploy,
    deployments_now,
    forwards,
    inference_server,
    online_settings,
    register,
    traffic_now,
)

from pointseg import Client, Predictor
from pointseg.azure.endpoints import online_traffic
from pointseg.azure.endpoints.deployment import SCORE_DRIVER, copy_scoring_code

pytestmark = [pytest.mark.azure, pytest.mark.slow, pytest.mark.inference_server]


@pytest.fixture(scope="module")
def bundles(running: Any, client: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models that label differently, mounted as Azure mounts them, by version."""
    root = tmp_path_factory.mktemp("mounted") / "azureml-models" / "road"
    made = {version: write_bundle(root / version / "bundle", seed=int(version)) for version in ("1", "2")}
    for version, bundle in made.items():
        register(client, bundle, version, name="road")
    return made


@pytest.fixture(scope="module")
def servers(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A server for each, with the uploaded code alone and the deployment's own variables."""
    inference_server().serving_python()  # skips where there is none
    folder = tmp_path_factory.mktemp("servers")
    copy_scoring_code(folder / "code", SCORE_DRIVER)
    with ExitStack() as stack:
        yield {version: stack.enter_context(_server(bundle, folder, version)) for version, bundle in bundles.items()}


def _server(bundle: Path, folder: Path, version: str) -> Any:
    place = folder / version
    place.mkdir()
    variables = {**online_settings().variables, "PYTHONPATH": ""}
    return inference_server().inference_server(bundle.parent, place, folder / "code" / SCORE_DRIVER, **variables)


def test_answers_come_from_the_version_that_the_traffic_says(
    azure: Any,
    client: Any,
    here: Path,
    bundles: dict[str, Path],
    servers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = scan_points(3000, seed=4)
    labels = {version: Predictor.load(bundle)(scan) for version, bundle in bundles.items()}
    assert (labels["1"] != labels["2"]).any()
    for version, server in servers.items():
        azure.scoring.scorers[f"road:{version}"] = forwards(server.url)
    seen: list[tuple[dict[str, int], dict[str, int]]] = []
    asked = online_traffic._TrafficShift._ask

    def ask(self: Any, count: int, *, by_traffic: bool, seconds: float) -> None:
        asked(self, count, by_traffic=by_traffic, seconds=seconds)
        if by_traffic:  # twenty callers of our own, at this step of the traffic
            url, key = client.online_endpoints.get(ENDPOINT).scoring_uri, client.online_endpoints.get_keys(ENDPOINT)
            found = {"1": 0, "2": 0}
            with Client(url, key.primary_key) as caller:
                for _ in range(20):
                    scored = caller.score(scan)
                    version = scored.model.removeprefix("road/")
                    assert np.array_equal(scored.labels, labels[version])
                    found[version] += 1
            seen.append((traffic_now(client), found))

    monkeypatch.setattr(online_traffic._TrafficShift, "_ask", ask)
    monkeypatch.setattr(online_traffic, "WAITS", (0.0,))
    try:
        done = deploy(here, "checkpoint=azureml:road:1")
        assert done.code == 0, done.out + done.err
        (old,) = deployments_now(client)
        sent = azure.calls.body(f"PUT onlineEndpoints/{ENDPOINT}/deployments/{old}")
        assert sent["environmentVariables"] == online_settings().variables
        done = deploy(here, "checkpoint=azureml:road:2")
        assert done.code == 0, done.out + done.err
        (new,) = set(deployments_now(client)) - {old}
        assert seen == [
            ({old: 100}, {"1": 20, "2": 0}),
            ({old: 90, new: 10}, {"1": 18, "2": 2}),
            ({old: 50, new: 50}, {"1": 10, "2": 10}),
            ({new: 100}, {"1": 0, "2": 20}),
        ]
        seen.clear()
        _and_one_that_does_not_start(azure, client, here, bundles["1"])
        assert traffic_now(client) == {new: 100}
        assert set(deployments_now(client)) == {old, new}
    finally:
        azure.faults.clear()
        client.online_endpoints.begin_delete(ENDPOINT).result()


def _and_one_that_does_not_start(azure: Any, client: Any, here: Path, bundle: Path) -> None:
    """A third deployment, behind which nothing listens: it goes, and callers notice nothing."""
    shutil.copytree(bundle, here / "copy")
    register(client, here / "copy", "3", name="road")
    azure.scoring.scorers["road:3"] = forwards("http://127.0.0.1:9")
    message = deploy(here, "checkpoint=azureml:road:3").message
    assert "smoke test" in message
    assert "is removed" in message
    url, key = client.online_endpoints.get(ENDPOINT).scoring_uri, client.online_endpoints.get_keys(ENDPOINT)
    with Client(url, key.primary_key) as caller:
        assert caller.score(scan_points(50)).model == "road/2"
