"""Scoring addresses: NAME.REGION.inference.ml.azure.com and, for batch endpoints, NAME.REGION.batch.ml.azure.com."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable
from typing import Any

from .batch import DEPLOYMENT, INPUT
from .credential import accepted
from .jobs import Jobs
from .messages import Answer, AzureError, Request
from .shapes import complete
from .store import Resource, Store

Scorer = Callable[[Request], Answer]


def _job_inputs(given: dict[str, Any]) -> dict[str, Any]:
    """Inputs of a call to a batch endpoint as a job has them: the two spell their kinds differently."""
    kinds = {"UriFolder": "uri_folder", "UriFile": "uri_file", "Literal": "literal"}
    return {
        name: {**entry, "jobInputType": kinds.get(entry["jobInputType"], entry["jobInputType"])}
        | ({"value": str(entry["value"])} if "value" in entry else {})
        for name, entry in given.items()
    }


class Scoring:
    """`scorers["blue"] = function` is what the deployment blue does, `scorers["net:3"]` what those of this model do;
    without one it answers 424, as Azure for a model's error. `logs` holds what deployments said, by the same names.

    Of 100 calls of an endpoint each deployment gets as many as its traffic says, spread evenly: of 10 at 10 % one.
    """

    def __init__(self, store: Store, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs
        self.scorers: dict[str, Scorer] = {}
        self.logs: dict[str, str] = {}
        self._turns: dict[str, tuple[dict[str, int], dict[str, int]]] = {}  # by endpoint: shares, and what each is owed
        self._keys: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()

    def keys(self, endpoint_id: str, renew: str | None = None) -> dict[str, str]:
        """The two keys of an endpoint; `renew`, "Primary" or "Secondary", makes one anew."""
        with self._lock:
            keys = self._keys.setdefault(
                endpoint_id.lower(), {name: str(uuid.uuid4()) for name in ("primaryKey", "secondaryKey")}
            )
            if renew:
                keys[f"{renew.lower()}Key"] = str(uuid.uuid4())
            return dict(keys)

    def answer(self, request: Request) -> Answer:
        """One scoring call: the key, then the deployment that the header or the traffic names."""
        name, _, service, *_ = request.host.split(".")
        kind = "onlineEndpoints" if service == "inference" else "batchEndpoints"
        endpoint = next((found for found in self._store.everything() if found["id"].endswith(f"/{kind}/{name}")), None)
        if endpoint is None:
            raise AzureError(404, "NotFound", f"There is no endpoint {name}.")
        header = request.headers.get("authorization", "")
        if header.removeprefix("Bearer ") not in self.keys(endpoint["id"]).values() and not accepted(header):
            raise AzureError(401, "Unauthorized", "The key or token is not one of this endpoint.")
        return self._online(endpoint, request) if service == "inference" else self._batch(endpoint, request)

    def _deployment(self, endpoint: Resource, request: Request) -> Resource:
        traffic = endpoint["properties"].get("traffic") or {}
        default = (endpoint["properties"].get("defaults") or {}).get("deploymentName")
        name = request.headers.get("azureml-model-deployment") or self._next(endpoint["id"], traffic) or default
        found = self._store.find(f"{endpoint['id']}/deployments/{name}")
        if found is None:
            raise AzureError(404, "NotFound", f"No deployment for this call: {name}.")
        return found

    def _next(self, endpoint_id: str, traffic: dict[str, int]) -> str | None:
        """Whose turn it is: that which is owed most, which then owes a whole call."""
        shares = {name: share for name, share in sorted(traffic.items()) if share}
        if not shares:
            return None
        with self._lock:
            before, owed = self._turns.get(endpoint_id, ({}, {}))
            if before != shares:
                owed = dict.fromkeys(shares, 0)
            owed = {name: owed[name] + share for name, share in shares.items()}
            name = max(owed, key=lambda one: owed[one])
            self._turns[endpoint_id] = (shares, {**owed, name: owed[name] - sum(shares.values())})
        return name

    def of(self, deployment: Resource, table: dict[str, Any]) -> Any:
        """What a table holds for a deployment, by its name or that of its model."""
        model = re.search(r"/models/([^/]+)/versions/([^/]+)$", str(deployment["properties"].get("model")))
        return table.get(deployment["name"], table.get(f"{model[1]}:{model[2]}") if model else None)

    def _online(self, endpoint: Resource, request: Request) -> Answer:
        scorer = self.of(self._deployment(endpoint, request), self.scorers)
        if scorer is None:
            raise AzureError(424, "ModelError", "The stand-in has no scorer for this deployment.")
        return scorer(request)

    def _batch(self, endpoint: Resource, request: Request) -> Answer:
        """A pipeline job, whose statuses go on as other jobs' do."""
        deployment = self._deployment(endpoint, request)
        given = ((request.body or {}).get("properties") or {}).get("inputData") or {}
        configuration = deployment["properties"].get("deploymentConfiguration") or {}
        name = f"batchjob-{uuid.uuid4()}"
        wanted: dict[str, Any] = {
            "jobType": "Pipeline",
            "tags": {"azureml.batchrun": "true"},
            "jobs": {},
            "inputs": _job_inputs(given),
            "settings": {},
        }
        if configuration.get("componentId"):  # of a pipeline component: its steps run
            wanted["componentId"] = configuration["componentId"]["assetId"]
        else:
            wanted["properties"] = {DEPLOYMENT: deployment["id"], INPUT: json.dumps(given)}
        body = complete(f"jobs/{name}", {"properties": wanted})
        job, _ = self._store.put(f"{endpoint['id'].split('/batchEndpoints/')[0]}/jobs/{name}", body)
        self._jobs.submitted(job)
        return Answer(
            201,
            {"id": job["id"], "name": name, "type": job["type"], "properties": {"name": name, "status": "NotStarted"}},
        )
