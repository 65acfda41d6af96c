"""Runs submitted command jobs on this machine, the way their nodes would: code, inputs, outputs, variables, ranks."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import isodate

from .blobs import Blobs
from .pipelines import Pipelines
from .shapes import REGION
from .store import Resource, Store

GPU = "POINTSEG_NEEDS_GPU"  # what a job says that must find one: here it runs on a processor all the same
INHERITED = ("PATH", "LANG", "LC_ALL", "TMPDIR", "OMP_NUM_THREADS")


@dataclass
class Run:
    """A job that runs: its processes, one for each rank, and the files they write."""

    name: str
    workspace: str
    folder: Path
    command: str = ""
    outputs: dict[str, tuple[str, Path]] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stopped: bool = False
    evicted: bool = False
    evictions: int = 0
    published: int = -1


class Executor:
    """Starts each command job in a thread of its own. `runs` tells of them by name."""

    def __init__(
        self, folder: Path, store: Store, blobs: Blobs, python: str | Path, environment: Mapping[str, str]
    ) -> None:
        self._store, self._blobs, self._environment = store, blobs, dict(environment)
        self.folder = folder
        self.runs: dict[str, Run] = {}
        self.others: dict[str, Callable[[Resource], bool]] = {}  # what starts jobs of other types than Command
        self.pipelines: Pipelines | None = None  # what runs pipeline jobs, whose steps come back here
        self._threads: list[threading.Thread] = []
        self._bin = folder / "bin"
        self._bin.mkdir(parents=True, exist_ok=True)
        for name in ("python", "python3"):  # a wrapper: a link would lose the virtual environment
            wrapper = self._bin / name
            wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} "$@"\n')
            wrapper.chmod(0o755)

    def start(self, resource: Resource) -> bool:
        """Begins a job; False for what cannot be run."""
        kind = resource["properties"]["jobType"]
        if kind != "Command":
            return self.others[kind](resource) if kind in self.others else False
        workspace, name = resource["id"].rsplit("/jobs/", 1)
        run = Run(name, workspace, self.folder / name)
        self.runs[name] = run
        self.follow(threading.Thread(target=self._live, args=(run, resource), daemon=True))
        return True

    def follow(self, thread: threading.Thread) -> None:
        """Starts a thread in which a job lives; its end is waited for at the end."""
        self._threads.append(thread)
        thread.start()

    def stop(self, name: str) -> None:
        """Asks a job's processes to end, then makes them."""
        if self.pipelines is not None and name in self.pipelines.running:
            self.pipelines.stop(name)
            return
        run = self.runs[name]
        run.stopped = True
        for process in run.processes:
            _signal(process, signal.SIGTERM)

    def evict(self, name: str) -> None:
        """Takes the machine away: what runs is killed, what it had mounted stays, and the job starts again on another."""
        run = self.runs[name]
        run.evicted = True
        for process in run.processes:
            _signal(process, signal.SIGKILL)

    def close(self) -> None:
        """Ends every job that still runs."""
        if self.pipelines is not None:
            self.pipelines.close()
        for name in list(self.runs):
            self.stop(name)
        for thread in self._threads:
            thread.join(30)

    def _live(self, run: Run, resource: Resource) -> None:
        """A job's whole life; whatever goes wrong is in its status and its log."""
        properties = resource["properties"]
        log = run.folder / "artifacts" / "user_logs"
        log.mkdir(parents=True)
        status, error = "Failed", None
        try:
            while True:
                (run.folder / "code" / "outputs").mkdir(parents=True)
                self._set(run, "Preparing")
                variables = self._prepare(run, properties)
                self._set(run, "Running")
                error = self._run(run, properties, variables, log)
                self._collect(run)
                if not run.evicted:
                    break
                run.evicted = False
                run.evictions += 1
                self._set(run, "Queued")
                for name in ("code", "inputs", "outputs"):  # another machine has none of it
                    shutil.rmtree(run.folder / name, ignore_errors=True)
                run.processes.clear()
            status = "Failed" if error else "Completed"
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
            (log / "std_log.txt").write_text(error + "\n")
        self._publish_logs(run)
        status = "Canceled" if run.stopped else status
        self._store.change(
            resource["id"], status=status, properties={**properties.get("properties", {}), "error": error or ""}
        )

    def _set(self, run: Run, status: str) -> None:
        if not run.stopped:
            self._store.change(f"{run.workspace}/jobs/{run.name}", status=status)

    def _prepare(self, run: Run, properties: dict[str, Any]) -> dict[str, str]:
        """Code and inputs as files, the command with their paths in it; the job's environment variables."""
        if properties.get("codeId"):
            code = self._store.get(properties["codeId"].removeprefix("azureml:"))
            self._blobs.download(*self._blobs.split(code["properties"]["codeUri"]), run.folder / "code")
        values: dict[str, str] = {}
        for name, wanted in (properties.get("inputs") or {}).items():
            values[f"inputs.{name}"] = self._input(run, name, wanted)
        for name, wanted in (properties.get("outputs") or {}).items():
            if name != "default":
                uri = wanted.get("uri") or f"azureml://datastores/workspaceblobstore/paths/azureml/{run.name}/{name}/"
                folder = run.folder / "outputs" / name
                folder.mkdir(parents=True)
                if wanted.get("mode", "ReadWriteMount") == "ReadWriteMount":
                    self._blobs.download(*self._place(run, uri), folder)
                run.outputs[name] = (uri, folder)
                values[f"outputs.{name}"] = str(folder)
        run.command = _filled(properties["command"], values)
        return self._variables(run, properties, values)

    def _input(self, run: Run, name: str, wanted: dict[str, Any]) -> str:
        """A literal, an address where the mode is Direct, or the path of what was downloaded."""
        if wanted["jobInputType"] == "literal":
            return str(wanted["value"])
        uri = self._address(wanted["uri"])
        if wanted.get("mode") == "Direct":
            return uri
        folder = run.folder / "inputs" / name
        files = self._blobs.download(*self._place(run, uri), folder)
        if not files:
            raise FileNotFoundError(f"input {name}: nothing at {uri}")
        return str(files[0] if wanted["jobInputType"] == "uri_file" else folder)

    def _address(self, uri: str) -> str:
        """The address behind the id of an asset."""
        asset = re.fullmatch(r"(?:azureml:)?(/subscriptions/.*/(?:data|models)/.*)", uri)
        if not asset:
            return uri
        properties = self._store.get(asset[1])["properties"]
        return str(properties.get("dataUri") or properties["modelUri"])

    def _place(self, run: Run, uri: str) -> tuple[str, str]:
        """Container and prefix of an address."""
        of_job = re.fullmatch(r"azureml://jobs/([^/]+)/outputs/artifacts/paths/(.*)", uri)
        if of_job:
            uri = f"azureml://datastores/workspaceartifactstore/paths/ExperimentRun/dcid.{of_job[1]}/{of_job[2]}"
        found = re.fullmatch(r"azureml://(?:subscriptions/.*/)?datastores/([^/]+)/(?:paths/)?(.*)", uri)
        if not found:
            return self._blobs.split(uri)
        datastore = self._store.get(f"{run.workspace}/datastores/{found[1]}")
        return datastore["properties"]["containerName"], found[2]

    def _variables(self, run: Run, properties: dict[str, Any], values: dict[str, str]) -> dict[str, str]:
        """As Azure sets them; of this process only what a program needs to run at all."""
        parts = run.workspace.split("/")
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        paths = {f"AZURE_ML_{group[:-1].upper()}_{name}": value for (group, name), value in _split(values).items()}
        return {
            **inherited,
            **self._environment,
            "PATH": f"{self._bin}{os.pathsep}{inherited.get('PATH', os.defpath)}",
            "HOME": str(run.folder),
            "AZUREML_RUN_ID": run.name,
            "AZUREML_ROOT_RUN_ID": run.name,
            "AZUREML_EXPERIMENT_NAME": properties["experimentName"],
            "AZUREML_ARM_PROJECT_NAME": properties["experimentName"],
            "AZUREML_ARM_SUBSCRIPTION": parts[2],
            "AZUREML_ARM_RESOURCEGROUP": parts[4],
            "AZUREML_ARM_WORKSPACE_NAME": parts[-1],
            "AZUREML_WORKSPACE_SCOPE": run.workspace,
            "AZUREML_SERVICE_ENDPOINT": f"https://{REGION}.api.azureml.ms",
            "MLFLOW_TRACKING_URI": f"azureml://{REGION}.api.azureml.ms/mlflow/v1.0{run.workspace}",
            "MLFLOW_RUN_ID": run.name,
            "MLFLOW_EXPERIMENT_NAME": properties["experimentName"],
            **paths,
            **{name: value for name, value in (properties.get("environmentVariables") or {}).items() if name != GPU},
        }

    def _run(self, run: Run, properties: dict[str, Any], variables: dict[str, str], log: Path) -> str | None:
        """Starts the command for every rank and waits; what went wrong, or None."""
        ranks = _ranks(properties)
        for index, rank in enumerate(ranks):
            name = "std_log.txt" if len(ranks) == 1 else f"std_log_process_{index}.txt"
            with (log / name).open("wb") as out:
                words = ["bash", "-c", run.command]
                settings = {
                    "cwd": run.folder / "code",
                    "env": {**variables, **rank},
                    "stdout": out,
                    "stderr": subprocess.STDOUT,
                }
                run.processes.append(subprocess.Popen(words, start_new_session=True, **settings))
        timeout = (properties.get("limits") or {}).get("timeout")
        end = time.monotonic() + (isodate.parse_duration(timeout).total_seconds() if timeout else 1e9)
        killed = 0.0
        while any(process.poll() is None for process in run.processes):
            time.sleep(0.1)
            self._publish_logs(run)
            failed = any(process.poll() for process in run.processes)  # one rank's end is the end of all
            if not killed and (failed or run.stopped or time.monotonic() > end):
                run.stopped |= time.monotonic() > end  # over its time a job is canceled
                killed = time.monotonic()
                for process in run.processes:
                    _signal(process, signal.SIGTERM)
            elif killed and time.monotonic() > killed + 10:
                for process in run.processes:
                    _signal(process, signal.SIGKILL)
        codes = [process.returncode for process in run.processes]
        return (
            None
            if not any(codes)
            else f"Execution failed. User process exited with status code {next(filter(None, codes))}."
        )

    def _publish_logs(self, run: Run) -> None:
        """Uploads the logs where they have grown."""
        folder = run.folder / "artifacts"
        size = sum(file.stat().st_size for file in folder.rglob("*.txt"))
        if size != run.published:
            run.published = size
            artifacts = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{run.name}"
            self._blobs.upload(*self._place(run, artifacts), folder)

    def _collect(self, run: Run) -> None:
        """Named outputs go to their addresses, ./outputs to the run's artifacts."""
        for uri, folder in run.outputs.values():
            self._blobs.upload(*self._place(run, uri), folder)
        artifacts = f"azureml://datastores/workspaceartifactstore/ExperimentRun/dcid.{run.name}/outputs"
        self._blobs.upload(*self._place(run, artifacts), run.folder / "code" / "outputs")
        job_id = f"{run.workspace}/jobs/{run.name}"
        outputs = self._store.get(job_id)["properties"]["outputs"]
        for name, (uri, _) in run.outputs.items():
            outputs[name]["uri"] = uri
        self._store.change(job_id, outputs=outputs)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """To the process and all it started."""
    with contextlib.suppress(ProcessLookupError):
        if process.poll() is None:
            os.killpg(process.pid, number)


def _split(values: Mapping[str, str]) -> dict[tuple[str, str], str]:
    return {tuple(name.split(".", 1)): value for name, value in values.items()}  # type: ignore[misc]


def _filled(command: str, values: Mapping[str, str]) -> str:
    """The command with paths and literals in it."""
    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", lambda found: values[found[1]], command)


def _ranks(properties: dict[str, Any]) -> list[dict[str, str]]:
    """The variables of each process: one without distribution, nodes x processes of PyTorch's with their ranks."""
    distribution = properties.get("distribution") or {}
    nodes = (properties.get("resources") or {}).get("instanceCount") or 1
    if distribution.get("distributionType") != "PyTorch":
        return [{}] * nodes
    processes = distribution.get("processCountPerInstance") or 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        shared = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(probe.getsockname()[1]),
            "WORLD_SIZE": str(nodes * processes),
        }
    return [
        {**shared, "RANK": str(node * processes + local), "LOCAL_RANK": str(local), "NODE_RANK": str(node)}
        for node in range(nodes)
        for local in range(processes)
    ]
