"""The Lightning logger of a tracked run. Imported on use, since Lightning takes seconds to import."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning.loggers import Logger, MLFlowLogger

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pointseg.engine.training.tracker import Tracker

__all__ = ["TrackerLogger", "tracked_run"]


def tracked_run(tracker: Tracker) -> Logger | Literal[False]:
    """The logger of a tracked run, False if none is tracked: the entry `mlflow` of the section `logger`."""
    return tracker.lightning_logger()


class TrackerLogger(MLFlowLogger):
    """Lightning's MLFlowLogger bound to the run of a tracker, which does the writing and alone ends the run.

    The original sets MLFLOW_TRACKING_URI for every later run of the process, ends the run with the trainer (even one that
    belongs to the platform), and lets a lost server end the training.
    """

    def __init__(self, tracker: Tracker) -> None:
        super().__init__(tracking_uri=tracker.uri, run_id=tracker.run_id, log_model=False)
        self._tracker = tracker
        self._mlflow_client = tracker.client
        self._experiment_id = tracker.experiment_id
        self._initialized = True  # so that the inherited properties create no run of their own

    @property
    def experiment(self) -> MlflowClient:
        return self._tracker.client

    @property
    def save_dir(self) -> str | None:
        return None

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        self._tracker.log_params(vars(params) if isinstance(params, Namespace) else params)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._tracker.log_metrics(metrics, step=step)

    def finalize(self, status: str = "success") -> None:
        self._tracker.flush()
