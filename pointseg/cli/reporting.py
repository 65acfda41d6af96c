"""The `report` verb: one model, or two side by side, on a split, to one HTML file."""

from __future__ import annotations

import logging
import re
import time
from pathlib import Path

from omegaconf import DictConfig

import pointseg
from pointseg import tracking
from pointseg.assessment import assess
from pointseg.cli import checks, saved
from pointseg.cli.building import build_data
from pointseg.cli.drifting import drift_job
from pointseg.cli.entry import Job
from pointseg.cli.evaluating import data_name, fetch_checkpoint, with_data_of_run
from pointseg.cli.values import plain, progress_bar
from pointseg.data.datamodule import ScanDataModule
from pointseg.data.sources import ScanSource
from pointseg.errors import CheckpointError, ConfigError
from pointseg.files import check_writable
from pointseg.predictor import Predictor
from pointseg.redact import redact_text
from pointseg.report.score_page import Subject, write_report
from pointseg.training.devices import choose_compute
from pointseg.training.history import read_history
from pointseg.training.run_folder import RunFolder
from pointseg.words import counted, duration

__all__ = ["page_name", "report_job"]

log = logging.getLogger(__name__)

MOST_SCANS = 8  # in the viewer, and as pictures: keeps the page under 15 MB
FEWEST_DRAWS = 100  # below, the ends of a 95 % interval are a matter of two or three draws


def report_job(job: Job) -> None:
    """Score the model on `split` and write the page; with `drift=`, compare scans with a training set instead.

    Raises:
        ConfigError: if not one model is named, or a number is out of range.
        CheckpointError, DataError: if it, the other one or the data cannot be used.
        OutputError: if the file cannot be written.
    """
    if job.config.drift:
        drift_job(job)
        return
    began = time.perf_counter()
    config = _one_model(job.config)
    _check_numbers(config)
    compute = choose_compute(config.accelerator)
    output = _output(config, job)
    predictor = Predictor.load(fetch_checkpoint(config, job), compute.device)
    other = Predictor.load(fetch_checkpoint(config, job, "against"), compute.device) if config.against else None
    histories = [_history(str(config[key])) for key in ("checkpoint", "against")]
    config = with_data_of_run(config)
    checks.check_targets(config)
    data = build_data(config, predictor.trained.features)
    if other and other.label_map.hash != data.label_map.hash:
        raise CheckpointError(
            f"the other model has the classes of label map {other.label_map.name!r} and the data those of "
            f"{data.label_map.name!r}",
            where="against",
            remedy="Compare models of the same classes.",
        )
    source = data.source(config.split, progress_bar(f"{config.split} scans"))
    scored_on = redact_text(data_name(config))
    log.info(
        "Reporting on %s, %s of %s, on %s", config.checkpoint, counted(len(source), "scan"), scored_on, compute.reason
    )
    with _tracker(config, job) as tracker:
        subject = _subject(config, "checkpoint", predictor, source, data, histories[0])
        against = _subject(config, "against", other, source, data, histories[1]) if other else None
        write_report(output, subject, against=against, data=scored_on, draws=config.bootstrap, seed=config.seed)
        scores = subject.assessment.scores
        tracker.log_metrics({f"report/{key}": getattr(scores, key) for key in ("miou", "miou_present", "accuracy")})
        tracker.log_metrics({"report/calibration_error": subject.assessment.reliability.error})
        names = subject.assessment.label_map.class_names
        tracker.log_metrics({f"report/iou/{name}": float(v) for name, v in zip(names, scores.iou, strict=True)})
        tracker.log_artifact(output)
    log.info(
        "mIoU %.2f %% (official rule), accuracy %.2f %%; the page took %s and %.1f MB:\n  %s",
        100 * scores.miou,
        100 * scores.accuracy,
        duration(time.perf_counter() - began),
        output.stat().st_size / 1e6,
        output,
    )


# ---- what is asked for -----------------------------------------------------------------------------------------------


def _one_model(config: DictConfig) -> DictConfig:
    """The configuration with the model under `checkpoint`."""
    if bool(config.run) == bool(config.checkpoint):
        raise ConfigError(
            "both run and checkpoint are given" if config.run else "no model is given",
            where="run, checkpoint",
            remedy="Name one: run=RUN_FOLDER, or checkpoint=...",
        )
    if config.run:
        RunFolder.existing(str(config.run), "run")
        config = config.copy()
        config.checkpoint = config.run
    return config


def _check_numbers(config: DictConfig) -> None:
    for key in ("scans_shown", "worst"):
        if not 0 <= config[key] <= MOST_SCANS:
            raise ConfigError(f"{config[key]} is not between 0 and {MOST_SCANS}", where=key)
    if config.bootstrap < FEWEST_DRAWS:
        raise ConfigError(f"{config.bootstrap} resamples are too few", where="bootstrap", remedy="Give 100 or more.")
    if config.seed is None or not 0 <= config.seed < 2**32:
        raise ConfigError(f"{config.seed} is not between 0 and 2^32 - 1", where="seed")


def page_name(config: DictConfig) -> str:
    """What the page is called where `output` does not say it."""
    if not config.against:
        return "report.html"
    other = Path(str(config.against)).expanduser().resolve().name
    return f"report_against_{re.sub(r'[^A-Za-z0-9._-]+', '_', other)}.html"


def _output(config: DictConfig, job: Job) -> Path:
    name = page_name(config)
    if config.output:
        output = Path(str(config.output)).expanduser()
        if output.is_dir():
            raise ConfigError(
                "a folder, and one file is written", where=f"output={output}", remedy=f"Name it: output={output / name}"
            )
        check_writable(output.parent, "output")
        return output
    folder = RunFolder(str(config.run)).path if config.run else job.folder
    check_writable(folder, "run" if config.run else "hydra.run.dir")
    return folder / name


def _history(checkpoint: str) -> list[dict[str, float]]:
    config = saved.run_config_of(checkpoint)
    return read_history(RunFolder(config.parent).history) if config else []


# ---- the work --------------------------------------------------------------------------------------------------------


def _subject(
    config: DictConfig,
    key: str,
    predictor: Predictor,
    source: ScanSource,
    data: ScanDataModule,
    history: list[dict[str, float]],
) -> Subject:
    reported = key == "checkpoint"
    assessment = assess(
        predictor,
        source,
        label_map=data.label_map,
        show=config.scans_shown if reported else 0,
        worst=config.worst if reported else 0,
        progress=progress_bar("scoring" if reported else "scoring the other"),
    )
    return Subject(redact_text(str(config[key])), assessment, history, _about(config, predictor))


def _about(config: DictConfig, predictor: Predictor) -> dict[str, str]:
    trained = predictor.trained
    provenance = trained.provenance
    known = {
        "model": str(config.checkpoint),
        "architecture": type(trained.model).__name__,
        "parameters": f"{sum(p.numel() for p in trained.model.parameters()):,}",
        "features": ", ".join(trained.features.use),
        "label map": trained.label_map.name,
        "prediction": ", ".join(f"{name} {value}" for name, value in trained.inference.items()),
        "scored on": data_name(config),
        "compared with": str(config.against) if config.against else "",
        "written by": f"pointseg {pointseg.__version__}",
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


def _tracker(config: DictConfig, job: Job) -> tracking.Tracker:
    settings = config.tracking
    return tracking.start(
        settings.uri,
        settings.experiment,
        settings.run_name or f"report-{config.split}",
        start_dir=job.start_dir,
        params={
            "checkpoint": str(config.checkpoint),
            "against": str(config.against),
            "split": config.split,
            "bootstrap": config.bootstrap,
            "data": plain(config.data),
        },
        tags={**plain(settings.tags), "verb": "report"},
        system_metrics=settings.system_metrics,
    )
