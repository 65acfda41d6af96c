"""What `predict` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import READS, WRITES, key, section
from pointseg.workflows.settings.shared import (
    ACCELERATORS,
    ON_ERROR,
    TrackingConfig,
    ViewsConfig,
    adapt_key,
    adapt_scans_key,
    adapt_share_key,
    checkpoint_key,
    models_key,
    untracked,
)

__all__ = ["PredictConfig"]

WRITE = ("auto", "label", "own")


@dataclass
class PredictConfig:
    """Label point clouds with a trained model.

    Example:
        >>> PredictConfig(checkpoint="outputs/2026-11-21/10-15-00", input="scans", output="labels")
    """

    tracking: TrackingConfig = section(untracked, "where a registered model is looked up; nothing is recorded")
    checkpoint: str | None = checkpoint_key()
    models: list[str] = models_key()
    input: str | None = key(
        None, "a file, a folder, a pattern such as 'SCANS/**/*.pcd', or a data set in SemanticKITTI's layout", READS
    )
    output: str | None = key(
        None, "the folder that receives the labels; finished files in it are not made again", WRITES
    )
    submission: str | None = key(
        None, "FILE.zip: predict the test sequences of `input` and pack them for the benchmark's server", WRITES
    )
    write: str = key(
        "auto",
        "own: a copy of the file with labels; label: a .label file; auto: own for las, laz, ply, pcd, csv, parquet",
        choices=WRITE,
    )
    probabilities: bool = key(False, "also NAME.probs.npy, float16 (points, classes)")
    on_error: str = key(
        "skip", "what to do with a file that cannot be used; after skipped files the exit code is 2", choices=ON_ERROR
    )
    overwrite: bool = key(False, "label finished files again; needed where the folder holds labels of another model")
    strict: bool = key(
        False, "refuse clouds without remission, in other units, or of another sensor's range, instead of a warning"
    )
    remission_scale: float | None = key(
        None, "what intensity is divided by; null: 255 or 65535 where it goes beyond 1, except in .bin and .np*"
    )
    columns: list[str] | None = key(
        None, "of .bin and .np* files, which do not name their columns; null: x, y, z, remission"
    )
    views: ViewsConfig = section(
        ViewsConfig, "test-time augmentation: each cloud predicted from so many views, the probabilities averaged"
    )
    adapt: str | None = adapt_key()
    adapt_scans: int = adapt_scans_key()
    adapt_share: float = adapt_share_key()
    picture: str | None = key(
        None, "FILE.png: up to nine of the clouds from above, in the colours of their classes", WRITES
    )
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
