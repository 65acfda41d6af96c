"""MLflow behind one small interface: a local SQLite file, a tracking server, or Azure ML.

    >>> with start("auto", None, "first", start_dir=Path.cwd(), params={"lr": 1e-3}, tags={}) as tracker:  # doctest: +SKIP
    ...     tracker.log_metrics({"val/miou": 0.5}, step=1)

A failure at the start of a run raises a `TrackingError` before any work is done. A failure in the middle, such as a lost
server, never ends the training: one warning is logged, and the metrics are sent when the server is back.

Importing this package imports neither MLflow nor Lightning; using it does.
"""

from __future__ import annotations

from pointseg.engine.training.tracker import NullTracker, Status, Tracker
from pointseg.tracking.mlflow_run import MlflowTracker, start
from pointseg.tracking.model_download import download_model, registered_version
from pointseg.tracking.store import DEFAULT_EXPERIMENT, resolve_uri
from pointseg.tracking.sweep import finish_parent, mark_parent, start_parent

__all__ = [
    "DEFAULT_EXPERIMENT",
    "MlflowTracker",
    "NullTracker",
    "Status",
    "Tracker",
    "download_model",
    "finish_parent",
    "mark_parent",
    "registered_version",
    "resolve_uri",
    "start",
    "start_parent",
]
