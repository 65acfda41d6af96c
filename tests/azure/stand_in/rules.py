"""Requests of the right form that the service refuses nevertheless: dangling references, impossible traffic.

Only what is documented; the real service knows more (quota, images, roles).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .messages import AzureError
from .shapes import kind
from .store import Resource, Store

NAMES = {
    "onlineendpoints": r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]",
    "batchendpoints": r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]",
    "onlineendpoints/deployments": r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]",
    "batchendpoints/deployments": r"[a-zA-Z][a-zA-Z0-9-]{1,30}[a-zA-Z0-9]",
    "computes": r"[a-zA-Z][a-zA-Z0-9-]{0,22}[a-zA-Z0-9]",
    "jobs": r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}",
    "versions": r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}",
}
PLACES = {"versions": ("codeUri", "dataUri", "modelUri", "conda"), "jobs": ("jobType", "command", "codeId")}
MESSAGES = {"versions": "Asset paths cannot be updated.", "jobs": "A job with this name already exists."}


def check(store: Store, workspace: str, below: str, body: dict[str, Any], old: Resource | None) -> None:
    """Raises the error of the service, with everything that is wrong."""
    of_kind, properties = kind(below), body.get("properties") or {}
    if of_kind in NAMES and not re.fullmatch(NAMES[of_kind], below.rsplit("/", 1)[1]):
        raise AzureError(400, "BadArgument", f"The name {below.rsplit('/', 1)[1]} does not match {NAMES[of_kind]}.")
    if re.fullmatch(r"models/[^/]+/versions/(?![1-9]\d*$).*", below):  # github.com/Azure/azureml-examples/issues/2725
        raise AzureError(400, "UserError", "The version of a model must be a positive integer.")
    if old is not None and of_kind in PLACES:
        for key in PLACES[of_kind]:
            if properties.get(key) is not None and properties[key] != old["properties"].get(key):
                raise AzureError(400, "UserError", MESSAGES[of_kind])
    parent = f"{workspace}/{below}".rsplit("/", 2)[0]
    if of_kind.endswith("endpoints/deployments") and store.find(parent) is None:
        raise AzureError(404, "ResourceNotFound", f"The endpoint of {below} does not exist.")
    wrong = [*_references(store, workspace, properties), *_placeholders(properties)]
    if of_kind == "onlineendpoints":
        wrong += _traffic(store, f"{workspace}/{below}", properties)
    if wrong:
        raise AzureError(400, "UserError", "; ".join(wrong), wrong)


def _references(store: Store, workspace: str, value: Any) -> Iterator[str]:
    """Ids of this workspace, anywhere in a body, that lead nowhere."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(store, workspace, item)
    elif isinstance(value, str):
        resource_id = value.removeprefix("azureml:")
        short = re.match(r"azureml://((?:jobs|datastores)/[^/]+)/", value)
        if short:
            resource_id = f"{workspace}/{short[1]}"
        if resource_id.lower() == f"{workspace.lower()}/computes/serverless":
            return  # machines of a job's own, always there
        if resource_id.lower().startswith(f"{workspace.lower()}/") and store.find(resource_id) is None:
            yield f"{resource_id[len(workspace) + 1 :]} does not exist"


def _placeholders(properties: dict[str, Any]) -> Iterator[str]:
    """`${{inputs.x}}` in a command that has no such input, and the like for outputs and a sweep's search space."""
    trial = properties.get("trial") or {}
    command = properties.get("command") or (trial.get("command") if isinstance(trial, dict) else None) or ""
    known = {
        "inputs": properties.get("inputs") or {},
        "outputs": properties.get("outputs") or {},
        "search_space": properties.get("searchSpace") or {},
    }
    for group, name in re.findall(r"\$\{\{\s*(\w+)\.([\w.]+)\s*\}\}", command):
        if name not in known.get(group, {}):
            yield f"${{{{{group}.{name}}}}} in the command is not defined"


def _traffic(store: Store, endpoint: str, properties: dict[str, Any]) -> Iterator[str]:
    shares = properties.get("traffic") or {}
    if sum(shares.values()) not in (0, 100):
        yield f"traffic sums to {sum(shares.values())}, not to 0 or 100"
    if sum((properties.get("mirrorTraffic") or {}).values()) > 50:
        yield "more than 50 % of the traffic is mirrored"
    for name in shares:
        if store.find(f"{endpoint}/deployments/{name}") is None:
            yield f"traffic goes to the deployment {name}, which does not exist"


def check_deletion(store: Store, resource_id: str, below: str) -> None:
    """A deployment that still gets traffic stays."""
    if kind(below) == "onlineendpoints/deployments":
        endpoint = store.get(resource_id.rsplit("/", 2)[0])
        share = endpoint["properties"].get("traffic", {}).get(resource_id.rsplit("/", 1)[1], 0)
        if share:
            raise AzureError(400, "UserError", f"The deployment gets {share} % of the traffic; set it to 0 first.")
