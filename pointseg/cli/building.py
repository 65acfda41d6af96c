"""Configuration -> the library's objects."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig

from pointseg.cli.values import plain, refused_values
from pointseg.data.datamodule import ScanDataModule
from pointseg.errors import ConfigError
from pointseg.features import FeatureSpec
from pointseg.models import SegmentationModel

__all__ = ["build_data", "build_features", "build_model"]


def build_features(config: DictConfig) -> FeatureSpec:
    """The `features` section."""
    with refused_values("features"):
        values = plain(config.features)
        used = set(values["use"])
        for key in ("offset", "scale"):
            values[key] = {name: value for name, value in values[key].items() if name in used}
        return FeatureSpec(**values)


def build_data(config: DictConfig, features: FeatureSpec) -> ScanDataModule:
    """The `data` section."""
    section = config.data
    workers = section.get("num_workers", 0)
    if workers < 0:
        raise ConfigError(f"{workers} is negative", where="data.num_workers")
    data: ScanDataModule = _build(section, "data", features=features, seed=config.seed)
    return data


def build_model(config: DictConfig, features: FeatureSpec, num_classes: int) -> SegmentationModel:
    """The `model` section, for these features and classes."""
    if config.model.get("input_transform") and features.use[:3] != ("x", "y", "z"):
        raise ConfigError(
            f"the input T-Net turns the first three features, which are {', '.join(features.use[:3])}",
            where="features.use",
            remedy="Begin with x, y, z, or set model.input_transform=false.",
        )
    model: SegmentationModel = _build(config.model, "model", in_features=len(features), num_classes=num_classes)
    return model


def _build(section: DictConfig, name: str, **arguments: Any) -> Any:
    with refused_values(name):
        # partial: arguments passed through instantiate would be converted to plain values
        return instantiate(section, _convert_="all", _partial_=True)(**arguments)
