"""The parent run of a sweep: one for all its jobs, whichever process comes first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg.core.errors import TrackingError
from pointseg.core.files import write_json
from pointseg.engine.training.tracker import Status
from pointseg.tracking.mlflow_run import base_tags, end_run
from pointseg.tracking.mlflow_values import flatten
from pointseg.tracking.store import environment_run, experiment_for, open_store, plain_store_errors, resolve_uri

__all__ = ["finish_parent", "mark_parent", "start_parent"]

_FILE = "mlflow_parent.json"


def start_parent(
    uri: str | None, experiment: str | None, run_name: str, start_dir: Path, sweep_dir: Path
) -> str | None:
    """The id of the sweep's parent run for `start(parent_run_id=...)`; None if tracking is off.

    The first process creates the run under a lock and records its id in `sweep_dir`; the others read that. A run that the
    environment names (MLFLOW_RUN_ID, as in an Azure ML job) is the parent itself, and `finish_parent` does not end it.

    Raises:
        TrackingError: if the store cannot be used, or lacks the recorded run.
    """
    store = resolve_uri(uri, start_dir)
    if store is None:
        return None
    client = open_store(store)
    from filelock import FileLock

    sweep_dir.mkdir(parents=True, exist_ok=True)
    path = sweep_dir / _FILE
    with FileLock(f"{path}.lock"), plain_store_errors(store):
        if path.is_file():
            run_id, _ = _read(path)
            if client.get_run(run_id).info.status != "RUNNING":  # a sweep that is continued
                client.update_run(run_id, status="RUNNING")
            return run_id
        if joined := environment_run(store, start_dir):
            run = client.get_run(joined)
        else:
            run = client.create_run(experiment_for(client, store, experiment), run_name=run_name, tags=base_tags())
        write_json(path, {"run_id": str(run.info.run_id), "joined": bool(joined)})
        return str(run.info.run_id)


def finish_parent(uri: str | None, start_dir: Path, sweep_dir: Path, status: Status = "FINISHED") -> None:
    """End the parent run, if there is one.

    Raises:
        TrackingError: if the store cannot be used.
    """
    store, path = resolve_uri(uri, start_dir), sweep_dir / _FILE
    if store is not None and path.is_file():
        run_id, joined = _read(path)
        with plain_store_errors(store):
            end_run(open_store(store), run_id, status, owned=not joined)


def mark_parent(
    uri: str | None, start_dir: Path, sweep_dir: Path, tags: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Set metrics and tags of the parent run, if there is one; tags that are None are omitted.

    Raises:
        TrackingError: if the store cannot be used.
    """
    store, path = resolve_uri(uri, start_dir), sweep_dir / _FILE
    if store is None or not path.is_file():
        return
    (run_id, _), client = _read(path), open_store(store)
    with plain_store_errors(store):
        for name, text in flatten({key: value for key, value in tags.items() if value is not None}).items():
            client.set_tag(run_id, name, text)
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)


def _read(path: Path) -> tuple[str, bool]:
    """The parent's id, and whether it belongs to the environment."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return str(record["run_id"]), bool(record["joined"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            "the record of the sweep's parent run is damaged", where=path, remedy="Delete it: a new parent is created."
        ) from error
