"""`scripts/register_model.py`: a trained model as a new version in the registry, with all that is known of it."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

import pointseg
from pointseg import bundle
from pointseg.cli import saved
from pointseg.cli.entry import Job
from pointseg.cli.promoting import check_promotion, promote
from pointseg.cli.values import plain, refused_values
from pointseg.errors import BelowGate, CheckpointError, ConfigError
from pointseg.files import check_writable, write_json
from pointseg.redact import redact_text
from pointseg.tracking.packaging import bundle_sha256, check_format, package
from pointseg.tracking.registry import Registry, Version, check_name
from pointseg.training.run_folder import RunFolder
from pointseg.words import counted

__all__ = ["RECORD", "check_settings", "describe", "register_best", "register_job"]

log = logging.getLogger(__name__)

CANDIDATE = "candidate"
RECORD = "registration.json"


def register_job(job: Job) -> None:
    """Register `run` as a version of `name`; with `promote=`, see whether it may take the champion's place.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        CheckpointError: if there is no model that can be read.
        TrackingError: if the registry cannot be used or refuses something.
        BelowGate: if its scores are below `gate`; it is not registered.
        NotPromoted: if the version is worse than the champion, or cannot be compared with it.
    """
    config = job.config
    check_settings(config)
    check_writable(job.folder, "hydra.run.dir")
    trained, run = _trained(str(config.run)) if config.run else (None, None)
    if trained is not None:
        _pass_gate(config, trained, run)
    registry = Registry(config.tracking.uri, job.start_dir, config.tracking.experiment)
    present = None if trained is not None else _present(config, registry)
    if config.promote:
        check_promotion(config, registry, present)
    result: dict[str, Any] = {"registry": redact_text(registry.uri), "name": config.name}
    if trained is not None:
        tags = plain(config.tracking.tags)
        version = _register(registry, config.name, trained, run, config.format, tags, config.description)
        result |= {"version": version.number, "format": config.format, "run_id": version.run_id}
        write_json(job.folder / RECORD, result)
    else:
        version = registry.version(config.name, str(present))
    if config.promote:
        promote(config, job, registry, version)


def register_best(config: DictConfig, start_dir: Path, run: Path, name: str, sweep: Mapping[str, Any]) -> str:
    """Register the best run of a sweep, as the script would; gives the number of the version.

    Args:
        config: of the sweep's runs; its tracking section names the registry.
        run: the run's folder.
        sweep: what is known of the sweep, as tags.

    Raises:
        CheckpointError: if there is no model that can be read.
        TrackingError: if the registry cannot be used or refuses something.
    """
    trained, folder = _trained(str(run))
    registry = Registry(config.tracking.uri, start_dir, config.tracking.experiment)
    about = f"The best of {sweep['sweep.trials']} trials of a sweep."
    tags = {**plain(config.tracking.tags), **sweep}
    return str(_register(registry, name, trained, folder, "mlflow_model", tags, about).number)


def check_settings(config: DictConfig) -> None:
    """Refuse what can be refused without a registry and a model.

    Raises:
        ConfigError: if a key is missing or contradicts another.
    """
    check_name(config.name)
    check_format(config.format)
    if not config.run and not config.promote:
        raise ConfigError("no model is given", where="run", remedy="Name it: run=RUN_FOLDER.")
    if config.version is not None and config.run:
        raise ConfigError(
            "both run and version are given", where="version", remedy="A run makes a new version; leave one out."
        )
    if config.version is not None and (not isinstance(config.version, int) or config.version < 1):
        raise ConfigError(f"{config.version!r} is no number of a version", where="version", remedy="They count from 1.")
    if str(config.run).startswith("models:/"):
        raise ConfigError(
            "the model is registered already", where=f"run={config.run}", remedy="Name a run folder, bundle or .ckpt."
        )
    for key, limit in _limits(config).items():
        if not 0 <= limit <= 1:
            raise ConfigError(f"{limit:g} is no share", where=f"gate.{key}", remedy="Give 0 to 1, such as 0.25.")


def _limits(config: DictConfig) -> dict[str, float]:
    with refused_values("gate"):
        return {key: float(limit) for key, limit in plain(config.gate).items() if limit is not None}


def _pass_gate(config: DictConfig, trained: bundle.TrainedModel, run: RunFolder | None) -> None:
    """Raises BelowGate for a model with a score under its limit."""
    limits = _limits(config)
    if not limits:
        return
    if config.scores:
        path = Path(str(config.scores)).expanduser()
        scores = _read_scores(path / "metrics.json" if path.is_dir() else path)
    else:
        scores = _scores(trained, run)
    missing = [key for key in limits if not isinstance(scores.get(key), float | int)]
    if missing:
        raise CheckpointError(
            f"nothing is known of its {missing[0]}, which the gate is about",
            where=config.scores or config.run,
            remedy="Name the metrics.json of an evaluation: scores=FILE.",
        )
    low = {key: limit for key, limit in limits.items() if scores[key] < limit}
    if low:
        said = ", ".join(f"{key} {scores[key]:.4f} is below {limit:g}" for key, limit in low.items())
        raise BelowGate(f"the model does not pass the gate, and is not registered: {said}", where=f"run={config.run}")
    log.info("The gate is passed: %s", ", ".join(f"{key} {scores[key]:.4f}" for key in limits))


def _present(config: DictConfig, registry: Registry) -> str:
    """The version that shall be promoted where none is registered now."""
    if config.version is not None:
        return str(config.version)
    number = registry.holder(config.name, CANDIDATE)
    if number is None:
        raise ConfigError(
            "there is nothing to promote",
            where=f"{config.name}@{CANDIDATE}",
            remedy="Register a model with run=RUN_FOLDER, or name one with version=N.",
        )
    return number


def _trained(given: str) -> tuple[bundle.TrainedModel, RunFolder | None]:
    """The model that `run` names, and its run folder where it lies in one. Of a run folder it is the bundle, which
    metrics.json is about."""
    found = saved.run_config_of(given)
    run = RunFolder(found.parent) if found else None
    path = Path(given).expanduser()
    if run is not None and run.path == path.resolve() and run.bundle.is_dir():
        return bundle.load(run.bundle), run
    trained = bundle.load(path)
    if run is not None and not run.bundle.is_dir():
        log.warning("The run in %s has not ended: there are no scores of its model yet.", run.path)
    return trained, run


def _register(
    registry: Registry,
    name: str,
    trained: bundle.TrainedModel,
    run: RunFolder | None,
    kind: str,
    tags: Mapping[str, Any],
    description: str | None,
) -> Version:
    tracked = run.describe().get("tracking", {}) if run else {}
    source_run = registry.find_run(tracked.get("run_id"))
    if tracked.get("run_id") and source_run is None:
        log.info("The run that was tracked is not in %s: a new one holds the model.", redact_text(registry.uri))
    with tempfile.TemporaryDirectory(prefix="pointseg-register-") as scratch:
        folder = package(trained, Path(scratch) / "model", kind)
        kept = bundle.save_bundle(Path(scratch) / "hashed", trained)
        about = describe(trained, run, bundle_sha256(kept))
        about["pointseg.format"] = kind
        if tracked.get("run_id") and source_run is None:
            about["source.run_id"] = tracked["run_id"]
        version = registry.register(
            name,
            folder,
            tags={**tags, **about},
            description=_page(about, description),
            run_id=source_run,
            alias=CANDIDATE,
        )
    log.info("Registered %s version %s (%s) in %s", version.name, version.number, kind, redact_text(registry.uri))
    log.info("  %-10s %s", "alias", f"models:/{version.name}@{CANDIDATE}")
    log.info("  %-10s %s", "run", version.run_id)
    return version


def describe(trained: bundle.TrainedModel, run: RunFolder | None, sha256: str) -> dict[str, Any]:
    """What is known of a model, as tags: where it comes from, what it learned, how good it is."""
    provenance = trained.provenance
    data = provenance.get("data")
    known: dict[str, Any] = {
        "architecture": type(trained.model).__name__,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "features": ", ".join(trained.features.use),
        "label_map.name": trained.label_map.name,
        "label_map.hash": trained.label_map.hash,
        "classes": trained.label_map.num_classes,
        "bundle.sha256": sha256,
        "git_commit": provenance.get("commit"),
        "pointseg_version": provenance.get("pointseg"),
        "registered_by": f"pointseg {pointseg.__version__}",
        "seed": provenance.get("seed"),
    }
    if isinstance(data, dict):
        known |= {f"data.{key}": data.get(key) for key in ("asset", "class", "scans", "points", "label_map", "sha256")}
    if run is not None:
        known["git_changed"] = run.describe().get("code", {}).get("changed")
    scores = _scores(trained, run)
    known |= {f"metrics.{key}": scores[key] for key in scores if key not in ("iou", "support")}
    if "iou" in scores:
        seen = {name for name, points in scores["support"].items() if points}
        by_class = {name: round(value, 4) for name, value in scores["iou"].items() if name in seen}
        known["metrics.iou"] = json.dumps(by_class)  # one tag: some servers allow few
    return {key: value for key, value in known.items() if value is not None}


def _scores(trained: bundle.TrainedModel, run: RunFolder | None) -> dict[str, Any]:
    """metrics.json of the run, else what the bundle says of its validation."""
    if run is not None and run.metrics.is_file():
        return _read_scores(run.metrics)
    validation = trained.provenance.get("validation")
    return dict(validation) if isinstance(validation, dict) else {}


def _read_scores(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("miou", "miou_present", "accuracy", "points", "scans", "iou", "support")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"the scores of the run cannot be read ({type(error).__name__})",
            where=path,
            remedy="Register its bundle/ instead, or write the scores again with pointseg.evaluate output=RUN_FOLDER.",
        ) from error


def _page(about: dict[str, Any], description: str | None) -> str:
    """A description in Markdown: a sentence of the user's, and a short table."""
    rows = {"architecture": f"{about['architecture']}, {counted(about['parameters'], 'parameter')}"}
    if "metrics.miou" in about:
        rows["validation mIoU"] = f"{100 * about['metrics.miou']:.2f} % over all {about['classes']} classes"
    if "metrics.scans" in about:
        accuracy, scans = about["metrics.accuracy"], counted(about["metrics.scans"], "scan")
        rows["validation mIoU"] += f", {100 * about['metrics.miou_present']:.2f} % over those present; {scans}"
        rows["accuracy"] = f"{100 * accuracy:.2f} %"
    if "data.class" in about:
        points = f"{counted(about['data.scans'], 'scan')}, {counted(about['data.points'], 'point')}"
        rows["trained on"] = f"{about['data.class']}: {points}, sha256 {about.get('data.sha256', 'unknown')[:12]}"
        rows["trained on"] += f", {about['data.asset']}" if "data.asset" in about else ""
    rows["label map"] = f"{about['label_map.name']} ({about['label_map.hash']})"
    commit = str(about.get("git_commit") or "unknown")[:12] + (" with changes" if about.get("git_changed") else "")
    rows["code"] = f"pointseg {about.get('pointseg_version', 'unknown')}, commit {commit}"
    rows["format"] = str(about["pointseg.format"])
    lines = [description, ""] if description else []
    return "\n".join([*lines, "| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())])
