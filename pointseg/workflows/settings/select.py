"""What `select` can be told."""

from __future__ import annotations

from dataclasses import dataclass

from pointseg.core.config import READS, WRITES, key, section
from pointseg.workflows.settings.shared import ACCELERATORS, TrackingConfig, checkpoint_key, models_key, untracked

__all__ = ["SelectConfig"]

METHODS = ("learn", "diverse", "uncertain", "uniform", "random")  # of quality.frame_choice, which needs NumPy


@dataclass
class SelectConfig:
    """Choose the clouds that are worth labelling.

    Example:
        >>> SelectConfig(input="scans", output="next.txt", count=20)
    """

    tracking: TrackingConfig = section(untracked, "where a registered model is looked up; nothing is recorded")
    checkpoint: str | None = checkpoint_key()
    models: list[str] = models_key()
    input: str | None = key(
        None, "a folder, a pattern such as 'SCANS/**/*.pcd', or a data set in SemanticKITTI's layout", READS
    )
    output: str | None = key(None, "FILE.txt: the chosen clouds, one path a line; FILE.json says why", WRITES)
    copy: str | None = key(None, "a folder that receives copies of them, in folders as those of the input", WRITES)
    count: int = key(20, "clouds to choose")
    method: str = key(
        "learn",
        "learn: unlike those chosen, unsure and rare; diverse: unlike; uncertain: unsure; uniform and random look at none",
        choices=METHODS,
    )
    known: str | None = key(None, "FILE.txt: clouds that are labelled already, as an earlier `output`", READS)
    spacing: float = key(5.0, "least metres between two clouds of a drive that are looked at, where poses are; 0: all")
    mirror: bool = key(True, "predict each cloud mirrored as well: where both differ, the model does not know")
    remission_scale: float | None = key(
        None, "what intensity is divided by; null: 255 or 65535 where it goes beyond 1, except in .bin and .np*"
    )
    columns: list[str] | None = key(
        None, "of .bin and .np* files, which do not name their columns; null: x, y, z, remission"
    )
    seed: int = key(0, "of random")
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
