"""REGION.api.azureml.ms: the run history, from which the SDK streams logs and learns where outputs are; tracking behind it."""

from __future__ import annotations

import re
from typing import Any

from .artifacts import Artifacts
from .blobs import Blobs
from .jobs import ENDED, Jobs
from .messages import Answer, AzureError, Request
from .shapes import REGION
from .store import Resource, Store
from .tracking import Tracking

MODELS = {"custom_model": "CustomModel", "mlflow_model": "MLFlowModel", "triton_model": "TritonModel"}


class History:
    """Answers for the workspaces in the store."""

    def __init__(self, store: Store, blobs: Blobs, jobs: Jobs, tracking: Tracking) -> None:
        self._store, self._blobs, self._jobs, self._tracking = store, blobs, jobs, tracking
        self._artifacts = Artifacts(store, blobs)

    def answer(self, request: Request) -> Answer:
        if request.path.startswith("/discovery/"):
            root = f"https://{REGION}.api.azureml.ms"
            return Answer(200, dict.fromkeys(("api", "history", "experimentation", "mlflow"), root))
        if request.path.startswith("/mlflow/"):
            return self._tracking.answer(request)
        if "/artifacts" in request.path:
            return self._artifacts.answer(request)
        found = re.fullmatch(r"/(\w+)/v\d\.\d(/subscriptions/.*/workspaces/[^/]+)/(.*)", request.path, re.IGNORECASE)
        if found:
            service, workspace, rest = found[1], found[2], found[3]
            details = re.fullmatch(r"(?:experiments/[^/]+/)?runs/([^/]+)(/details)?", rest)
            children = re.fullmatch(r"runs/([^/]+)/children", rest)
            if service == "history" and request.method == "PATCH" and details:
                return Answer(200, self._changed(f"{workspace}/jobs/{details[1]}", request.body))
            if service == "history" and children:
                return Answer(200, {"value": self._children(workspace, children[1])})
            if service == "history" and request.method == "GET" and details:
                job = self._job(workspace, details[1])
                return Answer(200, self._details(workspace, job) if details[2] else self._run(job))
            if service == "history" and rest == "rundata":
                return Answer(200, {"runMetadata": self._run(self._job(workspace, request.body["runId"]))})
            if rest.endswith("/batchGetResolvedUris"):
                return Answer(
                    200, {"values": {item: self._resolved(workspace, item) for item in request.body["values"]}}
                )
        raise AzureError(501, "NotInStandIn", f"The stand-in does not know {request.method} {request.path}.")

    def _job(self, workspace: str, name: str) -> Resource:
        job_id = f"{workspace}/jobs/{name}"
        self._jobs.step(job_id)
        return self._store.get(job_id)

    def _changed(self, job_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the SDK changes of a submitted job it changes here: hidden is archived."""
        names = {"hidden": "isArchived", "tags": "tags", "displayName": "displayName", "description": "description"}
        self._store.get(job_id)
        self._store.change(job_id, **{names[key]: value for key, value in body.items() if key in names})
        return self._run(self._store.get(job_id))

    def _children(self, workspace: str, parent: str) -> list[dict[str, Any]]:
        """Jobs whose properties name this parent."""
        jobs = self._store.list(f"{workspace}/jobs")
        return [self._run(job) for job in jobs if (job["properties"].get("properties") or {}).get("parent") == parent]

    def _run(self, job: Resource) -> dict[str, Any]:
        """A run's metadata; its outputs are named by ids that `_resolved` understands."""
        properties = job["properties"]
        outputs = {
            name: {
                "assetId": f"{job['name']}:{name}",
                "type": MODELS.get(output["jobOutputType"], output["jobOutputType"]),
            }
            for name, output in properties["outputs"].items()
            if output.get("uri") and name != "default"
        }
        return {"runId": job["name"], "status": properties["status"], "outputs": outputs, "properties": {}, "tags": {}}

    def _resolved(self, workspace: str, item: str) -> dict[str, str]:
        job, _, name = item.partition(":")
        output = self._store.get(f"{workspace}/jobs/{job}")["properties"]["outputs"][name]
        return {"uri": output["uri"], "path": output["uri"]}

    def _details(self, workspace: str, job: Resource) -> dict[str, Any]:
        """Status and addresses of logs, signed; an error where the job failed."""
        name, status = job["name"], job["properties"]["status"]
        container = self._store.get(f"{workspace}/datastores/workspaceartifactstore")["properties"]["containerName"]
        prefix = f"ExperimentRun/dcid.{name}/"
        signature = self._blobs.sas(container)
        logs = [log for log in self._blobs.list(container, prefix) if log.endswith(".txt")]
        files = {log[len(prefix) :]: f"{self._blobs.url}/{container}/{log}?{signature}" for log in logs}
        details = {"runId": name, "status": status, "logFiles": files, "warnings": [], "properties": {}, "tags": {}}
        if status == "Failed":
            message = job["properties"].get("properties", {}).get("error", "The job failed.")
            details["error"] = {"error": {"code": "UserError", "message": message}}
        if status in ENDED:
            details["endTimeUtc"] = job["systemData"]["lastModifiedAt"]
        return details
