"""A tracked run: parameters, metrics, tags and artifacts, without secrets and without ever ending the training."""

from __future__ import annotations

import getpass
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pointseg.core.errors import TrackingError
from pointseg.core.redaction import redact_text
from pointseg.engine.training.tracker import NullTracker, Status, Tracker
from pointseg.tracking import mlflow_values as values
from pointseg.tracking.store import (
    environment_run,
    experiment_for,
    explain,
    open_store,
    patiently,
    plain_store_errors,
    resolve_uri,
    sqlite_path,
)
from pointseg.tracking.store_limits import MetricNames, limits_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from pytorch_lightning.loggers import Logger

    from pointseg.tracking.monitor import Monitor

__all__ = ["MlflowTracker", "base_tags", "end_run", "start"]

_log = logging.getLogger(__name__)
_MOST_WAITING = 20_000  # metrics kept while the server is unreachable


def start(
    uri: str | None,
    experiment: str | None,
    run_name: str | None,
    *,
    start_dir: Path,
    params: Mapping[str, Any],
    tags: Mapping[str, Any],
    run_id: str | None = None,
    parent_run_id: str | None = None,
    system_metrics: bool = True,
    rank: int = 0,
) -> Tracker:
    """Create a run, or continue `run_id`, and log its parameters and tags. Ranks other than 0 log nothing.

    If the environment names a run of the same store (MLFLOW_RUN_ID with MLFLOW_TRACKING_URI, as in an Azure ML job) and there
    is no `parent_run_id`, that run is joined. It belongs to the platform, so it is never ended here; a failure sets the tag
    `pointseg.status`. A `run_id` of another job is not written to then: the tag `resumed_from` names it.

    Raises:
        TrackingError: if the store cannot be used or a named run does not exist, before any work is done.

    Example:
        >>> start("off", None, "first", start_dir=Path.cwd(), params={"lr": 0.1}, tags={}).ui_hint
        'Tracking is off.'
    """
    store = resolve_uri(uri, start_dir)
    if rank != 0:
        return NullTracker(rank if store else 0)
    if store is None:
        return NullTracker()
    client = open_store(store)
    named_by_environment = environment_run(store, start_dir)
    wanted = run_id if parent_run_id else named_by_environment or run_id
    owned = wanted is None or wanted != named_by_environment
    labels = {"mlflow.parentRunId": parent_run_id} if parent_run_id else {}
    if run_id and run_id != wanted:
        labels["resumed_from"] = run_id
    with plain_store_errors(store):
        if wanted:
            run = _continue(client, store, wanted, owned=owned)
        else:
            number = patiently(lambda: experiment_for(client, store, experiment))
            run = patiently(lambda: client.create_run(number, run_name=run_name, tags={**base_tags(), **labels}))
        tracker = MlflowTracker(
            client, store, str(run.info.run_id), str(run.info.experiment_id), owned=owned, metrics=run.data.metrics
        )
        with tracker.strictly():
            tracker.set_tags({**labels, **tags})
            tracker.log_params(params)
    if system_metrics:
        tracker.start_monitor(resume=wanted is not None)
    return tracker


def base_tags() -> dict[str, str]:
    """Who and what started the run, for the columns of MLflow's table."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run under a user id without a name
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": Path(sys.argv[0]).name or "python",
        "mlflow.source.type": "LOCAL",
    }


def _continue(client: MlflowClient, uri: str, run_id: str, *, owned: bool) -> Any:
    run = patiently(lambda: client.get_run(run_id))
    if run.info.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the run {run_id} was deleted",
            where=redact_text(uri),
            remedy=f"Restore it with `mlflow runs restore --run-id {run_id}`, or start a new one.",
        )
    if owned and run.info.status != "RUNNING":
        patiently(lambda: client.update_run(run_id, status="RUNNING"))
    return run


def end_run(client: MlflowClient, run_id: str, status: Status, *, owned: bool) -> None:
    """Set the final status of an owned run; a joined run only gets a tag for a failure."""
    if owned:
        client.set_terminated(run_id, status)
    elif status != "FINISHED":
        client.set_tag(run_id, "pointseg.status", status)


class MlflowTracker(Tracker):
    """A run in an MLflow store, created by `start`. Several threads may use it at once."""

    run_id: str
    uri: str
    experiment_id: str

    def __init__(
        self,
        client: MlflowClient,
        uri: str,
        run_id: str,
        experiment_id: str,
        *,
        owned: bool,
        metrics: Iterable[str] = (),
    ) -> None:
        self._limits = limits_of(uri)
        self._names = MetricNames(self._limits.metric_names, metrics)
        self.client, self.uri, self.run_id, self.experiment_id, self.owned = client, uri, run_id, experiment_id, owned
        self.ui_hint = values.ui_hint(uri, sqlite_path(uri), experiment_id, run_id)
        self._lock = threading.RLock()
        self._waiting: list[Metric] = []
        self._later: list[Callable[[], object]] = []
        self._strict = self._warned = self._finished = False
        self._silent_until, self._pause = 0.0, 15.0
        self._monitor: Monitor | None = None

    @contextmanager
    def strictly(self) -> Iterator[None]:
        """Let errors pass in this block: a run must not start with gaps."""
        self._strict = True
        try:
            yield
        finally:
            self._strict = False

    def _attempt(self, call: Callable[[], object], *, always: bool = False) -> bool:
        """Run a request; False if it is worth repeating. After a failure, warn once and leave the store alone for a growing
        time, so that a lost server costs a training seconds and not hours."""
        if time.monotonic() < self._silent_until and not always:
            return False
        try:
            patiently(call)
        except Exception as error:  # tracking must never end a training; plugins raise what they like
            if self._strict:
                raise
            if not self._warned:
                _log.warning("The run goes on, but tracking has gaps: %s", explain(error, self.uri))
            self._warned = True
            if getattr(error, "error_code", "") in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
                return True  # the store would refuse this request again
            self._silent_until, self._pause = time.monotonic() + self._pause, min(600.0, self._pause * 2)
            return False
        self._silent_until, self._pause = 0.0, 15.0
        return True

    def _send(self, call: Callable[[], object]) -> None:
        """Run a request, which `finish` repeats if the store is unreachable now."""
        if not self._attempt(call):
            self._later.append(call)

    def log_params(self, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param, RunTag

        def send() -> None:
            known = self.client.get_run(self.run_id).data.params
            new = [Param(name, text) for name, text in flat.items() if name not in known]
            changed = [
                RunTag(f"param_changed.{name}"[:250], text[: self._limits.tag])
                for name, text in flat.items()
                if known.get(name, text) != text
            ]
            for some in values.chunks(new, 100):
                self.client.log_batch(self.run_id, params=some)
            for marks in values.chunks(changed, 100):
                self.client.log_batch(self.run_id, tags=marks)

        flat = values.flatten(params)
        if flat:
            self._send(send)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with self._lock:
            before = len(self._names.left_out)
            numbers = {name: value for name, value in values.numbers(metrics).items() if self._names.take(name)}
            if not before and self._names.left_out:
                _log.warning(
                    "This store takes %d names of metrics a run: %s and the like are in history.csv and metrics.json alone.",
                    self._limits.metric_names,
                    min(self._names.left_out),
                )
            self._waiting += [Metric(name, value, now, step or 0) for name, value in numbers.items()]
            del self._waiting[:-_MOST_WAITING]
        self.flush()

    def flush(self, *, always: bool = False) -> None:
        with self._lock:
            while self._waiting:
                some = self._waiting[: self._limits.rows]
                if not self._attempt(partial(self.client.log_batch, self.run_id, metrics=some), always=always):
                    return
                del self._waiting[: len(some)]

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(name, text[: self._limits.tag]) for name, text in values.flatten(tags).items()]
        for some in values.chunks(entries, 100):
            self._send(partial(self.client.log_batch, self.run_id, tags=some))

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        def send() -> None:
            with values.without_secrets(Path(path)) as clean:
                upload = self.client.log_artifacts if clean.is_dir() else self.client.log_artifact
                upload(self.run_id, str(clean), folder)

        if Path(path).exists():
            self._send(send)
        else:
            _log.warning("There is no file %s to log as an artifact.", path)

    def log_text(self, text: str, name: str) -> None:
        self._send(partial(self.client.log_text, self.run_id, redact_text(text), name))

    def start_monitor(self, *, resume: bool) -> None:
        """Start to record CPU, memory, disk, network and GPU; a machine that cannot be measured is not an error."""
        try:
            from pointseg.tracking.monitor import Monitor

            self._monitor = Monitor(self, resume=resume)
            self._monitor.start()
        except Exception as error:  # psutil and the GPU libraries each have their own
            _log.info("No system metrics: %s", redact_text(str(error)))

    def lightning_logger(self) -> Logger | Literal[False]:
        from pointseg.tracking.lightning import TrackerLogger

        return TrackerLogger(self)

    def finish(self, status: Status = "FINISHED") -> None:
        if self._finished:
            return
        self._finished = True
        if self._monitor is not None:
            self._monitor.finish()
        self.flush(always=True)
        while self._later and self._attempt(self._later[0], always=True):
            del self._later[0]
        if not self._attempt(partial(end_run, self.client, self.run_id, status, owned=self.owned), always=True):
            _log.warning("The run %s could not be ended in its store; it is shown as running.", self.run_id)
        if lost := len(self._waiting) + len(self._later):
            _log.warning("%d values and files of the run %s could not be sent to its store.", lost, self.run_id)
