"""What the rest of pointseg sees of a run, and the run that logs nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from typing import Self

    from pytorch_lightning.loggers import Logger

__all__ = ["NullTracker", "Status", "Tracker"]

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracker(ABC):
    """What the rest of pointseg sees of a run. Used in a `with` block it ends with FINISHED, FAILED or KILLED.

    None of the methods raises because of the store: a failure in the middle of a run is logged as one warning.

    Example:
        >>> from pointseg.tracking import start
        >>> with start("off", None, "run", start_dir=Path.cwd(), params={}, tags={}) as tracker:
        ...     tracker.log_metrics({"loss": 0.5}, step=1)
    """

    run_id: str | None = None
    uri: str | None = None
    experiment_id: str | None = None
    ui_hint: str = "Tracking is off."

    @abstractmethod
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Settings; nested names are joined by dots. One that has another value already (a resumed run) becomes the
        tag `param_changed.NAME`, since MLflow's parameters are final."""

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers, NaN and infinities too; what is not a number is left out."""

    @abstractmethod
    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Tags; an old value is replaced."""

    @abstractmethod
    def log_artifact(self, path: str | Path, folder: str | None = None) -> None:
        """A file, or what is in a folder, below `folder` in the run; secrets in small text files (YAML, JSON, logs,
        Markdown) are masked on the way."""

    @abstractmethod
    def log_text(self, text: str, name: str) -> None:
        """A text as the artifact `name`, such as "reports/summary.md"."""

    @abstractmethod
    def log_figure(self, figure: Any, name: str) -> None:
        """A Matplotlib figure as a PNG artifact; the caller closes it."""

    @abstractmethod
    def flush(self) -> None:
        """Sends the metrics that an absent server left behind."""

    @abstractmethod
    def lightning_logger(self) -> Logger | Literal[False]:
        """What `Trainer(logger=...)` takes. Never None: Lightning would write files of its own."""

    @abstractmethod
    def finish(self, status: Status = "FINISHED") -> None:
        """Ends the run; a second call does nothing. A joined run is ended by its owner (see `start`)."""

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

    def log_params(self, params: Mapping[str, Any]) -> None: ...

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None: ...

    def set_tags(self, tags: Mapping[str, Any]) -> None: ...

    def log_artifact(self, path: str | Path, folder: str | None = None) -> None: ...

    def log_text(self, text: str, name: str) -> None: ...

    def log_figure(self, figure: Any, name: str) -> None: ...

    def flush(self) -> None: ...

    def finish(self, status: Status = "FINISHED") -> None: ...

    def lightning_logger(self) -> Logger | Literal[False]:
        if self._rank == 0:
            return False
        from pointseg.tracking.lightning import DummyLogger

        return DummyLogger()  # some callbacks refuse a trainer without a logger, on every rank
