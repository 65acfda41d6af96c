"""Configuration -> the library's objects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from pointseg.data.datamodule import ScanDataModule
from pointseg.errors import ConfigError, PointsegError
from pointseg.features import FeatureSpec
from pointseg.models import SegmentationModel

__all__ = ["build_data", "build_features", "build_model", "plain", "progress_bar", "refused_values"]


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as plain values."""
    values = OmegaConf.to_container(section, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


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


@contextmanager
def refused_values(name: str) -> Iterator[None]:
    """Building from the section `name`: what it does not take becomes an error of the user's."""
    try:
        yield
    except (InstantiationException, TypeError, ValueError, IndexError) as error:
        cause = error.__cause__
        if isinstance(cause, PointsegError):
            raise cause from None
        reason = " ".join(str(cause or error).split())[:240]
        raise ConfigError(f"cannot be built ({reason})", where=name, remedy=f"Check the values of {name}.") from error


def progress_bar(what: str) -> Callable[[int, int], None]:
    """A callback (done, in all) that draws a bar on a terminal and is silent elsewhere."""
    bar: tqdm[Any] | None = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=what, unit="scan", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return update
