"""What LightningModule.log() writes to; imported on use, since Lightning takes seconds to import."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import DummyLogger

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from pointseg.tracking.run import MlflowTracker

__all__ = ["DummyLogger", "TrackerLogger"]


class TrackerLogger(MLFlowLogger):
    """Lightning's MLFlowLogger bound to the run of a tracker.

    The original calls `mlflow.set_tracking_uri`, which changes MLFLOW_TRACKING_URI for every later run of the process,
    ends the run when the trainer does (even one that belongs to the platform), and lets a lost server end the
    training. Here the tracker does the writing, and it alone ends the run.

    Example:
        >>> Trainer(logger=tracker.lightning_logger())  # doctest: +SKIP
    """

    def __init__(self, tracker: MlflowTracker) -> None:
        super().__init__(tracking_uri=tracker.uri, run_id=tracker.run_id, log_model=False)
        self._tracker = tracker
        self._mlflow_client = tracker.client
        self._experiment_id = tracker.experiment_id
        self._initialized = True  # so that the inherited properties never look for a run of their own

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
