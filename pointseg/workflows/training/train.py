"""Train a model: one run from its configuration to its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from pointseg import tracking
from pointseg.core.config import check_choices
from pointseg.core.config_values import to_plain
from pointseg.core.errors import ConfigError, OutputError
from pointseg.core.files import check_writable, new_run_folder
from pointseg.core.progress import Progress, silent
from pointseg.core.ranks import ranks_of_environment
from pointseg.core.redaction import redact
from pointseg.core.targets import check_keys
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine.evaluation import Evaluation
from pointseg.engine.metrics import Scores
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.engine.training.callbacks import EndEarly
from pointseg.engine.training.devices import compute_for
from pointseg.engine.training.fit import fit, newest_whole, seed_everything
from pointseg.engine.training.run_folder import RunFolder, code_differences, code_state
from pointseg.engine.training.trainer_options import build_callbacks, build_loggers, trainer_options
from pointseg.jobs.context import SweepMember
from pointseg.models import SegmentationModel
from pointseg.pages.figures import write_figures
from pointseg.tracking.lightning import TrackerLogger
from pointseg.workflows.default_sections import SHIPPED, with_default_sections
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.training.earlier_run import (
    RESUME_AUTO,
    earlier_configuration,
    refuse_restored_settings,
    warn_of_other_assets,
)
from pointseg.workflows.training.initial_weights import load_initial_weights
from pointseg.workflows.training.parts import build_features, build_model, build_module, build_training_data
from pointseg.workflows.training.record import (
    TrainingRecord,
    facts_of_training,
    log_results,
    read_all_scans,
)

__all__ = ["Trained", "check_train", "train"]

log = logging.getLogger(__name__)

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Trained:
    """The result of a training.

    Attributes:
        folder: of the run, with all its files.
        evaluation: of the best checkpoint on the validation split; None for a `fast_dev_run`, which keeps nothing, and
            in all processes but the first.
        run_id: of the tracked run.
    """

    folder: RunFolder
    evaluation: Evaluation | None = None
    run_id: str | None = None

    @property
    def scores(self) -> Scores | None:
        """By the official rule."""
        return None if self.evaluation is None else self.evaluation.scores


def train(
    config: TrainConfig,
    *,
    folder: str | Path | None = None,
    progress: Progress = silent,
    composed: bool = False,
    sweep: SweepMember | None = None,
    pruning: EndEarly | None = None,
    compute: Mapping[str, Any] = NOTHING,
    assets: Mapping[str, str] = NOTHING,
) -> Trained:
    """Train a model, score its best checkpoint, and keep everything in a run folder.

    Nothing is tracked before all inputs are checked.

    Args:
        folder: of the run; None: outputs/DATE/TIME, or that of the run that `resume` names.
        progress: makes a callback for each piece of work.
        composed: whether `config` is complete where it resumes or repeats a run. Otherwise that run's configuration is
            used, changed by what differs from the defaults in `config`.
        sweep: that the run belongs to.
        pruning: ends a run of a sweep that falls behind the others.
        compute: the section that says where the run takes place, for the record.
        assets: key -> data asset, such as {"data.root": "azureml:kitti:3"}; the configuration has the local paths.

    Raises:
        ConfigError: naming the key that cannot be used.
        CheckpointError: if the run to resume cannot be used.
        DataError: naming the scan that cannot be read.
        Interrupted: after Ctrl-C; `resume` continues the run.

    Example:
        >>> train(TrainConfig(trainer=TrainerSettings(max_epochs=2))).scores.miou
    """
    return _Run(config, folder, composed, sweep, compute, assets, progress).execute(pruning)


def check_train(config: TrainConfig) -> None:
    """Build the parts of a run and discard them: refuses what can be refused without data.

    Raises:
        ConfigError: naming the section or key.

    Example:
        >>> check_train(TrainConfig(optimizer={"lr": 0.01}))
    """
    config = with_default_sections(config)
    _check_values(config)
    features = build_features(config.features)
    data = build_training_data(config, features)
    _check_parts(config, build_model(config, features, data.label_map.num_classes), data)
    build_callbacks(config.callbacks)
    build_loggers(config.logger, tracking.NullTracker(), Path())
    trainer_options(config.trainer.options, compute_for(config.trainer), Path())


def _check_parts(config: TrainConfig, model: SegmentationModel, data: ScanDataModule) -> None:
    """Build loss, optimizer and schedule and discard them, since the real ones need figures of the data."""
    with torch.random.fork_rng(devices=()):  # a loss with weights of its own draws them
        build_module(config, model, data, np.ones(data.label_map.num_classes, np.int64)).check_optimization()


def _check_values(config: TrainConfig) -> None:
    to_plain(config)  # refuses what cannot be saved
    check_choices(config)
    config.trainer.check()
    for name in (*SHIPPED, "callbacks", "logger"):
        check_keys(getattr(config, name), name)
    if not 0 <= config.seed < 2**32:
        raise ConfigError(f"{config.seed} is not between 0 and 2^32 - 1", where="seed")


class _Run:
    """One training, from its configuration to its folder."""

    def __init__(
        self,
        config: TrainConfig,
        folder: str | Path | None,
        composed: bool,
        sweep: SweepMember | None,
        compute: Mapping[str, Any],
        assets: Mapping[str, str],
        progress: Progress,
    ) -> None:
        self.assets, self.progress = assets, progress
        config = _begun_or_new(config, folder)
        self.resumes, self.automatic = config.resume is not None, config.resume == RESUME_AUTO
        named = folder if self.automatic else config.resume or config.rerun
        self.folder = RunFolder((config.resume if self.resumes and not self.automatic else folder) or new_run_folder())
        if named is not None:
            key = "resume" if self.resumes else "rerun"
            earlier = RunFolder.existing(named, key, resumable=self.resumes and not self.automatic)
            if not composed:
                config = replace(earlier_configuration(config, earlier), resume=config.resume, rerun=config.rerun)
            self._compare_with(earlier, config)
        self.config = with_default_sections(config)
        _check_values(self.config)
        self.record = TrainingRecord(self.config, self.folder, self.resumes, sweep, compute, assets, Path.cwd())

    def _compare_with(self, earlier: RunFolder, config: TrainConfig) -> None:
        """For a resumed run, refuse changes without effect; for a repeated one, log where the code differs."""
        if self.resumes:
            refuse_restored_settings(earlier, config)
            return
        differences = code_differences(earlier.describe().get("code", {}), code_state())
        log.info("Rerun of %s; the code is %s", earlier.path, "the same" if not differences else "not the same:")
        for line in differences:
            log.info("  %s", line)

    def execute(self, pruning: EndEarly | None) -> Trained:
        """Check, build, train, and log where the results are; nobody else may train in the folder meanwhile."""
        check_writable(self.folder.path, "hydra.run.dir")
        with self.folder.claimed() if ranks_of_environment().rank == 0 else nullcontext():
            return self._execute(pruning)

    def _execute(self, pruning: EndEarly | None) -> Trained:
        began = time.perf_counter()
        if not self.resumes and self.folder.begun:
            raise OutputError(
                "the folder holds another run",
                where=f"hydra.run.dir={self.folder.path}",
                remedy=f"Go on with it by resume={self.folder.path}, or name another folder.",
            )
        trainer_options(self.config.trainer.options, compute_for(self.config.trainer), self.folder.path)
        start = self._start() if self.resumes else None
        seed_everything(self.config.seed)
        features = build_features(self.config.features)
        data = build_training_data(self.config, features)
        model = build_model(self.config, features, data.label_map.num_classes)
        if not self.resumes:
            load_initial_weights(model, features, data.label_map, self.config)
        _check_parts(self.config, model, data)
        callbacks = [*build_callbacks(self.config.callbacks), *([pruning] if pruning else [])]
        summary = read_all_scans(data, self.progress)
        about = facts_of_training(self.config, data, summary, self.assets.get("data.root"), self.progress)
        module = build_module(self.config, model, data, summary.class_counts[1:], **about)
        if self.config.trainer.options.get("fast_dev_run"):
            fit(module, data, self.folder, self.config.trainer, progress=self.progress, callbacks=callbacks)
            return Trained(self.folder)
        tracker = self.record.start_tracking(summary.to_dict(data.label_map))
        try:
            if not self.resumes:
                self.record.write(tracker)
            evaluation = self._fit(module, data, tracker, start, callbacks)
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt) or getattr(error, "exit_code", 0) == 130
            tracker.finish("KILLED" if stopped else "FAILED")
            raise
        if evaluation is None:  # the first of several processes scores and logs the results
            return Trained(self.folder)
        tracker.log_artifact(self.folder.config)
        if pruning is not None and pruning.ended_after is not None:
            self.folder.record(ended_after_validation=pruning.ended_after)
            tracker.set_tags({"pointseg.pruned": f"after validation {pruning.ended_after}"})
        tracker.finish()
        log_results(self.folder, evaluation, tracker, time.perf_counter() - began)
        return Trained(self.folder, evaluation, tracker.run_id)

    def _fit(
        self,
        module: SegmentationModule,
        data: ScanDataModule,
        tracker: tracking.Tracker,
        start: Path | None,
        callbacks: list[Any],
    ) -> Evaluation | None:
        loggers = build_loggers(self.config.logger, tracker, self.folder.path)
        for logger in loggers:
            if not isinstance(logger, TrackerLogger):  # a tracked run already has them
                logger.log_hyperparams(redact(self.record.values()))
        return fit(
            module,
            data,
            self.folder,
            self.config.trainer,
            tracker=tracker,
            resume=start,
            on_first_checkpoint=partial(self.record.write, tracker) if self.resumes else None,
            progress=self.progress,
            callbacks=callbacks,
            loggers=loggers,
            draw=write_figures,
        )

    def _start(self) -> Path:
        """The checkpoint to resume from."""
        if not self.automatic:
            return newest_whole(self.folder)
        warn_of_other_assets(self.folder.describe().get("inputs", {}), self.assets)
        start = newest_whole(self.folder)
        log.info("Going on with the run in %s from %s", self.folder.path, start.name)
        return start


def _begun_or_new(config: TrainConfig, folder: str | Path | None) -> TrainConfig:
    """Replace resume=auto by no resume, unless a run has begun in the folder."""
    if config.resume != RESUME_AUTO:
        return config
    if folder is None:
        remedy = "Name it by hydra.run.dir=DIR, without -m."
        raise ConfigError("no folder is given in which a run may have begun", where="resume=auto", remedy=remedy)
    return config if RunFolder(folder).begun else replace(config, resume=None)
