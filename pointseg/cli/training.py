"""The `train` verb: one run from its configuration to its folder."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pointseg import tracking
from pointseg.cli import checks, saved
from pointseg.cli.building import build_data, build_features, build_model, plain, progress_bar, refused_values
from pointseg.cli.entry import Job, Outcome
from pointseg.data.datamodule import ScanDataModule
from pointseg.data.sources import DataSummary
from pointseg.errors import ConfigError, OutputError
from pointseg.evaluation import Evaluation, scores_table
from pointseg.features import FeatureSpec
from pointseg.files import check_writable, write_text
from pointseg.losses import class_weights
from pointseg.module import SegmentationModule
from pointseg.redact import redact
from pointseg.training import RunFolder, TrainerSettings, fit
from pointseg.training.run_folder import code_differences, code_state
from pointseg.words import counted, duration

__all__ = ["TrainingRun"]

log = logging.getLogger(__name__)


class TrainingRun:
    """Everything that is checked before a run starts, and the run.

    Args:
        job: the configuration and where to work.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.resume = job.config.resume is not None
        self.folder = RunFolder(job.folder)
        self.config = self._effective(job.config)
        checks.check_targets(self.config)

    def execute(self) -> None:
        """Check, build, train, and say where the results are. Nothing is tracked before all inputs are found good."""
        began = time.perf_counter()
        check_writable(self.folder.path, "hydra.run.dir")
        if not self.resume and self.folder.last.exists():
            raise OutputError(
                "the folder holds another run",
                where=f"hydra.run.dir={self.folder.path}",
                remedy=f"Go on with it by resume={self.folder.path}, or name another folder.",
            )
        settings = self._trainer_settings()
        if self.config.seed is None or not 0 <= self.config.seed < 2**32:
            raise ConfigError(f"{self.config.seed} is not between 0 and 2^32 - 1", where="seed")
        pl.seed_everything(self.config.seed, verbose=False)
        features = build_features(self.config)
        data = build_data(self.config, features)
        model = build_model(self.config, features, data.label_map.num_classes)
        summary = self._look_at(data)
        with refused_values("loss, optimizer or inference"):
            module = self._module(model, data, features, summary)
        tracker = self._start_tracking(data, summary)
        try:
            if not self.resume:
                self._record(tracker)
            evaluation = fit(
                module,
                data,
                self.folder,
                settings,
                tracker=tracker,
                resume=self.resume,
                on_first_checkpoint=(lambda: self._record(tracker)) if self.resume else None,
                progress=progress_bar,
            )
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) == 130
            tracker.finish("KILLED" if stopped else "FAILED")
            raise
        tracker.log_artifact(self.folder.config)
        tracker.finish()
        self._say_results(evaluation, tracker, time.perf_counter() - began)
        if self.job.sweep_dir is not None:
            overrides = list(HydraConfig.get().overrides.task)
            self.job.outcomes.append(Outcome(overrides, evaluation.scores.miou, self.folder.path))

    # ---- before the run --------------------------------------------------------------------------------------

    def _effective(self, config: DictConfig) -> DictConfig:
        key = "resume" if self.resume else "rerun" if config.rerun is not None else None
        if key is None:
            return config
        earlier = RunFolder.existing(config[key], key, resumable=self.resume)
        overrides = list(HydraConfig.get().overrides.task)
        effective = saved.with_overrides(saved.load_config(earlier.config), config, overrides, key)
        if key == "rerun":
            differences = code_differences(earlier.describe().get("code", {}), code_state())
            log.info("Rerun of %s; the code is %s", earlier.path, "the same" if not differences else "not the same:")
            for line in differences:
                log.info("  %s", line)
        return effective

    def _trainer_settings(self) -> TrainerSettings:
        with refused_values("trainer"):
            values = plain(self.config.trainer)
            values.pop("accumulate_grad_batches")
            return TrainerSettings(**values)

    def _look_at(self, data: ScanDataModule) -> DataSummary:
        """Open and read every scan that training needs, so that bad files are found now."""
        for split in ("train", "val"):
            data.source(split, progress_bar(f"{split} scans"))
        summary = data.summary("train", progress_bar("checking train"))
        data.summary("val", progress_bar("checking val"))
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

    def _module(
        self, model: Any, data: ScanDataModule, features: FeatureSpec, summary: DataSummary
    ) -> SegmentationModule:
        config = self.config
        loss, optimizer = plain(config.loss), plain(config.optimizer)
        weights = class_weights(summary.class_counts[1:], loss.pop("class_weighting"))
        return SegmentationModule(
            model,
            data.label_map,
            features,
            class_weights=weights.tolist(),
            **loss,
            **optimizer,
            accumulate=config.trainer.accumulate_grad_batches,
            **plain(config.inference),
            remission_mean=round(summary.remission_mean, 6),
            provenance={
                "pointseg": code_state()["version"],
                "commit": code_state()["commit"],
                "data": {"class": config.data._target_.rsplit(".", 1)[-1], **summary.to_dict(data.label_map)},
                "seed": int(config.seed),
            },
        )

    # ---- tracking and records --------------------------------------------------------------------------------

    def _start_tracking(self, data: ScanDataModule, summary: DataSummary) -> tracking.Tracker:
        settings, job = self.config.tracking, self.job
        earlier = self.folder.describe().get("tracking", {}) if self.resume else {}
        parent = None
        if job.sweep_dir is not None:
            parent = tracking.start_parent(
                settings.uri, settings.experiment, settings.run_name or job.sweep_dir.name, job.start_dir, job.sweep_dir
            )
            if not job.at_end:
                job.at_end.append(self._end_sweep)
        code = code_state()
        name = settings.run_name or self.folder.path.name
        if job.sweep_dir is not None:
            name = f"{settings.run_name or job.sweep_dir.name}-{job.number}"
        tracker = tracking.start(
            # the run's own database, also when it is resumed from another folder
            earlier["uri"] if settings.uri == "auto" and str(earlier.get("uri")).startswith("sqlite") else settings.uri,
            settings.experiment,
            name,
            start_dir=job.start_dir,
            params={key: value for key, value in plain(self.config).items() if key not in saved.OWN_KEYS},
            tags={
                **plain(settings.tags),
                "git_commit": str(code["commit"]),
                "git_changed": str(code["changed"]),
                "pointseg_version": str(code["version"]),
                "run_folder": str(self.folder.path),
            },
            run_id=earlier.get("run_id"),
            parent_run_id=parent,
            system_metrics=settings.system_metrics,
            rank=int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))),  # Lightning sets only the latter
        )
        tracker.log_text(json.dumps(summary.to_dict(data.label_map), indent=2), "data_summary.json")
        return tracker

    def _end_sweep(self, succeeded: bool) -> None:
        settings, job = self.config.tracking, self.job
        assert job.sweep_dir is not None
        tracking.finish_parent(settings.uri, job.start_dir, job.sweep_dir, "FINISHED" if succeeded else "FAILED")
        if job.outcomes:
            log.info("\nThe sweep, best first:\n%s", _sweep_table(job.outcomes))

    def _record(self, tracker: tracking.Tracker) -> None:
        """config.yaml and run.json: what resume= and rerun= need."""
        values = redact({k: v for k, v in plain(self.config).items() if k not in saved.OWN_KEYS})
        write_text(self.folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        where = {"uri": redact(tracker.uri), "run_id": tracker.run_id} if tracker.run_id else {}
        self.folder.record(verb="train", code=code_state(), tracking=where)

    def _say_results(self, evaluation: Evaluation, tracker: tracking.Tracker, seconds: float) -> None:
        log.info("\n%s\n", scores_table(evaluation.scores, evaluation.label_map, evaluation.scans))
        log.info("Done in %s. Results in %s", duration(seconds), self.folder.path)
        for what, path in (
            ("scores", self.folder.metrics),
            ("pictures", self.folder.figures),
            ("best checkpoint", self.folder.best),
            ("bundle", self.folder.bundle),
        ):
            log.info("  %-16s %s", what, path.relative_to(self.folder.path))
        if tracker.run_id:
            log.info("  %-16s %s", "tracked run", tracker.ui_hint)


def _sweep_table(outcomes: Sequence[Outcome]) -> str:
    """The runs of a sweep, best first, each with what sets it apart from the others."""
    common = set.intersection(*(set(o.overrides) for o in outcomes)) if len(outcomes) > 1 else set()
    choices = [" ".join(word for word in o.overrides if word not in common) for o in outcomes]
    width = max(map(len, choices))
    ranked = sorted(zip(outcomes, choices, strict=True), key=lambda pair: -pair[0].miou)
    return "\n".join(f"  {chosen:<{width}}  mIoU {100 * o.miou:5.2f} %  {o.folder}" for o, chosen in ranked)
