"""Runs the jobs of batch endpoints on this machine: the deployment's code, model and input out of the blobs, its output into them."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from .execution import Executor, Run
from .shapes import complete
from .store import Resource

DRIVER = Path(__file__).parent / "child" / "batch_driver.py"
INPUT, DEPLOYMENT = "stand_in.input", "stand_in.deployment"  # properties of the job that a call to an endpoint makes
MOST = 2  # processes at a time, however many the deployment wants


class BatchExecutor(Executor):
    """Also runs pipeline jobs that a batch endpoint was called for."""

    def start(self, resource: Resource) -> bool:
        if DEPLOYMENT not in (resource["properties"].get("properties") or {}):
            return super().start(resource)
        workspace, name = resource["id"].rsplit("/jobs/", 1)
        run = Run(name, workspace, self.folder / name)
        self.runs[name] = run
        thread = threading.Thread(target=self._batch, args=(run, resource), daemon=True)
        self._threads.append(thread)
        thread.start()
        return True

    def _batch(self, run: Run, resource: Resource) -> None:
        """The whole life of the job and of its one step, whose output is called score."""
        step = self._step(run)
        log = run.folder / "artifacts" / "logs" / "user"
        log.mkdir(parents=True)
        status, error = "Failed", None
        try:
            self._both(run, step, "Running")
            error = self._score(run, resource, log)
            self._blobs.upload(*self._place(run, self._uri(step)), run.folder / "score")
            status = "Failed" if error else "Completed"
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        (log / "error.txt").write_text(f"{error or 'none'}\n")
        self._publish_logs(run)
        for job_id in (step, resource["id"]):  # the step ends first
            known = self._store.get(job_id)["properties"].get("properties", {})
            ended = "Canceled" if run.stopped else status
            self._store.change(job_id, status=ended, properties={**known, "error": error or ""})

    @staticmethod
    def _uri(step: str) -> str:
        return f"azureml://datastores/workspaceblobstore/paths/azureml/{step.rsplit('/', 1)[1]}/score/"

    def _step(self, run: Run) -> str:
        name = f"{run.name}-step"
        step = f"{run.workspace}/jobs/{name}"
        properties: dict[str, Any] = {
            "jobType": "Command",
            "command": "driver",
            "environmentId": "",
            "properties": {"parent": run.name},
            "outputs": {"score": {"jobOutputType": "uri_folder", "uri": self._uri(step)}},
        }
        self._store.put(step, complete(f"jobs/{name}", {"properties": properties}))
        return step

    def _both(self, run: Run, step: str, status: str) -> None:
        self._set(run, status)
        self._store.change(step, status=status)

    def _score(self, run: Run, resource: Resource, log: Path) -> str | None:
        """The driver's processes, each with its part of the mini-batches; what went wrong, or None."""
        told = resource["properties"]["properties"]
        deployment = self._store.get(told[DEPLOYMENT])["properties"]
        code = self._store.get(deployment["codeConfiguration"]["codeId"].removeprefix("azureml:"))
        self._blobs.download(*self._blobs.split(code["properties"]["codeUri"]), run.folder / "code")
        (run.folder / "code" / "outputs").mkdir(parents=True)
        words: list[str] = []
        for name, wanted in json.loads(told[INPUT]).items():
            folder = run.folder / "wd" / f"mounted-{name}"
            words += [f"--input_asset_{name.lower()}", str(folder)]
            if not self._blobs.download(*self._place(run, self._address(wanted["uri"])), folder):
                return f"nothing at {wanted['uri']}"
        (run.folder / "score").mkdir()
        retry = deployment.get("retrySettings") or {}
        spec = {
            "script": str(run.folder / "code" / deployment["codeConfiguration"]["scoringScript"]),
            "files": sorted(str(path) for path in (run.folder / "wd").rglob("*") if path.is_file()),
            "mini_batch_size": deployment.get("miniBatchSize") or 10,
            "retries": retry.get("maxRetries", 3),
            "words": words,
            "appended": deployment["outputFileName"] if deployment.get("outputAction") == "AppendRow" else None,
        }
        instances = (deployment.get("resources") or {}).get("instanceCount") or 1
        count = min(MOST, instances * (deployment.get("maxConcurrencyPerInstance") or 1))
        variables = {
            **self._variables(
                run, {**resource["properties"], "environmentVariables": deployment["environmentVariables"]}, {}
            ),
            "AZUREML_MODEL_DIR": str(self._model(run, deployment["model"]["assetId"])),
            "AZUREML_BI_OUTPUT_PATH": str(run.folder / "score"),
        }
        for number in range(count):
            arguments = [str(DRIVER), json.dumps({**spec, "number": number, "of": count})]
            with (log / f"process{number:03d}.stdout.txt").open("wb") as out:
                settings = {"cwd": run.folder / "code", "env": variables, "stdout": subprocess.PIPE, "stderr": out}
                run.processes.append(
                    subprocess.Popen([str(self._bin / "python"), *arguments], start_new_session=True, **settings)
                )
        failed = 0
        for process in run.processes:
            said, _ = process.communicate()
            if process.returncode:
                return f"the driver ended with {process.returncode}"
            failed += json.loads(said.splitlines()[-1])["failed"]
        threshold = deployment.get("errorThreshold", -1)
        if failed == len(spec["files"]):
            return "There is no succeeded mini batch item returned from run()."
        return f"{failed} files failed, and {threshold} may" if 0 <= threshold < failed else None

    def _model(self, run: Run, asset: str) -> Path:
        """The folder that a model is mounted as: its own name below NAME/VERSION."""
        model = self._store.get(asset.removeprefix("azureml:"))
        name, version = re.fullmatch(r".*/models/([^/]+)/versions/([^/]+)", model["id"]).groups()  # type: ignore[union-attr]
        folder = run.folder / "azureml-models" / name / version
        place = self._place(run, model["properties"]["modelUri"])
        self._blobs.download(*place, folder / Path(place[1].rstrip("/")).name)
        return folder
