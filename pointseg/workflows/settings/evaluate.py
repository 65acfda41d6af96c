"""What `evaluate` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import MAPPING, READS, WRITES, key, section
from pointseg.workflows.settings.shared import (
    ACCELERATORS,
    SPLITS,
    TrackingConfig,
    ViewsConfig,
    checkpoint_key,
    models_key,
    untracked,
)

__all__ = ["EvaluateConfig"]


@dataclass
class EvaluateConfig:
    """Score a model on every point of every scan of a split, or check an archive for the benchmark's server.

    Example:
        >>> EvaluateConfig(checkpoint="outputs/2026-11-21/10-15-00", split="test")
    """

    data: dict[str, Any] = key(
        {},
        "data to score on: data=OPTION, or single keys data.KEY=VALUE; {}: the data of the run that the model lies in",
        MAPPING,
    )
    tracking: TrackingConfig = section(untracked, "where the scores are recorded")
    checkpoint: str | None = checkpoint_key(None)
    models: list[str] = models_key()
    submission: str | None = key(
        None, "a .zip for the benchmark's server, to be checked against data.root instead of scoring a model", READS
    )
    split: str = key("val", "split whose scans are scored", choices=SPLITS)
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
    output: str | None = key(None, "folder for metrics.json and figures; null: this run's own folder", WRITES)
    seed: int = key(0, "random seed")
    views: ViewsConfig = section(
        ViewsConfig, "test-time augmentation: each scan predicted from so many views, the probabilities averaged"
    )
