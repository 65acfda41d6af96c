"""Sections that several tasks have."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.azure.sign_in import AUTH
from pointseg.core.config import MAPPING, READS, TEXT, key
from pointseg.core.errors import ConfigError

__all__ = [
    "ACCELERATORS",
    "DATA_READS",
    "ON_ERROR",
    "AzureConfig",
    "GateConfig",
    "SPLITS",
    "SyntheticConfig",
    "TrackingConfig",
    "ViewsConfig",
    "adapt_key",
    "adapt_scans_key",
    "adapt_share_key",
    "checkpoint_key",
    "models_key",
    "untracked",
]

SPLITS = ("train", "val", "test")
ACCELERATORS = ("auto", "cpu", "gpu")
DATA_READS = ("root", "labels")  # keys of a data section that name something to read
ON_ERROR = ("skip", "stop")  # what is done about a file that cannot be used


@dataclass
class TrackingConfig:
    """Where runs are recorded, and where registered models are looked up."""

    uri: str | None = key(
        "auto",
        "MLFLOW_TRACKING_URI where set, else sqlite:///mlruns.db in the folder of the command; a URI; or off",
        TEXT,
    )
    experiment: str = key("pointnet-semseg", "MLflow experiment that the runs belong to", TEXT)
    run_name: str | None = key(None, "name of the run in MLflow; null: MLflow chooses one", TEXT)
    tags: dict[str, str] = key({}, "tags of the run: tracking.tags.NAME=VALUE", MAPPING)
    system_metrics: bool = key(True, "record load and memory of the machine during a training")


def untracked() -> TrackingConfig:
    """Records nothing; registered models are still looked up."""
    return TrackingConfig(uri="off", system_metrics=False)


@dataclass
class ViewsConfig:
    """Test-time augmentation: each scan predicted from so many views, the probabilities averaged."""

    count: int = key(1, "views of each scan; 1: no augmentation; the time grows with it")
    yaw_degrees: float = key(10.0, "largest turn of a view, either way")
    scale: float = key(0.03, "largest change of size of a view, as a share")
    flip: bool = key(True, "mirror every second view across the driving direction")


def checkpoint_key(default: str | None = "street") -> str | None:
    """A key of the tasks that use a trained model."""
    return key(
        default,
        "a .ckpt, a run folder (its best), a bundle, an export, models:/NAME@ALIAS, or street: the model in this package",
        READS,
    )


def models_key() -> list[str]:
    """Goes with `checkpoint_key`."""
    return key([], "model classes of your own that the checkpoint may hold, such as my_package.MyNet", TEXT)


def adapt_key() -> str | None:
    """A key that three tasks have."""
    return key(
        None,
        "unlabelled clouds of your sensor, to take BatchNorm's statistics from: a file, a folder or a pattern",
        READS,
    )


def adapt_scans_key() -> int:
    """Goes with `adapt_key`."""
    return key(40, "clouds of `adapt` that are read, spread evenly over it")


def adapt_share_key() -> float:
    """Goes with `adapt_key`."""
    return key(0.5, "share of their statistics; the rest are those of training")


@dataclass
class GateConfig:
    """Scores that a model must reach to be registered."""

    miou: float | None = key(None, "least mIoU over all classes, 0 to 1")
    miou_present: float | None = key(None, "least mIoU over the classes that occur, 0 to 1")
    accuracy: float | None = key(None, "least accuracy over all labelled points, 0 to 1")

    def limits(self) -> dict[str, float]:
        """Those that are set.

        Raises:
            ConfigError: for a limit that is no share.
        """
        limits = {name: limit for name, limit in vars(self).items() if limit is not None}
        for name, limit in limits.items():
            if not 0 <= limit <= 1:
                raise ConfigError(f"{limit:g} is no share", where=f"gate.{name}", remedy="Give 0 to 1, such as 0.25.")
        return limits


@dataclass
class SyntheticConfig:
    """A synthetic data set that `prepare` makes."""

    scans: int | None = key(
        None, "number of scans, spread over sequences 00 to 10, so that the official split has scans on both sides"
    )
    seed: int = key(0, "random seed of the streets")
    beams: int = key(64, "of the sensor: 16, 32, 64 or 128")
    azimuth_steps: int = key(2000, "rays of a beam in one turn")
    label_range: float | None = key(50.0, "metres: points beyond are unlabelled, as in SemanticKITTI; null labels all")


@dataclass
class AzureConfig:
    """The Azure ML workspace, and how to sign in."""

    subscription: str | None = key(None, "its id; null: AZURE_SUBSCRIPTION_ID, or .azureml/config.json", TEXT)
    group: str | None = key(None, "its resource group; null: AZURE_RESOURCE_GROUP, or .azureml/config.json", TEXT)
    workspace: str | None = key(None, "its name; null: AZURE_ML_WORKSPACE, or .azureml/config.json", TEXT)
    auth: str = key("default", "how to sign in", choices=AUTH)
