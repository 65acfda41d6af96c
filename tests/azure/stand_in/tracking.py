"""Azure ML's tracking server: MLflow's REST interface of version 2 at REGION.api.azureml.ms, runs being jobs by the same name.

Nothing of version 3 (`logged-models`) is there: like Azure it answers 404.
"""

from __future__ import annotations

import re
import threading
import time
import uuid
from typing import Any, Protocol

from .messages import Answer, Request
from .registry import Exists, Missing, Registry
from .shapes import REGION
from .store import Resource, Store

STATUSES = {
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
    "NotStarted": "SCHEDULED",
    "Queued": "SCHEDULED",
}
PATH = re.compile(
    r"/mlflow/v\d\.0(/subscriptions/.*/workspaces/[^/]+)/api/2\.0/(?:preview/)?mlflow/(.*)", re.IGNORECASE
)
METRIC_NAMES, ROWS, LONGEST_TAG = 50, 250, 1000  # of a run, of a request, of a tag
LONGEST_VALUE = 6000


class MlflowError(Exception):
    """An error in MLflow's own shape."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = Answer(status, {"error_code": code, "message": message})


class Instead(Protocol):
    """What may take its place (`mlflow_server.MlflowServer`)."""

    def begin(self, job: Resource) -> None: ...

    def answer(self, request: Request) -> Answer: ...


class Tracking:
    """Runs in memory. `runs` holds, by run id, params, tags and the list of all logged metrics."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.runs: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, str] = {}
        self.registry = Registry(store)
        self.instead: Instead | None = None  # what answers in its place
        self._lock = threading.RLock()

    def begin(self, job: Resource) -> None:
        """The run that Azure makes for a job, before its command starts."""
        if self.instead is not None:
            self.instead.begin(job)
            return
        workspace, name = job["id"].rsplit("/jobs/", 1)
        self._create(workspace, job["properties"]["experimentName"], name)

    def _create(self, workspace: str, experiment: str, run_id: str) -> dict[str, Any]:
        uri = (
            f"azureml://{REGION}.api.azureml.ms/mlflow/v2.0{workspace}/experiments/{experiment}/runs/{run_id}/artifacts"
        )
        identity = self._experiment(experiment)
        info = {
            "run_id": run_id,
            "run_uuid": run_id,
            "run_name": run_id,
            "experiment_id": identity,
            "artifact_uri": uri,
        }
        info |= {
            "status": "RUNNING",
            "start_time": int(time.time() * 1000),
            "lifecycle_stage": "active",
            "user_id": "tester",
        }
        self.runs[run_id] = {"workspace": workspace, "info": info, "params": {}, "tags": {}, "metrics": []}
        return self.runs[run_id]

    def _experiment(self, name: str) -> str:
        return self.experiments.setdefault(name, str(uuid.uuid5(uuid.NAMESPACE_URL, name)))

    def answer(self, request: Request) -> Answer:
        """One call of MLflow's client."""
        if self.instead is not None:
            return self.instead.answer(request)
        found = PATH.fullmatch(request.path)
        name = "_" + re.sub(r"[/-]", "_", found[2]) if found else ""
        action = getattr(self, name, None) or getattr(self.registry, name, None)
        if found is None or action is None or found[2].startswith("_"):
            return Answer(404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"{request.path} is not served"})
        words = {**request.query, **(request.body or {})}
        with self._lock:
            try:
                return Answer(200, action(found[1], words))
            except MlflowError as error:
                return error.answer
            except Missing as error:
                return MlflowError(404, "RESOURCE_DOES_NOT_EXIST", str(error)).answer
            except Exists as error:
                return MlflowError(400, "RESOURCE_ALREADY_EXISTS", str(error)).answer

    def _run(self, words: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(str(words.get("run_id") or words.get("run_uuid")))
        if run is None:
            raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"Run {words.get('run_id')} is not found.")
        return run

    def _shown(self, run: dict[str, Any]) -> dict[str, Any]:
        job = self._store.find(f"{run['workspace']}/jobs/{run['info']['run_id']}")
        status = STATUSES.get(job["properties"]["status"], "RUNNING") if job else run["info"]["status"]
        last = {metric["key"]: metric for metric in run["metrics"]}
        params, tags = (
            [{"key": key, "value": value} for key, value in run[kind].items()] for kind in ("params", "tags")
        )
        return {
            "info": {**run["info"], "status": status},
            "data": {"metrics": [*last.values()], "params": params, "tags": tags},
        }

    # The actions, named as their paths are: runs/log-batch is _runs_log_batch

    def _experiments_get_by_name(self, workspace: str, words: dict[str, Any]) -> dict[str, Any]:
        if words["experiment_name"] not in self.experiments:
            raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"Experiment {words['experiment_name']} is not found.")
        return self._experiments_get(workspace, {"experiment_id": self.experiments[words["experiment_name"]]})

    def _experiments_get(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        for name, identity in self.experiments.items():
            if identity == words["experiment_id"]:
                return {
                    "experiment": {
                        "experiment_id": identity,
                        "name": name,
                        "lifecycle_stage": "active",
                        "artifact_location": "",
                    }
                }
        raise MlflowError(404, "RESOURCE_DOES_NOT_EXIST", f"Experiment {words['experiment_id']} is not found.")

    def _experiments_create(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        return {"experiment_id": self._experiment(words["name"])}

    def _runs_create(self, workspace: str, words: dict[str, Any]) -> dict[str, Any]:
        name = next(
            (name for name, identity in self.experiments.items() if identity == words.get("experiment_id")), "Default"
        )
        run = self._create(workspace, name, str(uuid.uuid4()))
        run["info"]["run_name"] = words.get("run_name") or run["info"]["run_id"]
        run["tags"] |= {tag["key"]: tag["value"] for tag in words.get("tags", [])}
        return {"run": self._shown(run)}

    def _runs_get(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        return {"run": self._shown(self._run(words))}

    def _runs_update(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        run = self._run(words)
        run["info"] |= {key: words[key] for key in ("status", "end_time", "run_name") if key in words}
        return {"run_info": self._shown(run)["info"]}

    def _runs_search(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        if words.get("filter"):
            raise MlflowError(400, "INVALID_PARAMETER_VALUE", "The stand-in does not filter runs.")
        wanted = words.get("experiment_ids", [])
        return {"runs": [self._shown(run) for run in self.runs.values() if run["info"]["experiment_id"] in wanted]}

    def _runs_log_batch(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        run = self._run(words)
        for param in words.get("params", []):
            if run["params"].get(param["key"], param["value"]) != param["value"]:
                raise MlflowError(400, "INVALID_PARAMETER_VALUE", f"The param {param['key']} has a value already.")
            if len(param["value"]) > LONGEST_VALUE:
                raise MlflowError(400, "INVALID_PARAMETER_VALUE", f"The value of {param['key']} is too long.")
        names = {metric["key"] for metric in [*run["metrics"], *words.get("metrics", [])]}
        if len(names) > METRIC_NAMES or len(words.get("metrics", [])) > ROWS:
            raise MlflowError(400, "INVALID_PARAMETER_VALUE", f"{len(names)} metrics, or too many rows.")
        for tag in words.get("tags", []):
            if len(tag["value"]) > LONGEST_TAG:
                raise MlflowError(400, "INVALID_PARAMETER_VALUE", f"The value of the tag {tag['key']} is too long.")
        run["params"] |= {param["key"]: param["value"] for param in words.get("params", [])}
        run["tags"] |= {tag["key"]: tag["value"] for tag in words.get("tags", [])}
        run["metrics"] += words.get("metrics", [])
        return {}

    _runs_log_batch_async = _runs_log_batch

    def _runs_log_metric(self, workspace: str, words: dict[str, Any]) -> dict[str, Any]:
        return self._runs_log_batch(workspace, {"run_id": words["run_id"], "metrics": [words]})

    def _runs_log_parameter(self, workspace: str, words: dict[str, Any]) -> dict[str, Any]:
        return self._runs_log_batch(workspace, {"run_id": words["run_id"], "params": [words]})

    def _runs_set_tag(self, workspace: str, words: dict[str, Any]) -> dict[str, Any]:
        return self._runs_log_batch(workspace, {"run_id": words["run_id"], "tags": [words]})

    def _metrics_get_history(self, _: str, words: dict[str, Any]) -> dict[str, Any]:
        return {"metrics": [metric for metric in self._run(words)["metrics"] if metric["key"] == words["metric_key"]]}
