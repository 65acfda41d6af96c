"""Report on one model, or on two side by side, as one HTML file."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pointseg import tracking
from pointseg.core.config import check_choices
from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.files import expanded, new_run_folder
from pointseg.core.package import VERSION
from pointseg.core.progress import Progress, silent
from pointseg.core.redaction import redact_text
from pointseg.core.text import counted, duration
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine.metrics import Scores
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.devices import choose_compute
from pointseg.engine.training.history import read_history
from pointseg.engine.training.run_folder import RunFolder
from pointseg.pages.score_page import Subject, write_report
from pointseg.quality.assessment import Assessment, assess
from pointseg.workflows.evaluation.scoring import check_resampling, page_file, start_tracking
from pointseg.workflows.model_location import fetched_checkpoint
from pointseg.workflows.run_config import run_config_of
from pointseg.workflows.run_data import build_data, data_name, readable_data_of_run
from pointseg.workflows.settings.report import ReportConfig

__all__ = ["Reported", "page_name", "report"]

log = logging.getLogger(__name__)

MOST_SCANS = 8  # in the viewer, and as pictures: keeps the page under 15 MB


@dataclass(frozen=True)
class Reported:
    """The result of a report.

    Attributes:
        page: the file.
        assessment: of the model.
        against: of the model that it is compared with, on the same scans; None without one.
    """

    page: Path
    assessment: Assessment
    against: Assessment | None

    @property
    def scores(self) -> Scores:
        """Of the model, by the official rule."""
        return self.assessment.scores


def report(config: ReportConfig, *, folder: str | Path | None = None, progress: Progress = silent) -> Reported:
    """Score the model on `split` and write the page. For the scans of `drift`, call `workflows.drift` instead.

    Args:
        folder: for the page, where neither `output` nor `run` gives one; None: outputs/DATE/TIME.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: unless exactly one model is named, or if a number is out of range.
        CheckpointError, DataError: if it, the other one or the data cannot be used.
        OutputError: if the file cannot be written.

    Example:
        >>> report(ReportConfig(run="RUN_FOLDER", against="OTHER_RUN")).page
        PosixPath('RUN_FOLDER/report_against_OTHER_RUN.html')
    """
    began = time.perf_counter()
    checkpoint = _model(config)
    _check_numbers(config)
    compute = choose_compute(config.accelerator)
    page = _page(config, folder)
    predictor = _predictor(checkpoint, config, compute.device)
    other = _predictor(config.against, config, compute.device) if config.against else None
    histories = [_history(checkpoint), _history(config.against)]
    section = readable_data_of_run(config.data, checkpoint, config.models)
    data = build_data(section, predictor.trained.features, config.seed)
    if other:
        _check_same_classes(other, data)
    source = data.source(config.split, progress(f"{config.split} scans"))
    scored_on = redact_text(data_name(section, config.split))
    log.info("Reporting on %s, %s of %s, on %s", checkpoint, counted(len(source), "scan"), scored_on, compute.reason)
    params = {"checkpoint": checkpoint, "against": str(config.against), "bootstrap": config.bootstrap, "data": section}
    with start_tracking(config.tracking, "report", config.split, params) as tracker:
        assessment = assess(
            predictor,
            source,
            label_map=data.label_map,
            show=config.scans_shown,
            worst=config.worst,
            progress=progress("scoring"),
        )
        about = _about(config, checkpoint, scored_on, predictor)
        subject = Subject(redact_text(checkpoint), assessment, histories[0], about)
        against = None
        if other:
            update = progress("scoring the other")
            compared = assess(other, source, label_map=data.label_map, show=0, worst=0, progress=update)
            against = Subject(redact_text(str(config.against)), compared, histories[1])
        write_report(page, subject, against=against, data=scored_on, draws=config.bootstrap, seed=config.seed)
        _track(tracker, assessment, page)
    log.info(
        "mIoU %.2f %% (official rule), accuracy %.2f %%; the page took %s and %.1f MB:\n  %s",
        100 * assessment.scores.miou,
        100 * assessment.scores.accuracy,
        duration(time.perf_counter() - began),
        page.stat().st_size / 1e6,
        page,
    )
    return Reported(page, assessment, against.assessment if against else None)


# ---- checks ----------------------------------------------------------------------------------------------------------


def _model(config: ReportConfig) -> str:
    """The one model that `run` or `checkpoint` names."""
    if bool(config.run) == bool(config.checkpoint):
        raise ConfigError(
            "both run and checkpoint are given" if config.run else "no model is given",
            where="run, checkpoint",
            remedy="Name one: run=RUN_FOLDER, or checkpoint=...",
        )
    if config.run:
        RunFolder.existing(config.run, "run")
    return str(config.run or config.checkpoint)


def _check_numbers(config: ReportConfig) -> None:
    check_choices(config)
    for key in ("scans_shown", "worst"):
        if not 0 <= getattr(config, key) <= MOST_SCANS:
            raise ConfigError(f"{getattr(config, key)} is not between 0 and {MOST_SCANS}", where=key)
    check_resampling(config.bootstrap, config.seed)


def page_name(against: str | None) -> str:
    """The name of the page, where `output` does not give it.

    Example:
        >>> page_name("runs/second one")
        'report_against_second_one.html'
    """
    if not against:
        return "report.html"
    other = expanded(against).resolve().name
    return f"report_against_{re.sub(r'[^A-Za-z0-9._-]+', '_', other)}.html"


def _page(config: ReportConfig, folder: str | Path | None) -> Path:
    name = page_name(config.against)
    if config.run and not config.output:
        return page_file(None, RunFolder(config.run).path, name, key="run")
    return page_file(config.output, Path("." if config.output else folder or new_run_folder()), name)


def _predictor(checkpoint: str, config: ReportConfig, device: Any) -> Predictor:
    return Predictor.load(fetched_checkpoint(checkpoint, config.tracking, Path.cwd()), device, models=config.models)


def _history(checkpoint: str | None) -> list[dict[str, float]]:
    """The learning curve of the run that a checkpoint belongs to."""
    run = run_config_of(checkpoint)
    return read_history(RunFolder(run.parent).history) if run else []


def _check_same_classes(other: Predictor, data: ScanDataModule) -> None:
    if other.label_map.hash != data.label_map.hash:
        raise CheckpointError(
            f"the other model has the classes of label map {other.label_map.name!r} and the data those of "
            f"{data.label_map.name!r}",
            where="against",
            remedy="Compare models of the same classes.",
        )


# ---- facts and tracking ----------------------------------------------------------------------------------------------


def _about(config: ReportConfig, checkpoint: str, scored_on: str, predictor: Predictor) -> dict[str, str]:
    """Facts for the end of the page."""
    trained = predictor.trained
    provenance = trained.provenance
    known = {
        "model": checkpoint,
        "architecture": trained.model.title,
        "parameters": f"{sum(p.numel() for p in trained.model.parameters()):,}",
        "features": ", ".join(trained.features.use),
        "label map": trained.label_map.name,
        "prediction": ", ".join(f"{name} {value}" for name, value in trained.inference.items()),
        "scored on": scored_on,
        "compared with": config.against or "",
        "written by": f"pointseg {VERSION}",
    }
    training = provenance.get("data")
    if isinstance(training, dict):
        known["trained on"] = (
            f"{training.get('scans')} scans, {training.get('points')} points ({training.get('class')})"
        )
    for name, key in (("trained by pointseg", "pointseg"), ("commit", "commit"), ("seed", "seed")):
        if provenance.get(key) is not None:
            known[name] = str(provenance[key])
    return {name: redact_text(value) for name, value in known.items() if value}


def _track(tracker: tracking.Tracker, assessment: Assessment, page: Path) -> None:
    scores, names = assessment.scores, assessment.label_map.class_names
    tracker.log_metrics({f"report/{key}": getattr(scores, key) for key in ("miou", "miou_present", "accuracy")})
    tracker.log_metrics({"report/calibration_error": assessment.reliability.error})
    tracker.log_metrics({f"report/iou/{name}": float(v) for name, v in zip(names, scores.iou, strict=True)})
    tracker.log_artifact(page)
