"""`scripts/invoke.py`: files or folders of point clouds -> labels, by a scoring service."""

from __future__ import annotations

import logging
import os
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from pointseg.cli.entry import Job
from pointseg.cli.labelled import check_files, refuse_failed, say_predicted, without_overwrite
from pointseg.cli.values import progress_bar
from pointseg.client import Client
from pointseg.errors import ConfigError
from pointseg.files import check_writable
from pointseg.prediction import find_items, predict_files
from pointseg.prediction.remote import ServiceLabeller
from pointseg.redact import install_log_redaction
from pointseg.words import counted

__all__ = ["invoke_job"]

log = logging.getLogger(__name__)

ONLINE = "online:"


def invoke_job(job: Job) -> None:
    """Label what `input` names by the service at `url`, or the endpoint that `endpoint` names, into `output`.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        DataError, OutputError: if the input or the folder cannot be used.
        ServiceError: if the service cannot.
        InvalidData: if files were skipped because they cannot be used (exit code 2).
    """
    config = job.config
    if config.endpoint and not str(config.endpoint).startswith(ONLINE):
        from pointseg.cli.batch_invoking import invoke_batch

        invoke_batch(job)
        return
    _check(config)
    with _folder(config) as output, _client(job) as client:
        items = find_items(str(config.input), output, config.write if config.output else "label")
        labeller = ServiceLabeller(client, str(config.labels))
        if config.output:
            check_writable(output, "output")
        if not labeller.told:
            log.info("The service does not name its classes: they are taken from labels=%s", config.labels)
        log.info("Labelling %s by %s, model %s", counted(len(items), "file"), client.url, labeller.model or "unnamed")
        began = time.perf_counter()
        try:
            found = predict_files(
                labeller,
                items,
                output,
                identity=labeller.identity,
                on_error=config.on_error,
                overwrite=config.overwrite,
                probabilities=config.probabilities,
                remission_scale=config.remission_scale,
                progress=progress_bar("labelling"),
            )
        except KeyboardInterrupt:
            if config.output:
                log.info("The same command goes on where this one stopped%s.", without_overwrite(config))
            raise
        say_predicted(found, output if config.output else None, time.perf_counter() - began)
        _say_answers(labeller)
        refuse_failed(found, len(items), config)


def _check(config: DictConfig) -> None:
    if not config.url and not config.endpoint:
        raise ConfigError("no service is named", where="url", remedy="Name it: url=http://127.0.0.1:8000.")
    for key in ("job", "wait"):
        if config[key]:
            raise ConfigError("only a batch endpoint has jobs", where=key, remedy="Add endpoint=batch:NAME.")
    check_files(config)
    if config.overwrite and not config.output:
        raise ConfigError(
            "there is nothing to overwrite without an output", where="overwrite", remedy="Add output=DIR."
        )


def _client(job: Job) -> Client:
    config = job.config
    if config.endpoint:
        from pointseg.cli.online_invoking import endpoint_of

        url, given = endpoint_of(job)
    else:
        url, given = str(config.url), str(config.key or os.environ.get("POINTSEG_KEY", ""))
    key = given or None
    install_log_redaction([key] if key else [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client = Client(
            url,
            key,
            timeout=config.timeout,
            retries=config.retries,
            deployment=str(config.deployment) if config.deployment else None,
            max_body=config.max_body,
            compression=config.compression,
        )
    for warning in caught:
        log.warning("%s", warning.message)
    return client


@contextmanager
def _folder(config: DictConfig) -> Iterator[Path]:
    """Where labels go; a folder that is gone afterwards, if nobody wants them."""
    if config.output:
        yield Path(str(config.output)).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="pointseg-") as folder:
        yield Path(folder)


def _say_answers(labeller: ServiceLabeller) -> None:
    """Points by class and how long answers took, of what was labelled now."""
    total = sum(labeller.points.values())
    for raw_id, points in labeller.points.most_common():
        name = labeller.label_map.labels[raw_id][0]
        log.info("  %-16s %6d %14s  %5.1f %%", name, raw_id, f"{points:,}", 100 * points / total)
    if labeller.seconds:
        middle, late = 1000 * np.quantile(labeller.seconds, [0.5, 0.95])
        model = 1000 * np.median(labeller.predicting)
        log.info("Latency p50 %.0f ms, p95 %.0f ms; the model's part of it, p50 %.0f ms", middle, late, model)
