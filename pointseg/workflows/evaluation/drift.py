"""Compare new scans with a training set: one HTML file and drift.json."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from pointseg.core.config import check_choices
from pointseg.core.errors import CheckpointError, ConfigError, DataError, Drifted, InvalidData
from pointseg.core.files import new_run_folder, write_json
from pointseg.core.progress import Progress, silent
from pointseg.core.redaction import redact_text
from pointseg.core.text import counted, duration, listed
from pointseg.data.folders import open_scans
from pointseg.data.store import PackedScans, PackedStore, is_store
from pointseg.engine import bundle
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.devices import choose_compute
from pointseg.pages.drift_page import write_drift_page
from pointseg.quality.collected_scans import CollectedScans, collection_notes, is_collected, measure_collected
from pointseg.quality.drift import Drift, compare_statistics
from pointseg.quality.input_statistics import InputStatistics, measure
from pointseg.workflows.evaluation.scoring import page_file
from pointseg.workflows.labelling.labelled_files import check_remission_scale
from pointseg.workflows.model_location import fetched_checkpoint, required
from pointseg.workflows.settings.report import ReportConfig

__all__ = ["DriftReport", "check_drift_settings", "drift"]

log = logging.getLogger(__name__)

PAGE, RECORD = "drift.html", "drift.json"
MOST_NAMED = 10  # unusable lines or scans that are logged one by one

Window = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class DriftReport:
    """The result of a comparison of scans.

    Attributes:
        drift: the differences and the verdict.
        page, record: the HTML file, and drift.json.
    """

    drift: Drift
    page: Path
    record: Path


class _NewScans(NamedTuple):
    """Statistics of the new scans, notes for the reader, and what could not be used."""

    statistics: InputStatistics
    notes: list[str]
    unusable: InvalidData | None


def drift(config: ReportConfig, *, folder: str | Path | None = None, progress: Progress = silent) -> DriftReport:
    """Compare the scans of `drift` with the training set of `against`; the verdict is the last line of the log.

    Args:
        folder: of this command, where `output` names no file; None: outputs/DATE/TIME.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        CheckpointError: if the model has no input statistics.
        DataError, OutputError: if scans or folder cannot be used.
        Drifted: if the scans have drifted and `fail_on_drift` is set; the page is written first.
        InvalidData: if scans, or lines of what was collected, cannot be used; raised after everything else is done.

    Example:
        >>> drift(ReportConfig(drift="new_scans", against="RUN_FOLDER")).drift.verdict
        'drifted: remission is 0.61 times as large'
    """
    began = time.perf_counter()
    check_drift_settings(config)
    window = _window(config)
    page = page_file(config.output, Path("." if config.output else folder or new_run_folder()), PAGE)
    predictor = None
    if config.checkpoint:
        path = fetched_checkpoint(config.checkpoint, config.tracking, Path.cwd())
        predictor = Predictor.load(path, choose_compute(config.accelerator).device, models=config.models)
    reference = _reference(config, predictor, progress)
    new = _new_scans(config, window, predictor, progress)
    comparison = compare_statistics(new.statistics, reference)
    comparison = replace(comparison, notes=[*new.notes, *comparison.notes])
    result = DriftReport(comparison, page, page.with_name(RECORD))
    new_name, reference_name = redact_text(str(config.drift)), redact_text(str(config.against))
    write_drift_page(page, comparison, new=new_name, against=reference_name)
    write_json(result.record, {**comparison.to_dict(), "drift": new_name, "against": reference_name})
    _log(result, time.perf_counter() - began)
    if comparison.drifted and config.fail_on_drift:
        raise Drifted(
            f"the scans have drifted in {listed(comparison.named)}",
            where=page,
            remedy="Look at the page; if the change is permanent, train with such scans.",
        )
    if new.unusable:
        raise new.unusable
    return result


def _log(result: DriftReport, seconds: float) -> None:
    drift = result.drift
    log.info(
        "Compared %s of %s with %s of %s, in %s",
        counted(drift.new.scans, "scan"),
        counted(drift.new.sequences, "sequence"),
        counted(drift.reference.scans, "training scan"),
        counted(drift.reference.sequences, "sequence"),
        duration(seconds),
    )
    for note in drift.notes:
        log.info("  Note: %s.", note)
    log.info("  %s\n  %s", result.page, result.record)
    log.info("%s%s", drift.verdict[0].upper(), drift.verdict[1:])


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_drift_settings(config: ReportConfig) -> None:
    """Refuse what can be refused without looking at scans.

    Raises:
        ConfigError: if a key is missing or contradicts another.
    """
    check_choices(config)
    required(config.drift, "drift", "Name the new scans: drift=FOLDER.")
    if config.run:
        remedy = "Name the training set by against=RUN_FOLDER."
        raise ConfigError("run and drift are both given", where="run", remedy=remedy)
    if not config.against:
        raise ConfigError(
            "no training set is given",
            where="against",
            remedy="Name a packed store, or a run folder or bundle, which hold the statistics of theirs.",
        )
    if config.drift_scans < 1:
        raise ConfigError(
            f"{config.drift_scans} scans of each sequence are too few", where="drift_scans", remedy="Give 1 or more."
        )
    if config.checkpoint and not is_store(config.against):
        raise ConfigError(
            "predicted classes can be compared only with those of a packed store",
            where="checkpoint",
            remedy="Name the packed training set by against=PACKED_STORE, or leave checkpoint out.",
        )
    if config.days is not None and (config.since is not None or config.until is not None):
        raise ConfigError("days and a time are both given", where="days", remedy="Give days, or since and until.")
    if config.days is not None and not 0 < config.days <= 36500:
        raise ConfigError(f"{config.days:g} is not a number of days", where="days", remedy="Give more than 0.")
    _window(config)
    check_remission_scale(config.remission_scale)


def _window(config: ReportConfig) -> Window:
    """The times from which, and until which, collected scans are compared; raises ConfigError for an invalid time."""
    if config.days is not None:
        return datetime.now(UTC) - timedelta(days=config.days), None
    since, until = _time(config.since, "since"), _time(config.until, "until")
    if since and until and since >= until:
        raise ConfigError("since is not before until", where=f"since={config.since}, until={config.until}")
    return since, until


def _time(value: str | None, key: str) -> datetime | None:
    if value is None:
        return None
    try:
        time = datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    except ValueError:
        remedy = "Write 2026-11-14, or 2026-11-14T06:00."
        raise ConfigError(f"{value!r} is not a day or time", where=key, remedy=remedy) from None


# ---- the two sets ----------------------------------------------------------------------------------------------------


def _reference(config: ReportConfig, predictor: Predictor | None, progress: Progress) -> InputStatistics:
    """Statistics of the training scans."""
    against = str(config.against)
    if is_store(against):
        scans = PackedScans(PackedStore(against))
        return measure(scans, scans=config.drift_scans, predictor=predictor, progress=progress("training scans"))
    statistics = bundle.load(
        fetched_checkpoint(against, config.tracking, Path.cwd()), models=config.models
    ).input_statistics
    if statistics is None:
        raise CheckpointError(
            "the model holds no statistics of its training scans",
            where=f"against={against}",
            remedy="It was trained with an earlier version: train again, or name the packed training set.",
        )
    return InputStatistics.from_dict(statistics, f"against={against}")


def _new_scans(config: ReportConfig, window: Window, predictor: Predictor | None, progress: Progress) -> _NewScans:
    root = str(config.drift)
    if is_store(root) or not is_collected(root):
        for key in ("days", "since", "until"):
            if getattr(config, key) is not None:
                remedy = "Leave it out; it is for scans that a service collected."
                raise ConfigError("files of scans have no time", where=key, remedy=remedy)
        return _new_files(config, predictor, progress)
    if config.remission_scale is not None:
        remedy = "Leave it out; the service divides before it collects."
        raise ConfigError("collected scans are already divided", where="remission_scale", remedy=remedy)
    collected = CollectedScans(root, since=window[0], until=window[1])
    _warn(collected.bad, "line")
    label_map = predictor.label_map if predictor else None
    new = measure_collected(collected, scans=config.drift_scans, label_map=label_map, progress=progress("new scans"))
    if not collected.bad:
        return _NewScans(new, collection_notes(collected), None)
    bad = InvalidData(
        f"{counted(len(collected.bad), 'line')} of the collected scans could not be used; the others were",
        where=root,
        remedy="Name the folder of one collection, and remove damaged files.",
    )
    return _NewScans(new, collection_notes(collected), bad)


def _new_files(config: ReportConfig, predictor: Predictor | None, progress: Progress) -> _NewScans:
    """Statistics of files or a packed store."""
    bad: list[DataError] = []
    extra = predictor.extra if predictor else ()
    source = open_scans(str(config.drift), remission_scale=config.remission_scale, extra=extra)
    try:
        new = measure(
            source,
            scans=config.drift_scans,
            predictor=predictor,
            unreadable=bad.append,
            progress=progress("new scans"),
        )
    finally:  # even if all of them are bad
        _warn(bad, "scan")
    if not bad:
        return _NewScans(new, [], None)
    many = counted(len(bad), "scan")
    remedy = "See above; copy the files again, or remove them."
    unusable = InvalidData(f"{many} could not be read; the others were", where=config.drift, remedy=remedy)
    return _NewScans(new, [f"{many} could not be read: left out"], unusable)


def _warn(bad: Sequence[object], unit: str) -> None:
    for one in bad[:MOST_NAMED]:
        log.warning("%s", one)
    if len(bad) > MOST_NAMED:
        log.warning("and %s more", counted(len(bad) - MOST_NAMED, unit))
