"""The MLflow store: tracking URIs, the connection, and its failures in plain words."""

from __future__ import annotations

import logging
import os
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pointseg.core.errors import PointsegError, TrackingError
from pointseg.core.redaction import redact_text

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["DEFAULT_EXPERIMENT", "open_store", "environment_run", "experiment_for", "plain_store_errors", "resolve_uri"]

DEFAULT_EXPERIMENT = "pointnet-semseg"

_SQLITE = "sqlite:///"
_T = TypeVar("_T")

# Set before MLflow is imported, unless the user has set them.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # MLflow's defaults (7 retries of 120 s) let a dead server delay a training by many minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
# Every failure reaches the user as a TrackingError or as one warning, so the libraries stay quiet.
_QUIET = {
    "mlflow": logging.WARNING,
    "mlflow.store.db.utils": logging.CRITICAL,
    "mlflow.system_metrics": logging.ERROR,
    "alembic": logging.WARNING,
    "filelock": logging.WARNING,
    "urllib3.connectionpool": logging.ERROR,
}


def resolve_uri(uri: str | None, start_dir: Path) -> str | None:
    """The full tracking URI, or None if tracking is off.

    "auto" is MLFLOW_TRACKING_URI if that is set, else the SQLite file `mlruns.db` in `start_dir`. Relative SQLite paths count
    from `start_dir`; a bare path ending in .db, .sqlite or .sqlite3 is a SQLite file. Resolving twice changes nothing.

    Raises:
        TrackingError: for a folder or `file:` URI, which MLflow only reads, and for a SQLite database in memory.

    Example:
        >>> resolve_uri("runs/all.db", Path("/data"))
        'sqlite:////data/runs/all.db'
    """
    if not uri or uri.lower() in ("off", "none", "null", "false"):
        return None
    if uri == "auto":
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{start_dir.absolute()}/mlruns.db"
    if uri.startswith("sqlite:") or (":" not in uri and Path(uri).suffix in (".db", ".sqlite", ".sqlite3")):
        return _resolve_sqlite(uri, start_dir)
    if uri.startswith("file:") or (":" not in uri and uri not in ("databricks", "databricks-uc", "uc")):
        raise TrackingError(
            "MLflow no longer writes runs into plain folders",
            where=redact_text(uri),
            remedy="Use a SQLite file such as sqlite:///mlruns.db, a server's http address, or 'off'.",
        )
    return uri.rstrip("/") if uri.startswith(("http:", "https:")) else uri


def _resolve_sqlite(uri: str, start_dir: Path) -> str:
    name, question_mark, query = uri.removeprefix(_SQLITE).partition("?")
    if not name or name.startswith((":memory:", "sqlite:")):
        raise TrackingError(
            "a tracking database in memory would be lost with the process",
            where=uri,
            remedy="Name a file: sqlite:///mlruns.db.",
        )
    path = start_dir.absolute() / Path(name).expanduser()
    return f"{_SQLITE}{os.path.normpath(path)}{question_mark}{query}"


def sqlite_path(uri: str) -> Path | None:
    """The file behind a resolved SQLite URI, None for other stores."""
    return Path(uri.removeprefix(_SQLITE).partition("?")[0]) if uri.startswith(_SQLITE) else None


def environment_run(uri: str | None, start_dir: Path) -> str | None:
    """The id of the run that the environment names, where it lives in the store `uri` (as in an Azure ML job)."""
    run_id, home = os.environ.get("MLFLOW_RUN_ID"), os.environ.get("MLFLOW_TRACKING_URI")
    return run_id if run_id and home and resolve_uri(home, start_dir) == uri else None


def open_store(uri: str) -> MlflowClient:
    """A client for a resolved URI; creates a missing SQLite database, even if another process does the same.

    Raises:
        TrackingError: if MLflow is missing, the server does not answer, or the database cannot be used.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ModuleNotFoundError as error:
        raise TrackingError(
            "runs cannot be tracked because a package is missing",
            where=error.name,
            remedy="Install it with `pip install mlflow`, or turn tracking off with tracking.uri=off.",
        ) from error
    if "MLFLOW_LOGGING_LEVEL" not in os.environ:
        for logger, level in _QUIET.items():
            logging.getLogger(logger).setLevel(level)
    with plain_store_errors(uri):
        if path := sqlite_path(uri):
            _prepare_sqlite(uri, path)
        elif uri.startswith(("http:", "https:")):
            _probe(uri)
        return MlflowClient(tracking_uri=uri)


def _prepare_sqlite(uri: str, path: Path) -> None:
    """Check the file and let MLflow create its tables, one process at a time: migrations must not run in parallel."""
    from filelock import FileLock, Timeout
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=180):
            _check_sqlite(path)
            SqlAlchemyStore(uri, artifact_root(path))
    except Timeout as error:
        raise TrackingError(
            "another process has held the tracking database's lock for three minutes",
            where=f"{path}.lock",
            remedy="End that process, or use another tracking.uri.",
        ) from error
    except OSError as error:
        raise TrackingError(
            f"the tracking database cannot be written ({error.strerror})",
            where=path,
            remedy="Choose a folder that can be written with tracking.uri=sqlite:///FOLDER/mlruns.db.",
        ) from error


def _check_sqlite(path: Path) -> None:
    """Refuse a damaged file, which MLflow would retry for most of a minute."""
    if not path.exists():
        return
    if not os.access(path, os.W_OK):
        raise PermissionError(13, "no permission to write", str(path))
    try:
        connection = sqlite3.connect(path, timeout=30)
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            connection.close()
    except sqlite3.DatabaseError as error:
        if "locked" not in str(error):
            raise TrackingError(
                "the tracking database is damaged or is not a SQLite file",
                where=path,
                remedy="Restore a copy, or move it away: a new one is created.",
            ) from error


def artifact_root(path: Path) -> str:
    """The artifact folder beside a SQLite database, as a URI."""
    return (path.parent / "mlartifacts").as_uri()


def _probe(uri: str) -> None:
    """Fail within seconds if nothing listens; behind a proxy only a real request can tell."""
    parts = urlsplit(uri)
    host = parts.hostname or ""
    if parts.scheme in getproxies() and not proxy_bypass(host):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    socket.create_connection((host, port), timeout=8).close()


def experiment_for(client: MlflowClient, uri: str, name: str | None) -> str:
    """The id of the experiment, which is created if missing.

    MLFLOW_EXPERIMENT_ID or MLFLOW_EXPERIMENT_NAME replace a missing or default name, but no other explicit one.

    Raises:
        TrackingError: if the experiment was deleted or cannot be created.
    """
    from mlflow.exceptions import MlflowException

    if not name or name == DEFAULT_EXPERIMENT:
        if number := os.environ.get("MLFLOW_EXPERIMENT_ID"):
            return str(client.get_experiment(number).experiment_id)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or DEFAULT_EXPERIMENT
    path = sqlite_path(uri)
    for attempt in range(3):  # another process may create it in between
        found = client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise TrackingError(
                "the experiment was deleted",
                where=name,
                remedy=f"Use another name, or `mlflow experiments restore --experiment-id {found.experiment_id}`.",
            )
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(client.create_experiment(name, artifact_location=artifact_root(path) if path else None))
        except MlflowException as error:
            if "exist" not in str(error) or attempt == 2:
                raise
    raise TrackingError("the experiment can neither be found nor created", where=name)


_EXPLANATIONS: tuple[tuple[str, str, str], ...] = (
    (
        r"error code 401|UNAUTHENTICATED|CUSTOMER_UNAUTHORIZED|\b401\b.*unauthorized",
        "the tracking server does not accept these credentials (401)",
        "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; for Azure ML, `az login`.",
    ),
    (
        r"error code 403|PERMISSION_DENIED",
        "the tracking server does not allow this (403)",
        "Ask its owner for the right to write to this experiment.",
    ),
    (r"malformed|not a database", "the tracking database is damaged", "Restore a copy, or move it away."),
    (
        r"out-of-date database schema|Can't locate revision",
        "the tracking database was made by another version of MLflow",
        "Copy the file, then run `mlflow db upgrade` with this URI, or use another tracking.uri.",
    ),
    (r"readonly database|unable to open database", "the tracking database cannot be written", "Check its permissions."),
    (r"database is locked", "the tracking database stays locked by another process", "Use a server for many writers."),
    (
        r"(?:Run|Experiment|Registered Model|Model Version).* not found|alias .* not found|No Run with id|RESOURCE_DOES_NOT_EXIST|Could not find experiment",
        "the run, experiment or model does not exist in this store",
        "Check its id and tracking.uri.",
    ),
    (r"certificate", "the tracking server's certificate is not trusted", "Name its authority in REQUESTS_CA_BUNDLE."),
    (
        r"refused|timed? ?out|resol|getaddrinfo|Name or service|Max retries|unreachable|reset by peer|Connection",
        "the tracking server does not answer",
        "Start it, correct tracking.uri, or use tracking.uri=off.",
    ),
    (
        r"JSON|error code 40[45]|DOCTYPE",
        "what answers there is not an MLflow server",
        "Correct tracking.uri: the address of the server's start page, without #/experiments.",
    ),
)


def explain(error: BaseException, uri: str) -> TrackingError:
    """A failure of MLflow, the network or the database in plain words, without secrets."""
    text = redact_text(" ".join(f"{type(error).__name__}: {error}".split()))
    where = redact_text(uri)
    for pattern, what, remedy in _EXPLANATIONS:
        if re.search(pattern, text, re.IGNORECASE):
            detail = f" ({text[:200]})" if "does not exist" in what or "answer" in what else ""
            return TrackingError(what + detail, where=where, remedy=remedy)
    return TrackingError(f"tracking failed ({text[:300]})", where=where, remedy="Check tracking.uri, or turn it off.")


@contextmanager
def plain_store_errors(uri: str) -> Iterator[None]:
    """Turn whatever MLflow, its plugins and its drivers raise into a `TrackingError`."""
    try:
        yield
    except PointsegError:
        raise
    except Exception as error:  # the stores are plugins: their exceptions have no common base
        raise explain(error, uri) from error


def patiently(call: Callable[[], _T]) -> _T:
    """Call, and repeat while SQLite reports another writer (each try waits up to 20 s itself)."""
    for pause in (0.1, 0.3, 1.0, 3.0):
        try:
            return call()
        except Exception as error:  # see plain_store_errors
            if "database is locked" not in str(error):
                raise
            time.sleep(pause)
    return call()
