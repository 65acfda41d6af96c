"""Register a trained model as a new version in the registry, with the facts about it."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pointseg.core.addresses import is_registered_model
from pointseg.core.config import check_choices
from pointseg.core.errors import BelowGate, CheckpointError, ConfigError
from pointseg.core.files import check_writable, expanded, write_json
from pointseg.core.progress import Progress, silent
from pointseg.core.redaction import redact_text
from pointseg.engine import bundle
from pointseg.engine.training.run_folder import RunFolder
from pointseg.tracking.model_registry import Registry, Version
from pointseg.tracking.packaging import bundle_sha256, check_format, package
from pointseg.workflows.settings.register_model import RegisterConfig
from pointseg.workflows.trained_models.model_facts import (
    description_of,
    facts_of,
    model_and_run,
    read_scores,
    scores_of,
)
from pointseg.workflows.trained_models.promote import (
    CANDIDATE,
    Promoted,
    check_promotion,
    check_version,
    promote,
    promote_version,
)

__all__ = ["RECORD", "Registered", "check_registration", "register"]

log = logging.getLogger(__name__)

RECORD = "registration.json"


@dataclass(frozen=True)
class Registered:
    """The result of a registration.

    Attributes:
        version: the new one; without `run`, the one that was promoted.
        promoted: the result of its promotion; None if none was asked for.
    """

    version: Version
    promoted: Promoted | None


def register(config: RegisterConfig, *, folder: str | Path | None = None, progress: Progress = silent) -> Registered:
    """Register `run` as a version of `name`; with `promote`, promote it if it is not worse than the champion.

    Args:
        folder: receives registration.json and promotion.json; None: the registry alone keeps what is known.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if a key is missing or contradicts another.
        CheckpointError: if no model can be loaded.
        TrackingError: if the registry cannot be used or refuses something.
        BelowGate: if its scores are below `gate`; it is not registered.
        NotPromoted: if the version is worse than the champion, or cannot be compared with it.

    Example:
        >>> register(RegisterConfig(run="RUN_FOLDER", name="street")).version.uri
        'models:/street/1'
    """
    check_registration(config)
    if not config.run:
        promoted = promote(config, folder=folder, progress=progress)
        return Registered(promoted.version, promoted)
    if folder is not None:
        check_writable(Path(folder), "hydra.run.dir")
    trained, run = model_and_run(config.run, config.models)
    _pass_gate(config, trained, run)
    registry = Registry(config.tracking.uri, Path.cwd(), config.tracking.experiment)
    if config.promote:
        check_promotion(config, registry)
    version = _register(config, registry, trained, run)
    if folder is not None:
        known = {"registry": redact_text(registry.uri), "name": config.name, "version": version.number}
        write_json(Path(folder) / RECORD, {**known, "format": config.format, "run_id": version.run_id})
    if not config.promote:
        return Registered(version, None)
    return Registered(version, promote_version(config, registry, version, folder=folder, progress=progress))


def check_registration(config: RegisterConfig) -> None:
    """Check what can be checked without a registry or a model.

    Raises:
        ConfigError: if a key is missing or contradicts another.
    """
    check_version(config)
    check_choices(config)
    check_format(config.format)
    if not config.run and not config.promote:
        raise ConfigError("no model is given", where="run", remedy="Name it: run=RUN_FOLDER.")
    if config.version is not None and config.run:
        remedy = "A run makes a new version; leave one out."
        raise ConfigError("both run and version are given", where="version", remedy=remedy)
    if is_registered_model(config.run):
        remedy = "Name a run folder, bundle or .ckpt."
        raise ConfigError("the model is already registered", where=f"run={config.run}", remedy=remedy)
    config.gate.limits()


def _pass_gate(config: RegisterConfig, trained: bundle.TrainedModel, run: RunFolder | None) -> None:
    """Raises BelowGate for a model with a score under its limit."""
    limits = config.gate.limits()
    if not limits:
        return
    if config.scores:
        path = expanded(config.scores)
        scores = read_scores(path / "metrics.json" if path.is_dir() else path)
    else:
        scores = scores_of(trained, run)
    missing = [key for key in limits if not isinstance(scores.get(key), float | int)]
    if missing:
        raise CheckpointError(
            f"its {missing[0]}, which the gate asks for, is not known",
            where=config.scores or config.run,
            remedy="Name the metrics.json of an evaluation: scores=FILE.",
        )
    low = {key: limit for key, limit in limits.items() if scores[key] < limit}
    if low:
        failed = ", ".join(f"{key} {scores[key]:.4f} is below {limit:g}" for key, limit in low.items())
        raise BelowGate(f"the model does not pass the gate, and is not registered: {failed}", where=f"run={config.run}")
    log.info("The model passes the gate: %s", ", ".join(f"{key} {scores[key]:.4f}" for key in limits))


def _register(
    config: RegisterConfig, registry: Registry, trained: bundle.TrainedModel, run: RunFolder | None
) -> Version:
    run_id = (run.describe().get("tracking", {}) if run else {}).get("run_id")
    source_run = registry.find_run(run_id)
    elsewhere = bool(run_id) and source_run is None
    if elsewhere:
        log.info("The tracked run is not in %s: a new one holds the model.", redact_text(registry.uri))
    with tempfile.TemporaryDirectory(prefix="pointseg-register-") as scratch:
        model = package(trained, Path(scratch) / "model", config.format, triton=_triton_repository)
        kept = bundle.save_bundle(Path(scratch) / "hashed", trained)
        facts = {**facts_of(trained, run, bundle_sha256(kept)), "pointseg.format": config.format}
        if elsewhere:
            facts["source.run_id"] = run_id
        version = registry.register(
            config.name,
            model,
            tags={**config.tracking.tags, **facts},
            description=description_of(facts, config.description),
            run_id=source_run,
            alias=CANDIDATE,
        )
    registered = "Registered %s version %s (%s) in %s"
    log.info(registered, version.name, version.number, config.format, redact_text(registry.uri))
    log.info("  %-10s %s", "alias", f"models:/{version.name}@{CANDIDATE}")
    log.info("  %-10s %s", "run", version.run_id)
    return version


def _triton_repository(trained: bundle.TrainedModel, folder: Path) -> Path:
    from pointseg.exporting.triton import triton_repository  # on use: only this format needs the extra `export`

    return triton_repository(trained, folder)
