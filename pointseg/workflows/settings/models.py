"""What `models` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import WRITES, key, section
from pointseg.workflows.settings.train import FeatureSettings

__all__ = ["ModelsConfig"]


@dataclass
class ModelsConfig:
    """List models with their size, what the prediction of a scan costs on this machine, and their paper.

    Example:
        >>> ModelsConfig(names=["frnet_small"], points=60_000, output="models.json")
    """

    names: list[str] = key([], "options of the group model; []: all, your own from --config-dir included")
    measure: bool = key(True, "measure multiply-adds, time and memory; false: only parameters and papers, at once")
    points: int = key(124_000, "points of the scan: a street, seen by 64 beams")
    repeats: int = key(3, "predictions of which the median time is told")
    classes: int = key(19, "classes that a model tells apart")
    output: str | None = key(None, "FILE.json: the table for programs; null: none is written", WRITES)
    features: FeatureSettings = section(
        FeatureSettings,
        "what the models see of each point",
        heading="What the models see of each point, as in a training; the size of the first layer depends on it.",
    )
