"""Where a service's model comes from, and how another takes its place."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pointseg.core.addresses import is_registered_model, is_shipped_model
from pointseg.core.errors import PointsegError
from pointseg.core.files import expanded
from pointseg.engine.prediction.output import model_identity
from pointseg.engine.predictor import Predictor
from pointseg.engine.views import Views
from pointseg.models import ModelClasses
from pointseg.serving.engine import Engine, Served
from pointseg.serving.refusal import Refusal
from pointseg.serving.telemetry import Telemetry
from pointseg.tracking import download_model, registered_version

__all__ = ["Reloader", "Source"]

WARM_POINTS = 20_000


@dataclass(frozen=True)
class Source:
    """How models are loaded.

    Attributes:
        checkpoint: what `Predictor.load` takes.
        device, strict, views, models: of the predictor.
        adapt: changes each model that is loaded; None: none.
        tracking_uri: where models:/NAME@ALIAS is looked up, as `tracking.uri`.
        start_dir: what relative paths count from.

    Example:
        >>> predictor, model = Source("models:/pointnet-semseg@champion").load()
        >>> model["version"]
        '3'
    """

    checkpoint: str
    device: str | torch.device = "cpu"
    strict: bool = False
    views: Views | None = None
    models: ModelClasses = ()
    adapt: Callable[[Predictor], Predictor] | None = None
    tracking_uri: str = "auto"
    start_dir: Path = Path()

    def load(self, checkpoint: str | None = None) -> Served:
        """A model, warmed up, and what callers are told about it.

        Args:
            checkpoint: another than that of the service.

        Raises:
            CheckpointError, TrackingError: as `Predictor.load`.
        """
        wanted = checkpoint or self.checkpoint
        if is_registered_model(wanted):
            name, version, _ = registered_version(wanted, self.tracking_uri, self.start_dir)
            # by its version, which an alias that moves meanwhile does not change
            path: str | Path = download_model(f"models:/{name}/{version}", self.tracking_uri, self.start_dir)
            try:
                predictor = self._predictor(path)
            finally:
                _remove_copy(Path(path))
        else:
            shipped = is_shipped_model(wanted)
            predictor = self._predictor(wanted if shipped else self.start_dir / expanded(wanted))
            name, version = wanted if shipped else predictor.model.title, ""
        identity = model_identity(predictor.trained)
        return Served(predictor, {"name": name, "version": version or identity[:12], "sha256": identity})

    def _predictor(self, path: str | Path) -> Predictor:
        predictor = Predictor.load(path, self.device, strict=self.strict, views=self.views, models=self.models)
        if self.adapt is not None:
            predictor = self.adapt(predictor)
        warm_up(predictor)
        return predictor


def warm_up(predictor: Predictor) -> None:
    """Predict something, so that the first caller does not wait for what is set up once; a model that cannot is refused."""
    random = np.random.default_rng(0)
    low, high = [-30.0, -30.0, -1.8, 0.0], [30.0, 30.0, 3.0, 1.0]
    points, extra = random.uniform(low, high, (WARM_POINTS, 4)), np.zeros((WARM_POINTS, len(predictor.extra)))
    predictor.predict(np.concatenate([points, extra], axis=1).astype(np.float32))


def _remove_copy(path: Path) -> None:
    """The copy that a download made, which would stay as long as the service."""
    for folder in (path, *path.parents):
        if folder.name.startswith("pointseg-model-"):
            shutil.rmtree(folder, ignore_errors=True)


class Reloader:
    """Puts another model into a running engine: loaded and warmed beside the present one, then exchanged.

    Args:
        engine: that goes on answering meanwhile.
        source: how models are loaded.
        telemetry: that is told.
    """

    def __init__(self, engine: Engine, source: Source, telemetry: Telemetry) -> None:
        self.engine, self.source, self.telemetry = engine, source, telemetry
        self._loading = False

    async def reload(self, checkpoint: str | None, request_id: str) -> dict[str, dict[str, str]]:
        """Load and exchange; `checkpoint` None: that which the service began with, whose alias may have moved.

        Returns:
            {"model": ..., "before": ...}

        Raises:
            Refusal: 409 while another reload is under way, 422 where the model cannot be used; the present one stays.
        """
        if self._loading:
            self.telemetry.reload("refused", request_id=request_id, why="another reload is under way")
            raise Refusal(409, "another reload is under way", remedy="Wait for its answer.")
        self._loading = True
        before = dict(self.engine.served.model)
        try:
            predictor, model = await asyncio.to_thread(self._load, checkpoint)
        except PointsegError as error:
            self.telemetry.reload("failed", request_id=request_id, why=str(error))
            where = None if error.where is None else str(error.where)
            remedy = f"{error.remedy} The model before stays.".strip()
            raise Refusal(422, error.what, where=where, remedy=remedy) from error
        except BaseException:
            self.telemetry.reload("failed", request_id=request_id, why="see the exception of this request")
            raise
        finally:
            self._loading = False
        self.engine.swap(predictor, model)
        self.telemetry.set_model(model)
        self.telemetry.reload("done", request_id=request_id, model=dict(model), before=before)
        return {"model": dict(model), "before": before}

    def _load(self, checkpoint: str | None) -> Served:
        torch.set_num_threads(1)  # of this thread: callers go first
        return self.source.load(checkpoint)
