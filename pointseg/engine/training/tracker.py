"""A tracked run as the rest of pointseg sees it; this one logs nothing, and `pointseg.tracking` implements it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from typing import Self

    from pytorch_lightning.loggers import Logger

__all__ = ["NullTracker", "Status", "Tracker"]

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker:
    """A run. In a `with` block it ends with FINISHED, FAILED or KILLED.

    No method raises because of the store: a failure in the middle of a run is logged as one warning.

    Example:
        >>> from pointseg.tracking import start
        >>> with start("off", None, "run", start_dir=Path.cwd(), params={}, tags={}) as tracker:
        ...     tracker.log_metrics({"loss": 0.5}, step=1)
    """

    client: Any = None
    run_id: str | None = None
    uri: str | None = None
    experiment_id: str | None = None
    ui_hint: str = "Tracking is off."

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Settings; nested names are joined by dots. MLflow's parameters are final, so a value that has changed (in a
        resumed run) becomes the tag `param_changed.NAME`."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, including NaN and infinities; other values are left out."""

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags; they replace old values."""

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A file or the content of a folder, stored below `folder`; secrets in small text files are masked."""

    def log_text(self, text: str, name: str) -> None:
        """A text as the artifact `name`, such as "reports/summary.md"."""

    def flush(self) -> None:
        """Send the metrics that an unreachable server has missed."""

    def lightning_logger(self) -> Logger | Literal[False]:
        """The value for `Trainer(logger=...)`; never None, with which Lightning would write files of its own."""
        return False

    def finish(self, status: Status = "FINISHED") -> None:
        """End the run; a second call does nothing. The owner of a joined run ends it (see `start`)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish("FINISHED" if kind is None else "KILLED" if kind is KeyboardInterrupt else "FAILED")


class NullTracker(Tracker):
    """Logs nothing: tracking is off, or this process is not the first of a distributed run.

    Example:
        >>> NullTracker().lightning_logger()
        False
    """

    def __init__(self, rank: int = 0) -> None:
        self._rank = rank

    def lightning_logger(self) -> Logger | Literal[False]:
        if self._rank == 0:
            return False
        from pytorch_lightning.loggers.logger import DummyLogger

        return DummyLogger()  # some callbacks refuse a trainer without a logger, on every rank
