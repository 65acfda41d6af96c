"""The parent run of a sweep: one for all its jobs, whichever process comes first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg.errors import TrackingError
from pointseg.tracking.interface import Status
from pointseg.tracking.run import base_tags, end_run
from pointseg.tracking.store import connect, environment_run, experiment_for, plain_errors, resolve_uri
from pointseg.tracking.values import flatten

__all__ = ["finish_parent", "mark_parent", "start_parent"]

_FILE = "mlflow_parent.json"


def start_parent(
    uri: str | None, experiment: str | None, run_name: str, start_dir: Path, sweep_dir: Path
) -> str | None:
    """The id of the sweep's parent run, to be given to `start(parent_run_id=...)`; None where tracking is off.

    The first process creates it under a lock and keeps its id in `sweep_dir`; the others read that. A run that the
    environment names (MLFLOW_RUN_ID, as in an Azure ML job) is the parent itself and is not ended by us.

    Raises:
        TrackingError: where the store cannot be used, or the recorded run is not in it.

    Example:
        >>> parent = start_parent("auto", None, "sweep", Path.cwd(), Path("multirun/1"))  # doctest: +SKIP
    """
    store = resolve_uri(uri, start_dir)
    if store is None:
        return None
    client = connect(store)
    from filelock import FileLock

    sweep_dir.mkdir(parents=True, exist_ok=True)
    path = sweep_dir / _FILE
    with FileLock(f"{path}.lock"), plain_errors(store):
        if path.is_file():
            run_id = str(_read(path)["run_id"])
            if client.get_run(run_id).info.status != "RUNNING":  # a sweep that is continued
                client.update_run(run_id, status="RUNNING")
            return run_id
        joined = environment_run(store, start_dir)
        if joined:
            run_id = str(client.get_run(joined).info.run_id)
        else:
            number = experiment_for(client, store, experiment)
            run_id = str(client.create_run(number, run_name=run_name, tags=base_tags()).info.run_id)
        import json

        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"run_id": run_id, "joined": bool(joined)}), encoding="utf-8")
        temporary.replace(path)
        return run_id


def finish_parent(uri: str | None, start_dir: Path, sweep_dir: Path, status: Status = "FINISHED") -> None:
    """Ends the parent run; does nothing where there is none.

    Raises:
        TrackingError: where the store cannot be used.

    Example:
        >>> finish_parent("auto", Path.cwd(), Path("multirun/1"), "FAILED")  # doctest: +SKIP
    """
    store, path = resolve_uri(uri, start_dir), sweep_dir / _FILE
    if store is None or not path.is_file():
        return
    record = _read(path)
    with plain_errors(store):
        end_run(connect(store), str(record["run_id"]), status, owned=not record["joined"])


def mark_parent(
    uri: str | None, start_dir: Path, sweep_dir: Path, tags: Mapping[str, Any], metrics: Mapping[str, float]
) -> None:
    """Sets tags and metrics of the parent run; does nothing where there is none. Tags that are None are left out.

    Raises:
        TrackingError: where the store cannot be used.

    Example:
        >>> mark_parent("auto", Path.cwd(), Path("multirun/1"), {"best_run_id": "..."}, {})  # doctest: +SKIP
    """
    store, path = resolve_uri(uri, start_dir), sweep_dir / _FILE
    if store is None or not path.is_file():
        return
    run_id, client = str(_read(path)["run_id"]), connect(store)
    with plain_errors(store):
        for name, text in flatten({key: value for key, value in tags.items() if value is not None}).items():
            client.set_tag(run_id, name, text)
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)


def _read(path: Path) -> dict[str, object]:
    import json

    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return {"run_id": record["run_id"], "joined": record["joined"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrackingError(
            "the record of the sweep's parent run is damaged", where=path, remedy="Delete it: a new parent is made."
        ) from error
