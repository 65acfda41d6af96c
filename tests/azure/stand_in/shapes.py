"""What the service adds to resources that clients send."""

from __future__ import annotations

from typing import Any

REGION = "eastus"
SERVER_SET = {  # defaults of the service, below `properties`
    "versions": {"properties": {}, "tags": {}, "isArchived": False, "isAnonymous": False, "description": None},
    "onlineendpoints/deployments": {"scaleSettings": {"scaleType": "Default"}, "egressPublicNetworkAccess": "Enabled"},
    "onlineendpoints": {"traffic": {}, "publicNetworkAccess": "Enabled", "properties": {}},
    "batchendpoints": {"properties": {}, "defaults": {}},
    "batchendpoints/deployments": {"properties": {}},
    "jobs": {"tags": {}, "properties": {}, "isArchived": False, "experimentName": "Default"},
    "schedules": {"isEnabled": True},
}


def kind(below: str) -> str:
    """`onlineendpoints/deployments` of onlineEndpoints/E/deployments/D; `versions` of any asset's versions."""
    names = below.lower().strip("/").split("/")[::2]
    return "versions" if names[-1] == "versions" else "/".join(names)


def complete(below: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body of a PUT with what the service sets and defaults."""
    of_kind, names = kind(below), below.split("/")
    properties = dict(body.get("properties") or {})
    for key, value in SERVER_SET.get(of_kind, {}).items():
        if properties.get(key) is None:
            properties[key] = value
    if of_kind == "versions" and names[0].lower() == "models":
        properties["flavors"] = properties.get("flavors") or {}
    if of_kind == "computes":
        _compute(properties)
    if of_kind in ("onlineendpoints", "batchendpoints"):
        group = "inference" if of_kind == "onlineendpoints" else "batch"
        suffix = "score" if group == "inference" else "jobs"
        properties["scoringUri"] = f"https://{names[1]}.{REGION}.{group}.ml.azure.com/{suffix}"
        properties["swaggerUri"] = f"https://{names[1]}.{REGION}.{group}.ml.azure.com/swagger.json"
    if of_kind == "jobs":
        _job(names[1], properties)
    return {**body, "properties": properties}


def _compute(properties: dict[str, Any]) -> None:
    properties |= {"computeLocation": properties.get("computeLocation") or REGION, "isAttachedCompute": False}
    if properties.get("computeType") == "AmlCompute":
        inner = dict(properties.get("properties") or {})
        states = ("idle", "leaving", "preempted", "preparing", "running", "unusable")
        inner |= {"allocationState": "Steady", "currentNodeCount": 0, "targetNodeCount": 0, "errors": None}
        inner["nodeStateCounts"] = {f"{state}NodeCount": 0 for state in states}
        inner.setdefault("enableNodePublicIp", True)
        inner.setdefault("vmPriority", "Dedicated")
        properties["properties"] = inner


def _job(name: str, properties: dict[str, Any]) -> None:
    properties["displayName"] = properties.get("displayName") or name
    properties["status"] = "NotStarted"
    properties["services"] = {
        "Tracking": {"jobServiceType": "Tracking", "endpoint": f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0"},
        "Studio": {"jobServiceType": "Studio", "endpoint": f"https://ml.azure.com/runs/{name}?wsid=/subscriptions"},
    }
    outputs = dict(properties.get("outputs") or {})
    store = "azureml://datastores/workspaceartifactstore"
    outputs["default"] = {
        "jobOutputType": "uri_folder",
        "mode": "ReadWriteMount",
        "uri": f"{store}/ExperimentRun/dcid.{name}",
    }
    properties["outputs"] = outputs
