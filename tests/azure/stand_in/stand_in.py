"""The whole stand-in as one context manager."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from . import names
from .arm import Arm, Scope
from .autoscale import Autoscale
from .batch import BatchExecutor
from .blobs import HOST, Blobs
from .certificate import make
from .containers import END, Containers
from .credential import StandInCredential
from .deployments import Deployments
from .execution import Executor
from .faults import Fault, Faults
from .history import History
from .identity import Identity
from .jobs import Jobs
from .messages import Answer, Request
from .operations import Operations
from .pipelines import Pipelines
from .recorder import Recorder
from .scoring import Scoring
from .server import Server, Service
from .shapes import REGION
from .store import Store
from .sweeps import Sweeps
from .tracking import Tracking

HOSTS = ("management.azure.com", "*.api.azureml.ms", "login.microsoftonline.com", "ml.azure.com")
SCORING = (".inference.ml.azure.com", ".batch.ml.azure.com")


class StandIn:
    """One Azure subscription with one resource group and one workspace.

        with StandIn() as azure:
            azure.client().jobs.create_or_update(job)
            azure.calls.assert_order("PUT codes/.*", "PUT jobs/.*")

    Between `start` and `stop` its servers run; within `active` this process and its children know Azure's hosts by
    their ports, and no other host. `with StandIn()` does both.
    """

    subscription = "11111111-2222-3333-4444-555555555555"
    group = "rg-tests"
    workspace = "ws-tests"

    def __init__(self, *, polls: int = 1, wait_ms: int = 10) -> None:
        self.calls, self.faults, self.credential, self.store = Recorder(), Faults(), StandInCredential(), Store()
        self._polls, self._wait_ms = polls, wait_ms
        self._stack = ExitStack()

    def __enter__(self) -> StandIn:
        self.start()
        self._stack.enter_context(self.active())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> StandIn:
        """Azurite and the server, each on a port of 127.0.0.1 that is free; seconds."""
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stand-in-")))
            certificate = make(self.folder, [*HOSTS, *(f"*.{REGION}{end}" for end in (*SCORING, END)), f"*.{HOST}"])
            self.blobs = Blobs(self.folder / "blobs", f"standin{os.urandom(4).hex()}", certificate)
            stack.callback(self.blobs.stop)
            self.blobs.start()
            self.server = Server(certificate, self._services(), self.calls, self.faults)
            self.server.start()
            stack.callback(self.server.stop)
            self.identity = Identity(self.credential)
            stack.callback(self.identity.stop)
            self.environment = self._environment(certificate.bundle)
            with self.active():
                self.arm.add_workspace(self.workspace)
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Ends jobs that still run, the servers, and removes their files."""
        with self.active():
            self.reset()
        self._stack.close()

    @contextmanager
    def active(self) -> Iterator[StandIn]:
        """Azure's names, its certificate and what else clients need, in this process and its children."""
        with ExitStack() as stack:
            stack.enter_context(_changed(self.environment))
            if names.install():
                stack.callback(names.remove)
            yield self

    def _services(self) -> dict[str, Service]:
        """What answers, by the end of the host's name."""
        scope = Scope(self.subscription, self.group)
        self.jobs, self.tracking = Jobs(self.store), Tracking(self.store)
        self.jobs.begun.append(self.tracking.begin)
        self.scoring = Scoring(self.store, self.jobs)
        operations = Operations(scope.root, self._polls, self._wait_ms)
        self.arm = Arm(scope, self.store, self.blobs, self.jobs, operations, self.scoring)
        self.deployments = Deployments(self.store, self.group, self.arm.add_workspace)
        self.autoscale = Autoscale(self.store, self.group)
        self.containers = Containers(self.store, self.group, operations)
        history = History(self.store, self.blobs, self.jobs, self.tracking)
        return {
            "management.azure.com": self._manage,
            ".api.azureml.ms": lambda request, _: history.answer(request),
            **dict.fromkeys(SCORING, lambda request, _: self.scoring.answer(request)),
            END: lambda request, _: self.containers.score(request),
        }

    def reset(self) -> None:
        """Forgets records, faults, scripts, scorers and the executor, for the next test; resources stay."""
        if isinstance(self.jobs.executor, Executor):
            self.jobs.executor.close()
        self.jobs.executor = None
        self.tracking.instead = None
        self.jobs.scripts.clear()
        self.scoring.scorers.clear()
        self.scoring.logs.clear()
        self.containers.scorers.clear()
        self.containers.logs.clear()
        self.faults.clear()
        self.calls.clear()
        _forget_deployment()

    def _environment(self, bundle: Path) -> dict[str, str]:
        """What this process and children need: names, certificates, no proxies, no waiting, no telemetry."""
        ports = dict.fromkeys((*HOSTS, *(f"*{end}" for end in (*SCORING, END))), self.server.port) | {
            f"*.{HOST}": self.blobs.port
        }
        child = str(Path(__file__).parent / "child")
        before = os.environ.get("PYTHONPATH")
        return {
            names.VARIABLE: names.written(ports),
            "PYTHONPATH": child if before is None else f"{child}{os.pathsep}{before}",
            "REQUESTS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
            "NO_PROXY": "*",
            "AZUREML_RUN_POLLING_INTERVAL_MIN": "0",
            "AZUREML_RUN_POLLING_INTERVAL_MAX": "1",
            "AZURE_CORE_COLLECT_TELEMETRY": "false",
        }

    def _manage(self, request: Request, fault: Fault | None) -> Answer:
        if Deployments.PATH.fullmatch(request.path):
            return self.deployments.answer(request)
        if Autoscale.PATH.fullmatch(request.path):
            return self.autoscale.answer(request)
        if Containers.PATH.fullmatch(request.path):
            return self.containers.answer(
                request, fault.operation_error if fault else None, fault.polls if fault else None
            )
        return self.arm.answer(request, fault.operation_error if fault else None, fault.polls if fault else None)

    def client(self, **settings: Any) -> Any:
        """The SDK's own MLClient for the workspace."""
        from azure.ai.ml import MLClient

        settings = {"show_progress": False, "enable_telemetry": False, **settings}
        return MLClient(self.credential, self.subscription, self.group, self.workspace, **settings)

    def execute_jobs(self, python: str | Path, environment: Mapping[str, str] | None = None) -> Executor:
        """From now on command jobs and jobs of batch endpoints run on this machine, `python` in their command lines being this."""
        token = self.credential.get_token("https://ml.azure.com/.default").token
        of_run = {"MLFLOW_TRACKING_TOKEN": token, "AZUREML_RUN_TOKEN": token}
        variables = {**self.environment, **self.identity.variables, **of_run, **(environment or {})}
        executor = BatchExecutor(self.folder / "runs", self.store, self.blobs, python, variables)
        executor.pipelines = Pipelines(self.store, self.jobs)
        executor.others["Pipeline"] = executor.pipelines.start
        executor.others["Sweep"] = Sweeps(executor, self.store, self.tracking).start
        self.jobs.executor = executor
        return executor


def _forget_deployment() -> None:
    """The SDK keeps the deployment that a call to an endpoint named, for all later calls of the process."""
    from azure.ai.ml.constants._endpoint import EndpointInvokeFields

    EndpointInvokeFields.DEFAULT_HEADER.pop(EndpointInvokeFields.MODEL_DEPLOYMENT, None)


@contextmanager
def _changed(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
