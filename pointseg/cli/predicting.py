"""The `predict` verb: files or folders of point clouds -> labels."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import torch
from omegaconf import DictConfig

from pointseg.cli import submitting
from pointseg.cli.entry import Job
from pointseg.cli.evaluating import fetch_checkpoint, views_of
from pointseg.cli.labelled import check_files, refuse_failed, say_predicted, without_overwrite
from pointseg.cli.values import progress_bar
from pointseg.errors import ConfigError
from pointseg.files import check_writable
from pointseg.prediction import Share, find_items, predict_files
from pointseg.prediction.together import locks_of_job, wait_for_others
from pointseg.predictor import Predictor
from pointseg.ranks import ranks_of_environment
from pointseg.training.devices import choose_compute
from pointseg.words import counted

__all__ = ["predict_job"]

log = logging.getLogger(__name__)


def predict_job(job: Job) -> None:
    """Label what `input` names, into `output`.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        CheckpointError, DataError, OutputError: if the model, the input or the folder cannot be used.
        InvalidData: if files were skipped because they cannot be used (exit code 2).
    """
    config = job.config
    _check(config)
    share, views = Share.of_environment(), views_of(config)
    if config.submission:
        submitting.require_test_set(config, share.world)
    output = Path(str(submitting.labels_folder(config))).expanduser()
    items = find_items(str(config.input), output, config.write)
    compute = choose_compute(config.accelerator)
    check_writable(output, "output")
    checkpoint = fetch_checkpoint(config, job)
    predictor = Predictor.load(checkpoint, _device_of_rank(compute.device), strict=config.strict, views=views)
    if config.submission:
        submitting.require_benchmark_classes(predictor.label_map)
        items = submitting.test_items(items)
    part = f", of which {counted(len(share.of(items)), 'file')} here" if share.world > 1 else ""
    log.info("Predicting %s%s with %s, on %s", counted(len(items), "file"), part, checkpoint, compute.reason)
    began = time.perf_counter()
    try:
        found = predict_files(
            predictor,
            items,
            output,
            on_error=config.on_error,
            overwrite=config.overwrite,
            probabilities=config.probabilities,
            remission_scale=config.remission_scale,
            share=share,
            locks=locks_of_job(),
            progress=progress_bar("predicting"),
        )
    except KeyboardInterrupt:
        log.info("The same command goes on where this one stopped%s.", without_overwrite(config))
        raise
    say_predicted(found, output, time.perf_counter() - began)
    if views.count > 1:
        log.info("  seen from %d views each, at as many times the time", views.count)
    wait_for_others(share)
    refuse_failed(found, len(items), config)
    if config.submission:
        submitting.pack_archive(config, output)


def _check(config: DictConfig) -> None:
    if not config.checkpoint:
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy="Name it: checkpoint=RUN_FOLDER.")
    check_files(config)
    if not config.output and not config.submission:
        raise ConfigError("no output folder is given", where="output", remedy="Name it: output=DIR.")


def _device_of_rank(device: torch.device) -> torch.device:
    """Each process of a machine takes a GPU of its own, as far as they go."""
    if device.type != "cuda":
        return device
    return torch.device("cuda", ranks_of_environment().local_rank % torch.cuda.device_count())
