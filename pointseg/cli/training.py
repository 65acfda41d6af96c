"""The `train` verb: one run from its configuration to its folder."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pointseg import tracking
from pointseg.cli import checks, saved
from pointseg.cli.building import build_data, build_features, build_model
from pointseg.cli.dispatch import compute_of_environment, sweep_of_environment
from pointseg.cli.entry import Job
from pointseg.cli.job_inputs import inputs_of_environment, warn_of_others
from pointseg.cli.search import end_early
from pointseg.cli.sweeps import end_with_table, keep_outcome
from pointseg.cli.values import plain, progress_bar, refused_values
from pointseg.data.datamodule import ScanDataModule
from pointseg.data.seen import KEY, hashes_of, write_hashes
from pointseg.data.sources import DataSummary
from pointseg.data.statistics import measure
from pointseg.errors import ConfigError, OutputError
from pointseg.evaluation import Evaluation, scores_table
from pointseg.features import FeatureSpec
from pointseg.files import check_writable, write_text
from pointseg.losses import class_weights
from pointseg.module import SegmentationModule
from pointseg.ranks import ranks_of_environment
from pointseg.redact import redact
from pointseg.training import RunFolder, TrainerSettings, fit
from pointseg.training.fit import newest_whole
from pointseg.training.run_folder import code_differences, code_state
from pointseg.words import counted, duration

__all__ = ["TrainingRun", "check_training"]

log = logging.getLogger(__name__)

KEPT = ("optimizer.lr", "optimizer.weight_decay")  # a part of the optimizer's state


def check_training(config: DictConfig) -> None:
    """Build what a run is made of, and forget it: refuses what can be refused without data.

    Raises:
        ConfigError: naming the section or key.
    """
    checks.check_targets(config)
    trainer_settings(config)
    check_seed(config)
    features = build_features(config)
    data = build_data(config, features)
    classes = data.label_map.num_classes
    model = build_model(config, features, classes)
    with refused_values("loss, optimizer or inference"):
        loss, others = plain(config.loss), {**plain(config.optimizer), **plain(config.inference)}
        class_weights(np.ones(classes, np.int64), loss.pop("class_weighting"))
        accumulate = config.trainer.accumulate_grad_batches
        SegmentationModule(model, data.label_map, features, **loss, **others, accumulate=accumulate)


def trainer_settings(config: DictConfig) -> TrainerSettings:
    """The `trainer` section."""
    with refused_values("trainer"):
        values = plain(config.trainer)
        values.pop("accumulate_grad_batches")
        return TrainerSettings(**values)


def check_seed(config: DictConfig) -> None:
    """Raises ConfigError for a seed that PyTorch or NumPy would not take."""
    if config.seed is None or not 0 <= config.seed < 2**32:
        raise ConfigError(f"{config.seed} is not between 0 and 2^32 - 1", where="seed")


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
        if not self.resume and self.folder.begun:
            raise OutputError(
                "the folder holds another run",
                where=f"hydra.run.dir={self.folder.path}",
                remedy=f"Go on with it by resume={self.folder.path}, or name another folder.",
            )
        settings = trainer_settings(self.config)
        start = self._start() if self.resume else None
        check_seed(self.config)
        pl.seed_everything(self.config.seed, verbose=False)
        features = build_features(self.config)
        data = build_data(self.config, features)
        model = build_model(self.config, features, data.label_map.num_classes)
        summary = self._look_at(data)
        with refused_values("loss, optimizer or inference"):
            module = self._module(model, data, features, summary)
        tracker = self._start_tracking(data, summary)
        early = end_early(self.job)
        try:
            if not self.resume:
                self._record(tracker)
            evaluation = fit(
                module,
                data,
                self.folder,
                settings,
                tracker=tracker,
                resume=start,
                on_first_checkpoint=(lambda: self._record(tracker)) if self.resume else None,
                progress=progress_bar,
                callbacks=[early] if early else [],
            )
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) == 130
            tracker.finish("KILLED" if stopped else "FAILED")
            raise
        if evaluation is None:  # the first of several processes has scored and says the results
            return
        tracker.log_artifact(self.folder.config)
        if early is not None and early.ended_after is not None:
            self.folder.record(ended_after_validation=early.ended_after)
            tracker.set_tags({"pointseg.pruned": f"after validation {early.ended_after}"})
        tracker.finish()
        self._say_results(evaluation, tracker, time.perf_counter() - began)
        if self.job.sweep_dir is not None:
            keep_outcome(self.job, evaluation.scores.miou)

    # ---- before the run --------------------------------------------------------------------------------------

    def _effective(self, config: DictConfig) -> DictConfig:
        key = "resume" if self.resume else "rerun" if config.rerun is not None else None
        if key is None:
            return config
        named = saved.resumed_run(config, self.folder.path) or config.rerun
        earlier = RunFolder.existing(named, key, resumable=self.resume and config.resume != saved.AUTO)
        overrides = list(HydraConfig.get().overrides.task)
        before = saved.load_config(earlier.config)
        effective = saved.with_overrides(before, config, overrides, key)
        if key == "resume":
            _refuse_what_is_kept(before, effective)
        if key == "rerun":
            differences = code_differences(earlier.describe().get("code", {}), code_state())
            log.info("Rerun of %s; the code is %s", earlier.path, "the same" if not differences else "not the same:")
            for line in differences:
                log.info("  %s", line)
        return effective

    def _start(self) -> Path:
        """The checkpoint to go on from."""
        if self.config.resume != saved.AUTO:
            return self.folder.last
        warn_of_others(self.folder.describe().get("inputs", {}))
        start = newest_whole(self.folder)
        log.info("Going on with the run in %s from %s", self.folder.path, start.name)
        return start

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
                "data": {
                    "class": config.data._target_.rsplit(".", 1)[-1],
                    **summary.to_dict(data.label_map),
                    **({"asset": asset} if (asset := inputs_of_environment().get("data.root")) else {}),
                    KEY: write_hashes(hashes_of(summary.scan_counts)),
                },
                "seed": int(config.seed),
            },
            input_statistics=measure(data.source("train"), progress=progress_bar("measuring train")).to_dict(),
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
            if sweep_of_environment() is None:
                end_with_table(job)
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
                **{f"input.{key}": asset for key, asset in inputs_of_environment().items()},
            },
            run_id=earlier.get("run_id"),
            parent_run_id=parent,
            system_metrics=settings.system_metrics,
            rank=ranks_of_environment().rank,
        )
        tracker.log_text(json.dumps(summary.to_dict(data.label_map), indent=2), "data_summary.json")
        return tracker

    def _record(self, tracker: tracking.Tracker) -> None:
        """config.yaml and run.json: what resume= and rerun= need."""
        if ranks_of_environment().rank > 0:
            return
        values = redact({k: v for k, v in plain(self.config).items() if k not in saved.OWN_KEYS})
        values["compute"] = compute_of_environment() or values["compute"]
        write_text(self.folder.config, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
        where = {"uri": redact(tracker.uri), "run_id": tracker.run_id} if tracker.run_id else {}
        inputs = inputs_of_environment()  # the configuration names them by paths of the machine
        self.folder.record(verb="train", code=code_state(), tracking=where, **({"inputs": inputs} if inputs else {}))

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


def _refuse_what_is_kept(before: DictConfig, now: DictConfig) -> None:
    """Raises ConfigError for a changed setting that a checkpoint brings along, so that it would do nothing."""
    for key in KEPT:
        then, given = OmegaConf.select(before, key), OmegaConf.select(now, key)
        if then is not None and then != given:
            raise ConfigError(
                f"a resumed run goes on with what its checkpoint has, {then:g}",
                where=f"{key}={given}",
                remedy="Leave it out, or start a new run (rerun=RUN_FOLDER takes all else as it was).",
            )
