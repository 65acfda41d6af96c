"""Label files or folders of point clouds by a scoring service, or by an endpoint in Azure ML."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable, expanded
from pointseg.core.progress import Ask, Progress, nobody, silent
from pointseg.core.redaction import install_log_redaction
from pointseg.core.text import counted
from pointseg.engine.prediction import Predicted, find_items, predict_files
from pointseg.serving.client import Client
from pointseg.serving.remote_predictor import RemotePredictor
from pointseg.workflows.labelling.labelled_files import (
    check_remission_scale,
    log_interruption,
    log_predicted,
    refuse_failed,
)
from pointseg.workflows.model_location import required
from pointseg.workflows.settings.invoke import InvokeConfig

__all__ = ["Invoked", "invoke"]

log = logging.getLogger(__name__)

ONLINE = "online:"


@dataclass(frozen=True)
class Invoked:
    """The result of a call of a service.

    Attributes:
        files: labelled now; None for a job that was not waited for.
        model: that answered, if the service names it.
        predicted: what became of the files; None if a job labelled them.
        points: labelled now, by raw id.
        seconds: that each call took.
        job: of a batch endpoint.
    """

    files: int | None
    model: str | None = None
    predicted: Predicted | None = None
    points: Counter[int] = field(default_factory=Counter)
    seconds: tuple[float, ...] = ()
    job: str | None = None


def invoke(config: InvokeConfig, *, progress: Progress = silent, ask: Ask = nobody) -> Invoked:
    """Label what `input` names by the service at `url`, or by `endpoint`, into `output`.

    Args:
        progress: makes a callback for each piece of work.
        ask: at Ctrl-C, whether to cancel a job that is waited for.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        DataError, OutputError: if the input or the folder cannot be used.
        ServiceError, AzureError: if the service or Azure fails.
        JobFailed: if a job of a batch endpoint did not end well.
        InvalidData: if files cannot be used; raised after all others are labelled.

    Example:
        >>> invoke(InvokeConfig(url="http://127.0.0.1:8000", input="scans", output="labels")).files
        271
    """
    check_choices(config)
    if config.endpoint and not config.endpoint.startswith(ONLINE):
        from pointseg.workflows.labelling.batch_job import label_by_job

        job = label_by_job(config, ask)
        return Invoked(job.files, job=job.name)
    source = _check(config)
    with _folder(config) as output, _client(config) as client:
        items = find_items(source, output, config.write if config.output else "label")
        labeller = RemotePredictor(client, config.labels)
        if config.output:
            check_writable(output, "output")
        if not labeller.names_classes:
            log.info("The service does not name its classes: labels=%s names them", config.labels)
        log.info("Labelling %s by %s, model %s", counted(len(items), "file"), client.url, labeller.model or "unnamed")
        began = time.perf_counter()
        try:
            predicted = predict_files(
                labeller,
                items,
                output,
                identity=labeller.identity,
                on_error=config.on_error,
                overwrite=config.overwrite,
                probabilities=config.probabilities,
                remission_scale=config.remission_scale,
                progress=progress("labelling"),
            )
        except KeyboardInterrupt:
            if config.output:
                log_interruption(overwrite=config.overwrite)
            raise
        log_predicted(predicted, output if config.output else None, time.perf_counter() - began)
        _log_answers(labeller)
        refuse_failed(predicted, len(items), source)
    return Invoked(len(predicted.done), labeller.model, predicted, labeller.points, tuple(labeller.seconds))


def _check(config: InvokeConfig) -> str:
    """The input, after the checks that need no service."""
    if not config.url and not config.endpoint:
        raise ConfigError("no service is named", where="url", remedy="Name it: url=http://127.0.0.1:8000.")
    for key in ("job", "wait"):
        if getattr(config, key):
            raise ConfigError("only a batch endpoint has jobs", where=key, remedy="Add endpoint=batch:NAME.")
    given = required(config.input, "input", "Name a file, a folder or a pattern: input=SCANS.")
    check_remission_scale(config.remission_scale)
    if config.overwrite and not config.output:
        text = "there is nothing to overwrite without an output"
        raise ConfigError(text, where="overwrite", remedy="Add output=DIR.")
    return given


def _client(config: InvokeConfig) -> Client:
    if config.endpoint:
        from pointseg.workflows.labelling.online_endpoint import endpoint_of

        url, key = endpoint_of(config)
    else:
        url, key = str(config.url), config.key or os.environ.get("POINTSEG_KEY", "")
    install_log_redaction([key] if key else [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = Client(
            url,
            key or None,
            timeout=config.timeout,
            retries=config.retries,
            deployment=config.deployment or None,
            max_body=config.max_body,
            compression=config.compression,
        )
    for warning in caught:
        log.warning("%s", warning.message)
    return client


@contextmanager
def _folder(config: InvokeConfig) -> Iterator[Path]:
    """The folder for the labels; a temporary one without `output`."""
    if config.output:
        yield expanded(config.output)
        return
    with tempfile.TemporaryDirectory(prefix="pointseg-") as folder:
        yield Path(folder)


def _log_answers(labeller: RemotePredictor) -> None:
    """Log points by class, and how long answers took, for what was labelled now."""
    total = sum(labeller.points.values())
    for raw_id, points in labeller.points.most_common():
        name = labeller.label_map.labels[raw_id][0]
        log.info("  %-16s %6d %14s  %5.1f %%", name, raw_id, f"{points:,}", 100 * points / total)
    if labeller.seconds:
        middle, late = 1000 * np.quantile(labeller.seconds, [0.5, 0.95])
        model = 1000 * np.median(labeller.model_seconds)
        log.info("Latency p50 %.0f ms, p95 %.0f ms; the model's part of it, p50 %.0f ms", middle, late, model)
