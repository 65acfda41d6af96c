"""What a managed deployment needs to collect: the SDK's entity as Azure is sent it, and values that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, code, running, scans, started
from azure_helpers import online_deployment

from pointseg.azure.endpoints.data_collection import COLLECTION, REQUIREMENTS, CollectionSettings, collected_address
from pointseg.core.errors import ConfigError
from pointseg.jobs.environment import read_pins
from pointseg.serving.collection import COLLECTION_NAME

ROOT = Path(__file__).parents[2]


@pytest.mark.azure
@pytest.mark.slow
def test_a_deployment_is_sent_with_its_data_collector(azure: Any, client: Any, code: Path, scans: Path) -> None:
    from azure.ai.ml.entities import ManagedOnlineEndpoint, Model

    model = client.models.create_or_update(Model(name="net", version="1", path=str(scans), type="custom_model"))
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="collecting")).result()
    settings = CollectionSettings(rate=0.1, rolling="hour")
    for _ in range(2):  # also a second try
        azure.calls.clear()
        deployment = online_deployment("blue", "collecting", code, model.id)
        deployment.data_collector, deployment.environment_variables = settings.entity(), settings.variables
        client.online_deployments.begin_create_or_update(deployment).result()
    sent = azure.calls.body("PUT onlineEndpoints/collecting/deployments/blue")
    collected = sent["dataCollector"]
    assert collected["rollingRate"].lower() == "hour"
    assert collected["collections"].keys() == {COLLECTION}
    assert collected["collections"][COLLECTION]["dataCollectionMode"].lower() == "enabled"
    assert collected["collections"][COLLECTION]["samplingRate"] == 1.0
    assert sent["environmentVariables"]["POINTSEG_COLLECT_RATE"] == "0.1"


def test_the_script_and_the_deployment_name_one_collection() -> None:
    assert COLLECTION == COLLECTION_NAME
    assert collected_address("street", "blue").endswith(f"/modelDataCollector/street/blue/{COLLECTION_NAME}")


def test_the_packages_stand_beside_those_of_the_server() -> None:
    more = read_pins(ROOT / REQUIREMENTS)
    assert set(more) == {"azureml-ai-monitoring", "pandas"}
    assert not set(more) & set(read_pins(ROOT / "environments/serving.txt"))


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"rate": 0}, "collect_rate"),
        ({"rate": 1.1}, "collect_rate"),
        ({"rate": True}, "collect_rate"),
        ({"rate": "half"}, "collect_rate"),
    ],
)
def test_settings_that_are_refused(values: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        CollectionSettings(**{"rolling": "hour", **values})


def test_names_that_are_refused() -> None:
    with pytest.raises(ConfigError, match="endpoint"):
        collected_address("../other", "blue")
