"""Label files or folders of point clouds with a trained model."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict
from pathlib import Path

from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable, expanded
from pointseg.core.progress import Progress, silent
from pointseg.core.ranks import ranks_of_environment
from pointseg.core.text import counted
from pointseg.engine.prediction import Predicted, find_items, predict_files
from pointseg.engine.prediction.job_processes import locks_of_job, wait_for_others
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.devices import choose_compute
from pointseg.engine.views import Views
from pointseg.workflows.adaptation import adapted_to
from pointseg.workflows.labelling import submission
from pointseg.workflows.labelling.labelled_files import (
    check_remission_scale,
    log_interruption,
    log_predicted,
    refuse_failed,
)
from pointseg.workflows.labelling.picture import check_picture, draw_labels
from pointseg.workflows.model_location import fetched_checkpoint, required
from pointseg.workflows.settings.predict import PredictConfig

__all__ = ["predict"]

log = logging.getLogger(__name__)


def predict(config: PredictConfig, *, progress: Progress = silent) -> Predicted:
    """Label what `input` names, into `output`; with `submission`, also pack the labels for the benchmark's server.

    Several processes may share a configuration, by torchrun or one after another: each file is labelled once.

    Args:
        progress: makes a callback for each piece of work.

    Returns:
        What became of the files of this process.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        CheckpointError, DataError, OutputError: if the model, the input or the folder cannot be used.
        InvalidData: if files cannot be used; raised after all others are labelled.

    Example:
        >>> predict(PredictConfig(checkpoint="RUN_FOLDER", input="scans", output="labels")).done
    """
    check_choices(config)
    checkpoint = required(config.checkpoint, "checkpoint", "Name it: checkpoint=RUN_FOLDER.")
    source = required(config.input, "input", "Name a file, a folder or a pattern: input=SCANS.")
    check_remission_scale(config.remission_scale)
    output, picture = _labels_folder(config), check_picture(config.picture)
    ranks, views = ranks_of_environment(), Views(**asdict(config.views))
    if config.submission:
        submission.check_submittable(config.submission, source, ranks.world)
    items = find_items(source, output, config.write)
    compute = choose_compute(config.accelerator)
    check_writable(output, "output")
    path = fetched_checkpoint(checkpoint, config.tracking, Path.cwd())
    predictor = adapted_to(
        Predictor.load(path, compute.device, strict=config.strict, views=views, models=config.models),
        config.adapt,
        config.adapt_scans,
        config.adapt_share,
        remission_scale=config.remission_scale,
        columns=config.columns,
    )
    if config.submission:
        submission.require_benchmark_classes(predictor.label_map)
        items = submission.test_items(items)
    part = f", of which {counted(len(ranks.share_of(items)), 'file')} here" if ranks.world > 1 else ""
    log.info("Predicting %s%s with %s, on %s", counted(len(items), "file"), part, path, compute.reason)
    began = time.perf_counter()
    try:
        predicted = predict_files(
            predictor,
            items,
            output,
            on_error=config.on_error,
            overwrite=config.overwrite,
            probabilities=config.probabilities,
            remission_scale=config.remission_scale,
            columns=config.columns,
            ranks=ranks,
            locks=locks_of_job(),
            progress=progress("predicting"),
        )
    except KeyboardInterrupt:
        log_interruption(overwrite=config.overwrite)
        raise
    log_predicted(predicted, output, time.perf_counter() - began)
    if views.count > 1:
        log.info("  each predicted from %d views, which takes as many times longer", views.count)
    wait_for_others(ranks)
    if picture is not None and ranks.rank == 0:
        draw_labels(predictor, items, picture, remission_scale=config.remission_scale, columns=config.columns)
    refuse_failed(predicted, len(items), source)
    if config.submission:
        submission.pack_archive(config.submission, output, source, progress)
    return predicted


def _labels_folder(config: PredictConfig) -> Path:
    """`output`, or a folder beside the archive."""
    if config.output:
        return expanded(config.output)
    if config.submission:
        return Path(f"{expanded(config.submission).with_suffix('')}_labels")
    raise ConfigError("no output folder is given", where="output", remedy="Name it: output=DIR.")
