"""`report drift=FOLDER against=...`: whether new scans are like a training set, to one HTML file and drift.json."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg import bundle
from pointseg.cli.entry import Job
from pointseg.cli.evaluating import fetch_checkpoint
from pointseg.cli.values import progress_bar
from pointseg.data.cloud_folder import open_scans
from pointseg.data.collected import CollectedScans, is_collected, measure_collected, what_was_read
from pointseg.data.statistics import InputStatistics, measure
from pointseg.data.store import PackedScans, PackedStore, is_store
from pointseg.drift import compare
from pointseg.errors import CheckpointError, ConfigError, DataError, Drifted, InvalidData
from pointseg.files import check_writable, write_json
from pointseg.predictor import Predictor
from pointseg.redact import redact_text
from pointseg.report.drift_page import write_drift_page
from pointseg.training.devices import choose_compute
from pointseg.words import counted, duration, listed

__all__ = ["check_drift", "drift_job"]

log = logging.getLogger(__name__)

RESULT = "drift.json"
SAID = 10  # lines or scans that are named, of those that cannot be used


def drift_job(job: Job) -> None:
    """Compare the scans of `drift` with the training set of `against`; the verdict is the last line.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        CheckpointError: if the model brings no input statistics.
        DataError, OutputError: if scans or folder cannot be used.
        Drifted: if the scans have drifted and `fail_on_drift` is set.
        InvalidData: if scans, or lines of what was collected, cannot be used; after everything else is done.
    """
    began = time.perf_counter()
    config = job.config
    check_drift(config)
    window = _window(config)
    output = _output(config, job)
    predictor = None
    if config.checkpoint and is_store(str(config.against)):
        predictor = Predictor.load(fetch_checkpoint(config, job), choose_compute(config.accelerator).device)
    reference = _reference(config, job, predictor)
    new, notes, bad = _new_scans(config, window, predictor)
    found = compare(new, reference)
    found = replace(found, notes=[*notes, *found.notes])
    named = redact_text(str(config.drift)), redact_text(str(config.against))
    write_drift_page(output, found, new=named[0], against=named[1])
    write_json(output.with_name(RESULT), {**found.to_dict(), "drift": named[0], "against": named[1]})
    log.info(
        "Compared %s of %s with %s of %s, in %s",
        counted(new.scans, "scan"),
        counted(new.sequences, "sequence"),
        counted(reference.scans, "training scan"),
        counted(reference.sequences, "sequence"),
        duration(time.perf_counter() - began),
    )
    for note in found.notes:
        log.info("  Note: %s.", note)
    log.info("  %s\n  %s", output, output.with_name(RESULT))
    log.info("%s%s", found.verdict[0].upper(), found.verdict[1:])
    if found.drifted and config.fail_on_drift:
        raise Drifted(
            f"the scans have drifted in {listed(found.named)}",
            where=output,
            remedy="Look at the page; where the change is meant to stay, train with such scans.",
        )
    if bad:
        raise bad


def check_drift(config: DictConfig) -> None:
    if config.run:
        raise ConfigError(
            "run and drift are both given", where="run", remedy="Name the training set by against=RUN_FOLDER."
        )
    if not config.against:
        raise ConfigError(
            "no training set is given",
            where="against",
            remedy="Name a packed store, or a run folder or bundle, which bring what theirs looked like.",
        )
    if config.drift_scans < 1:
        raise ConfigError(f"{config.drift_scans} scans of each sequence", where="drift_scans", remedy="Give 1 or more.")
    if config.checkpoint and not is_store(str(config.against)):
        raise ConfigError(
            "predicted classes are compared with those of a packed store only",
            where="checkpoint",
            remedy="Name the packed training set by against=PACKED_STORE, or leave checkpoint out.",
        )
    if config.days is not None and (config.since is not None or config.until is not None):
        raise ConfigError("days and a time are both given", where="days", remedy="Give days, or since and until.")
    days = config.days
    if days is not None and (isinstance(days, bool) or not isinstance(days, int | float) or not 0 < days <= 36500):
        raise ConfigError(f"{days!r} is no number of days", where="days", remedy="Give more than 0.")
    _window(config)
    scale = config.remission_scale
    if scale is not None and not (isinstance(scale, int | float) and not isinstance(scale, bool) and scale > 0):
        raise ConfigError(f"{scale!r} divides nothing", where="remission_scale", remedy="Give a number, such as 255.")


def _window(config: DictConfig) -> tuple[datetime | None, datetime | None]:
    """The time of the collected scans that are looked at.

    Raises:
        ConfigError: for what is no time.
    """
    if config.days is not None:
        return datetime.now(UTC) - timedelta(days=float(config.days)), None
    since, until = (_time(config[key], key) for key in ("since", "until"))
    if since and until and since >= until:
        raise ConfigError("no time lies between the two", where=f"since={config.since}, until={config.until}")
    return since, until


def _time(value: Any, key: str) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(str(value))
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except ValueError:
        remedy = "Write 2026-11-14, or 2026-11-14T06:00."
        raise ConfigError(f"{value!r} is no day and no time", where=key, remedy=remedy) from None


def _new_scans(
    config: DictConfig, window: tuple[datetime | None, datetime | None], predictor: Predictor | None
) -> tuple[InputStatistics, list[str], InvalidData | None]:
    """What the new scans look like, what a reader has to know of them, and what could not be used."""
    root, progress = str(config.drift), progress_bar("new scans")
    if is_store(root) or not is_collected(root):
        for key in ("days", "since", "until"):
            if config[key] is not None:
                remedy = "Leave it out; it is for what a service collected."
                raise ConfigError("files of scans have no time", where=key, remedy=remedy)
        return _new_files(config, predictor)
    if config.remission_scale is not None:
        remedy = "Leave it out; the service divides before it collects."
        raise ConfigError("what was collected is counted already", where="remission_scale", remedy=remedy)
    collected = CollectedScans(root, since=window[0], until=window[1])
    _say(collected.bad, "line")
    label_map = predictor.label_map if predictor else None
    new = measure_collected(collected, scans=config.drift_scans, label_map=label_map, progress=progress)
    if not collected.bad:
        return new, what_was_read(collected), None
    bad = InvalidData(
        f"{counted(len(collected.bad), 'line')} of what was collected could not be used; the others were",
        where=config.drift,
        remedy="Name the folder of one collection, and remove damaged files.",
    )
    return new, what_was_read(collected), bad


def _new_files(
    config: DictConfig, predictor: Predictor | None
) -> tuple[InputStatistics, list[str], InvalidData | None]:
    """`_new_scans`, of files or a packed store."""
    bad: list[DataError] = []
    source = open_scans(str(config.drift), remission_scale=config.remission_scale)
    try:
        new = measure(
            source,
            scans=config.drift_scans,
            predictor=predictor,
            unreadable=bad.append,
            progress=progress_bar("new scans"),
        )
    finally:  # also where all of them are bad
        _say(bad, "scan")
    if not bad:
        return new, [], None
    many = counted(len(bad), "scan")
    remedy = "See above; copy the files again, or remove them."
    return (
        new,
        [f"{many} could not be read: left out"],
        InvalidData(f"{many} could not be read; the others were", where=config.drift, remedy=remedy),
    )


def _say(bad: Sequence[object], unit: str) -> None:
    for one in bad[:SAID]:
        log.warning("%s", one)
    if len(bad) > SAID:
        log.warning("and %s more", counted(len(bad) - SAID, unit))


def _output(config: DictConfig, job: Job) -> Path:
    output = Path(str(config.output)).expanduser() if config.output else job.folder / "drift.html"
    if output.is_dir():
        raise ConfigError(
            "a folder, and one page is written",
            where=f"output={output}",
            remedy=f"Name it: output={output / 'drift.html'}",
        )
    check_writable(output.parent, "output" if config.output else "hydra.run.dir")
    return output


def _reference(config: DictConfig, job: Job, predictor: Predictor | None) -> InputStatistics:
    if is_store(str(config.against)):
        scans = PackedScans(PackedStore(str(config.against)))
        return measure(scans, scans=config.drift_scans, predictor=predictor, progress=progress_bar("training scans"))
    statistics = bundle.load(fetch_checkpoint(config, job, "against")).input_statistics
    if statistics is None:
        raise CheckpointError(
            "the model does not bring what its training scans looked like",
            where=f"against={config.against}",
            remedy="It was trained with an earlier version: train again, or name the packed training set.",
        )
    return InputStatistics.from_dict(statistics, f"against={config.against}")
