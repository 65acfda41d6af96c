"""System metrics (CPU, memory, disk, network, GPU) of a run. Imported on use, since it imports MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

if TYPE_CHECKING:
    from pointseg.engine.training.tracker import Tracker

__all__ = ["Monitor"]


class Monitor(SystemMetricsMonitor):
    """MLflow's monitor, publishing through a tracker.

    The first sample is taken after one second, and the interval grows to 15 s, so that short runs get a curve and long ones
    are not flooded; MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL fixes it. The last sample is written at `finish`.
    """

    def __init__(self, tracker: Tracker, *, resume: bool) -> None:
        super().__init__(tracker.run_id, sampling_interval=1, resume_logging=resume, tracking_uri=tracker.uri)
        self._tracker = tracker
        self._grows = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() is None

    def monitor(self) -> None:
        """The work of the thread; unlike the original, it never queries the server and survives its absence."""
        stopped = False
        while not stopped:
            self.collect_metrics()
            stopped = self._shutdown_event.wait(self.sampling_interval)
            self.publish_metrics(self.aggregate_metrics())
            if self._grows:
                self.sampling_interval = min(15.0, self.sampling_interval * 1.5)

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        prefix = "system/" + (f"{self.node_id}/" if self.node_id else "")
        self._tracker.log_metrics({prefix + name: value for name, value in metrics.items()}, step=self._logging_step)
        self._logging_step += 1
        for part in self.monitors:
            part.clear_metrics()

    def finish(self) -> None:
        self._shutdown_event.set()
        if self._process is not None:
            self._process.join(timeout=60)
            self._process = None
