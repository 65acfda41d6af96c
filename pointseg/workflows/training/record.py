"""What is recorded of a training: its tracked run, config.yaml, run.json, facts for the bundle, results in the log."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg import tracking
from pointseg.core.config_values import to_plain
from pointseg.core.files import write_text
from pointseg.core.plain_yaml import as_plain_yaml
from pointseg.core.progress import Progress
from pointseg.core.ranks import ranks_of_environment
from pointseg.core.redaction import redact
from pointseg.core.text import counted, duration
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.data.scan_hashes import KEY, hashes_of, write_hashes
from pointseg.data.sources import DataSummary
from pointseg.engine.evaluation import Evaluation, scores_table
from pointseg.engine.training.run_folder import RunFolder, code_state
from pointseg.jobs.context import SweepMember
from pointseg.quality.input_statistics import measure
from pointseg.workflows.settings.train import TrainConfig

__all__ = ["TrainingRecord", "facts_of_training", "log_results", "read_all_scans"]

log = logging.getLogger(__name__)

START_KEYS = ("resume", "rerun")  # say where to start from; they are not part of the configuration


@dataclass(frozen=True)
class TrainingRecord:
    """Records a training.

    Attributes:
        config: with complete sections.
        resumes: whether the run in the folder is resumed.
        sweep: that it belongs to.
        compute: the section that says where it runs, or {}.
        assets: key -> data asset.
        start_dir: that relative paths of a store start from.
    """

    config: TrainConfig
    folder: RunFolder
    resumes: bool
    sweep: SweepMember | None
    compute: Mapping[str, Any]
    assets: Mapping[str, str]
    start_dir: Path

    def start_tracking(self, data_summary: Mapping[str, Any]) -> tracking.Tracker:
        """The tracked run, new or resumed.

        Raises:
            TrackingError: if the store cannot be used.
        """
        settings, sweep = self.config.tracking, self.sweep
        earlier = self.folder.describe().get("tracking", {}) if self.resumes else {}
        parent, name = None, settings.run_name or self.folder.path.name
        if sweep is not None:
            whole_sweep = settings.run_name or sweep.folder.name
            parent = tracking.start_parent(settings.uri, settings.experiment, whole_sweep, self.start_dir, sweep.folder)
            name = f"{whole_sweep}-{sweep.number}"
        code = code_state()
        tracker = tracking.start(
            # the run's own database, also when it is resumed from another folder
            earlier["uri"] if settings.uri == "auto" and str(earlier.get("uri")).startswith("sqlite") else settings.uri,
            settings.experiment,
            name,
            start_dir=self.start_dir,
            params=self.values(),
            tags={
                **settings.tags,
                "git_commit": str(code["commit"]),
                "git_changed": str(code["changed"]),
                "pointseg_version": str(code["version"]),
                "run_folder": str(self.folder.path),
                **{f"input.{key}": asset for key, asset in self.assets.items()},
            },
            run_id=earlier.get("run_id"),
            parent_run_id=parent,
            system_metrics=settings.system_metrics,
            rank=ranks_of_environment().rank,
        )
        tracker.log_text(json.dumps(data_summary, indent=2), "data_summary.json")
        return tracker

    def values(self) -> dict[str, Any]:
        """The configuration as plain values, with `compute`."""
        values = {key: value for key, value in to_plain(self.config).items() if key not in START_KEYS}
        return {**values, **({"compute": dict(self.compute)} if self.compute else {})}

    def write(self, tracker: tracking.Tracker) -> None:
        """Write config.yaml and run.json, which resume= and rerun= need; only the first of several processes does."""
        if ranks_of_environment().rank > 0:
            return
        text = as_plain_yaml(redact(self.values()))
        write_text(self.folder.config, text)
        where = {"uri": redact(tracker.uri), "run_id": tracker.run_id} if tracker.run_id else {}
        inputs = {"inputs": dict(self.assets)} if self.assets else {}
        self.folder.record(verb="train", code=code_state(), tracking=where, **inputs)


def read_all_scans(data: ScanDataModule, progress: Progress) -> DataSummary:
    """Open and read every scan that training needs, so that bad files are found now; a summary of the training split.

    Raises:
        DataError: naming the scan that cannot be read.
    """
    for split in ("train", "val"):
        data.source(split, progress(f"{split} scans"))
    summary = data.summary("train", progress("checking train"))
    data.summary("val", progress("checking val"))
    log.info(
        "Data: %s with %s, %s, %s classes",
        counted(summary.scans, "training scan"),
        counted(summary.points, "point"),
        counted(len(data.source("val")), "validation scan"),
        data.label_map.num_classes,
    )
    if summary.out_of_domain:
        log.warning(
            "Remission leaves [0, 1], first in scan %s: set data.remission_scale (255 for 0..255 sensors).",
            summary.out_of_domain,
        )
    return summary


def facts_of_training(
    config: TrainConfig, data: ScanDataModule, summary: DataSummary, asset: str | None, progress: Progress
) -> dict[str, Any]:
    """Remission mean, provenance and input statistics, for the bundle.

    Args:
        asset: the data asset that the scans are from.
    """
    code = code_state()
    facts_of_data = {
        "class": str(config.data["_target_"]).rsplit(".", 1)[-1],
        **summary.to_dict(data.label_map),
        **({"asset": asset} if asset else {}),
        KEY: write_hashes(hashes_of(summary.scan_counts)),
    }
    statistics = measure(data.source("train"), progress=progress("measuring train"))
    return {
        "remission_mean": round(summary.remission_mean, 6),
        "provenance": {
            "pointseg": code["version"],
            "commit": code["commit"],
            "data": facts_of_data,
            "seed": int(config.seed),
        },
        "input_statistics": statistics.to_dict(),
    }


def log_results(folder: RunFolder, evaluation: Evaluation, tracker: tracking.Tracker, seconds: float) -> None:
    """Log the scores, and where the results are."""
    log.info("\n%s\n", scores_table(evaluation.scores, evaluation.label_map, evaluation.scans))
    log.info("Done in %s. Results in %s", duration(seconds), folder.path)
    for what, path in (
        ("scores", folder.metrics),
        ("pictures", folder.figures),
        ("best checkpoint", folder.best),
        ("bundle", folder.bundle),
    ):
        log.info("  %-16s %s", what, path.relative_to(folder.path))
    if tracker.run_id:
        log.info("  %-16s %s", "tracked run", tracker.ui_hint)
