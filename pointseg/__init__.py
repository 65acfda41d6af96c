"""pointseg: LiDAR point-cloud semantic segmentation, from raw scans to a trained, tracked model.

Names are imported on use, so that `import pointseg` is quick and prediction needs neither Lightning, Hydra nor MLflow.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointseg.core.addresses import fetch_models_with
from pointseg.core.package import VERSION as __version__

if TYPE_CHECKING:  # for editors and type checkers; at run time they are imported on use
    from pointseg.core.errors import PointsegError
    from pointseg.core.labels import LabelMap
    from pointseg.data.datamodules import SemanticKITTIDataModule, SyntheticDataModule
    from pointseg.data.features import FeatureSpec
    from pointseg.engine.official_iou import OfficialIoU, OfficialMeanIoU
    from pointseg.engine.predictor import Predictor
    from pointseg.engine.segmentation_module import SegmentationModule
    from pointseg.serving.client import Client

_HOMES = {
    "Client": "pointseg.serving.client",
    "FeatureSpec": "pointseg.data.features",
    "LabelMap": "pointseg.core.labels",
    "OfficialIoU": "pointseg.engine.official_iou",
    "OfficialMeanIoU": "pointseg.engine.official_iou",
    "PointsegError": "pointseg.core.errors",
    "Predictor": "pointseg.engine.predictor",
    "SegmentationModule": "pointseg.engine.segmentation_module",
    "SemanticKITTIDataModule": "pointseg.data.datamodules",
    "SyntheticDataModule": "pointseg.data.datamodules",
}
__all__ = [
    "Client",
    "FeatureSpec",
    "LabelMap",
    "OfficialIoU",
    "OfficialMeanIoU",
    "PointsegError",
    "Predictor",
    "SegmentationModule",
    "SemanticKITTIDataModule",
    "SyntheticDataModule",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _fetch_registered(name: str) -> Path:
    """From the registry at MLFLOW_TRACKING_URI, else of mlruns.db in the current folder."""
    from pointseg.tracking import download_model

    return download_model(name, "auto", Path.cwd())


fetch_models_with(_fetch_registered)
