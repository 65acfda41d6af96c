"""What `register` and `promote` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import MAPPING, READS, TEXT, key, section
from pointseg.workflows.settings.shared import ACCELERATORS, SPLITS, GateConfig, TrackingConfig

__all__ = ["RegisterConfig"]

FORMATS = ("mlflow_model", "custom_model", "triton_model")  # Azure ML's names for kinds of models


@dataclass
class RegisterConfig:
    """Register a trained model as a version, and promote it if it is not worse than the champion.

    Example:
        >>> RegisterConfig(run="outputs/2026-11-21/10-15-00", name="street", promote="champion")
    """

    data: dict[str, Any] = key(
        {},
        "data that decides about a promotion: data=OPTION, or single keys data.KEY=VALUE; "
        "{}: the data of the run that the model lies in",
        MAPPING,
    )
    tracking: TrackingConfig = section(TrackingConfig, "tracking.uri is the registry")
    run: str | None = key(None, "what is registered: a run folder, a bundle or a .ckpt", READS)
    models: list[str] = key(
        [], "model classes of your own that the checkpoint may hold, such as my_package.MyNet", TEXT
    )
    name: str = key("pointnet-semseg", "name of the model in the registry")
    format: str = key(
        "mlflow_model",
        "a pyfunc (mlflow_model), the bundle (custom_model) or a model repository (triton_model)",
        choices=FORMATS,
    )
    description: str | None = key(None, "a sentence for people, above the table that is always there", TEXT)
    gate: GateConfig = section(
        GateConfig, "scores that the model must reach to be registered, else exit code 3", heading="The gate."
    )
    scores: str | None = key(
        None, "the metrics.json that gate is about, or the folder that it lies in; null: of `run`", READS
    )
    promote: str | None = key(
        None,
        "champion: give NAME@champion to the new version, or to `version`, if it is not worse",
        heading="Promotion.",
    )
    version: int | None = key(None, "a version that is there already; null without run: NAME@candidate")
    split: str = key("val", "split on which both models are scored", choices=SPLITS)
    margin: float = key(0.0, "mIoU that may be lost; 0.01 is one percentage point")
    class_margin: float = key(0.05, "IoU that any one class may lose ...")
    class_points: int = key(1000, "... that has so many labelled points in the split")
    force: bool = key(False, "promote in spite of everything, and say so in a tag")
    bootstrap: int = key(1000, "resamples of the scans, for the interval that is shown; 100 or more")
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
    seed: int = key(0, "random seed of the resamples")
