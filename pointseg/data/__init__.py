"""From files to tensors: scans and their formats, synthetic streets, sampling, augmentation, DataModules."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Augmentation": "augmentation",
    "InstancePaste": "augmentation",
    "JoinedScans": "joined",
    "LaserMix": "augmentation",
    "PackedScans": "store",
    "PackedStore": "store",
    "PolarMix": "augmentation",
    "Sampling": "sampling",
    "Scan": "scan",
    "SemanticKITTIDataModule": "datamodules",
    "SemanticKITTIScans": "semantickitti",
    "Streets": "streets",
    "SyntheticDataModule": "datamodules",
    "SyntheticScans": "synthetic",
    "TrainedPoints": "trained_points",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    """Imports on use: a DataModule brings Lightning, a scan only NumPy."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
