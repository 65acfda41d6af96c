"""What `train` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import PART, PARTS, READS, TEXT, key, section
from pointseg.engine.training.trainer_settings import TrainerSettings
from pointseg.workflows.settings.shared import TrackingConfig

__all__ = ["FeatureSettings", "InferenceSettings", "TrainConfig", "TrainerSettings"]

OFFSET = {"x": 0.0, "y": 0.0, "z": -1.0, "remission": 0.3, "range": 15.0, "height": 0.8, "extent": 1.0, "count": 6.0}
SCALE = {"x": 20.0, "y": 20.0, "z": 1.5, "remission": 0.2, "range": 12.0, "height": 1.2, "extent": 1.2, "count": 2.5}
KNOTS = [-4.0, -2.0, -1.0, -0.5, -0.25, -0.1, 0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0]
FORMATS = ("frnet", "waffleiron")
MLFLOW = {"mlflow": {"_target_": "pointseg.tracking.lightning.tracked_run"}}


@dataclass
class FeatureSettings:
    """What the model sees of each point. These settings travel with the model."""

    use: list[str] = key(list(OFFSET), "the features, in this order; extent and count once for each of pillar_cells")
    offset: dict[str, float] = key(
        OFFSET,
        "features are (value - offset) / scale: offset in metres, remission in [0, 1], count as log2 of the points in a "
        "pillar",
    )
    scale: dict[str, float] = key(SCALE, "scale of each feature, in the units of offset")
    ground_cell: float = key(1.0, "metres: size of the cells in which the ground is looked for")
    pillar_cells: list[float] = key([0.5, 1.0, 2.0], "metres: extent and count are given for each")
    knots: list[float] = key(KNOTS, "normalised: between these values each feature is also given piece by piece")


@dataclass
class InferenceSettings:
    """How a scan is predicted, in validation as later on. This travels with the model as well."""

    points_per_pass: int | str | None = key(
        "auto",
        "points of the random subsets predicted at once; null: the whole scan; auto: the model's own (PointNet: 1024)",
    )
    votes: int | str = key(
        "auto", "how often to cover the scan with other subsets; auto: the model's own (PointNet: 1)"
    )


@dataclass
class TrainConfig:
    """Train a segmentation model.

    A `_target_` section that is left empty is the shipped default: synthetic streets, a small PointNet, cross-entropy, AdamW
    with a warm-up and a cosine. Keys without a `_target_` change that default.

    Example:
        >>> TrainConfig(data={"scans": {"train": 20}}, trainer=TrainerSettings(max_epochs=2))
    """

    data: dict[str, Any] = key({}, "training data", PART)
    model: dict[str, Any] = key({}, "the network", PART)
    loss: dict[str, Any] = key(
        {}, "terms of the loss by name: each a section with _target_, or the weight of a shipped term", PARTS
    )
    optimizer: dict[str, Any] = key({}, "optimizer of the weights", PART)
    scheduler: dict[str, Any] = key({}, "schedule of the learning rate", PART)
    trainer: TrainerSettings = section(TrainerSettings, "length of the training, and the hardware it uses")
    callbacks: dict[str, Any] = key({}, "further Lightning callbacks, by name", PARTS)
    logger: dict[str, Any] = key(MLFLOW, "loggers for the figures of the training, by name", PARTS)
    tracking: TrackingConfig = section(TrackingConfig, "where the run is recorded")
    seed: int = key(0, "random seed")
    features: FeatureSettings = section(
        FeatureSettings,
        "what the model sees of each point",
        heading="What the model sees of each point. These settings travel with the model.",
    )
    inference: InferenceSettings = section(
        InferenceSettings,
        "how a scan is predicted",
        heading="How a scan is predicted, in validation as later on. This travels with the model as well.",
    )
    init: str | None = key(
        None,
        "weights to begin with: a run folder, bundle, checkpoint, models:/NAME@ALIAS or street, of the same model; with "
        "format, a file that others have published",
        READS,
        heading="Weights to begin with.",
    )
    format: str | None = key(
        None, "the repository that the file of init comes from; null: it is pointseg's own", choices=FORMATS
    )
    resume: str | None = key(
        None,
        "RUN_FOLDER: continue it from checkpoints/last.ckpt; auto: in hydra.run.dir, if a run has begun there",
        TEXT,
        heading="Earlier runs.",
    )
    rerun: str | None = key(None, "RUN_FOLDER: the same configuration again, in a new folder", READS)
