"""What `report` and `drift` can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pointseg.core.config import MAPPING, READS, TEXT, WRITES, key, section
from pointseg.workflows.settings.shared import ACCELERATORS, SPLITS, TrackingConfig, models_key, untracked

__all__ = ["ReportConfig"]


@dataclass
class ReportConfig:
    """A model's scores as one HTML page; with `drift`, whether new scans are like those that a model was trained on.

    Example:
        >>> ReportConfig(run="outputs/2026-11-21/10-15-00", against="outputs/2026-11-20/09-00-00")
        >>> ReportConfig(drift="new_scans", against="outputs/2026-11-21/10-15-00")
    """

    data: dict[str, Any] = key(
        {},
        "data to score on: data=OPTION, or single keys data.KEY=VALUE; {}: the data of the run that the model lies in",
        MAPPING,
    )
    tracking: TrackingConfig = section(untracked, "where the scores are recorded")
    run: str | None = key(None, "a run folder", READS)
    checkpoint: str | None = key(
        None, "or a .ckpt, a bundle, an exported model, or models:/NAME@ALIAS; with drift: predicts both sets", READS
    )
    models: list[str] = models_key()
    against: str | None = key(
        None,
        "a run folder or checkpoint to compare with, scored on the same scans; with drift also a packed store",
        READS,
    )
    split: str = key("val", "split whose scans are scored", choices=SPLITS)
    accelerator: str = key("auto", "device to compute on", choices=ACCELERATORS)
    output: str | None = key(
        None, "the file; null: RUN_FOLDER/report.html, or report.html in this command's own folder", WRITES
    )
    scans_shown: int = key(3, "scans in the 3D viewer, 0 to 8, spread over the split")
    worst: int = key(3, "pictures of the worst scans, 0 to 8")
    bootstrap: int = key(1000, "resamples of scans behind each interval, 100 or more")
    seed: int = key(0, "random seed of the resamples")
    drift: str | None = key(
        None,
        "a folder of new scans, a packed store, or what a service collected: are they like the training scans of against?",
        READS,
    )
    remission_scale: float | None = key(None, "with drift: what the new scans' remission is divided by, such as 255")
    drift_scans: int = key(8, "with drift: scans looked at of each sequence")
    days: float | None = key(None, "with drift of collected scans: only those of the last so many days")
    since: str | None = key(
        None, "or from a day or time on, such as 2026-11-14 or 2026-11-14T06:00, UTC unless it says otherwise", TEXT
    )
    until: str | None = key(None, "and before another", TEXT)
    fail_on_drift: bool = key(
        False, "with drift: exit code 3 where scans have drifted; the page is written all the same"
    )
