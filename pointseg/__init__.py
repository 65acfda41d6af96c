"""pointseg: LiDAR point-cloud semantic segmentation, from raw scans to a trained, tracked model.

Names are imported on use, so that `import pointseg` is quick and prediction needs neither Lightning, Hydra nor MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Client": "pointseg.client",
    "FeatureSpec": "pointseg.features",
    "LabelMap": "pointseg.labels",
    "PointsegError": "pointseg.errors",
    "Predictor": "pointseg.predictor",
    "SegmentationModule": "pointseg.module",
    "SemanticKITTIDataModule": "pointseg.data.datamodule",
    "SyntheticDataModule": "pointseg.data.datamodule",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
