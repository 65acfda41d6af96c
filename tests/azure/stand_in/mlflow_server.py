"""Azure ML's tracking server played by a real MLflow server that knows version 2 of the interface alone.

Runs have other ids there than here, where they are called as their jobs: ids are exchanged on the way, and where a run keeps its
files is said as Azure ML says it.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

from .messages import Answer, Request
from .shapes import REGION
from .store import Resource
from .tracking import PATH

LATER = ("logged-models",)  # routes of version 3, which Azure ML has not


class MlflowServer:
    """Takes the place of `Tracking` while it is `Tracking.instead`.

    Attributes:
        runs: ids of the server by names of jobs.
        refused: paths that an older server does not know.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self.runs: dict[str, str] = {}
        self.refused: list[str] = []
        self._places: dict[str, str] = {}  # where the files of a run are, by its id here

    def begin(self, job: Resource) -> None:
        """The run that Azure makes for a job."""
        workspace, name = job["id"].rsplit("/jobs/", 1)
        experiment = job["properties"]["experimentName"]
        found = self._call("GET", f"experiments/get-by-name?{urlencode({'experiment_name': experiment})}")
        identity = found.get("experiment", {}).get("experiment_id")
        if identity is None:
            identity = self._call("POST", "experiments/create", {"name": experiment})["experiment_id"]
        made = self._call("POST", "runs/create", {"experiment_id": identity, "run_name": name})
        self.runs[name] = made["run"]["info"]["run_id"]
        place = f"{workspace}/experiments/{experiment}/runs/{name}/artifacts"
        self._places[name] = f"azureml://{REGION}.api.azureml.ms/mlflow/v2.0{place}"

    def answer(self, request: Request) -> Answer:
        """One call of MLflow's client."""
        found = PATH.fullmatch(request.path)
        if found is None or found[2].startswith(LATER):
            self.refused.append(request.path)
            return Answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"{request.path} is not served"})
        action = found[2].replace("log-batch-async", "log-batch")
        query = f"?{urlencode(request.query)}" if request.query else ""
        content = self._call(request.method, f"{action}{query}", request.body)
        status = content.pop("status of the answer", 200)
        return Answer(status, content)

    def _call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        data = None if body is None else self._there(json.dumps(body)).encode()
        url = f"{self._address}/api/2.0/mlflow/{self._there(path)}"
        call = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(call, timeout=60) as answer:
                return self._as_azure(json.loads(self._here(answer.read().decode())))
        except urllib.error.HTTPError as error:
            content: dict[str, Any] = json.loads(error.read())
            return {**content, "status of the answer": error.code}

    def _there(self, text: str) -> str:
        for name, identity in self.runs.items():
            text = text.replace(name, identity)
        return text

    def _here(self, text: str) -> str:
        for name, identity in self.runs.items():
            text = text.replace(identity, name)
        return text

    def _as_azure(self, content: Any) -> Any:
        if isinstance(content, list):
            return [self._as_azure(part) for part in content]
        if not isinstance(content, dict):
            return content
        if "artifact_uri" in content and content.get("run_id") in self._places:
            content["artifact_uri"] = self._places[content["run_id"]]
        return {key: self._as_azure(value) for key, value in content.items()}
