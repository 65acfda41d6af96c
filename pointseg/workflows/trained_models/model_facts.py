"""Facts about a trained model for a registry: tags, scores and a description in Markdown."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from pointseg.core.errors import CheckpointError
from pointseg.core.files import expanded
from pointseg.core.package import VERSION
from pointseg.core.text import counted
from pointseg.engine import bundle
from pointseg.engine.training.run_folder import RunFolder
from pointseg.models import ModelClasses
from pointseg.workflows.run_config import run_config_of

__all__ = ["description_of", "facts_of", "model_and_run", "read_scores", "scores_of"]

log = logging.getLogger(__name__)


def model_and_run(given: str, models: ModelClasses = ()) -> tuple[bundle.TrainedModel, RunFolder | None]:
    """The model that `run` names, and its run folder, if it is in one. In a run folder it is the bundle, which metrics.json
    describes.

    Args:
        models: model classes of the caller.

    Raises:
        CheckpointError: if no model can be loaded.
    """
    config = run_config_of(given)
    run = RunFolder(config.parent) if config else None
    path = expanded(given)
    if run is not None and run.path == path.resolve() and run.bundle.is_dir():
        return bundle.load(run.bundle, models), run
    trained = bundle.load(path, models)
    if run is not None and not run.bundle.is_dir():
        log.warning("The run in %s has not ended: its model has no scores yet.", run.path)
    return trained, run


def facts_of(trained: bundle.TrainedModel, run: RunFolder | None, sha256: str) -> dict[str, Any]:
    """Facts about a model, as tags: its origin, what it was trained on, its scores.

    Args:
        run: the run folder that it is in, if any.
        sha256: of its bundle.
    """
    provenance = trained.provenance
    data = provenance.get("data")
    known: dict[str, Any] = {
        "architecture": trained.model.title,
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "features": ", ".join(trained.features.use),
        "label_map.name": trained.label_map.name,
        "label_map.hash": trained.label_map.hash,
        "classes": trained.label_map.num_classes,
        "bundle.sha256": sha256,
        "git_commit": provenance.get("commit"),
        "pointseg_version": provenance.get("pointseg"),
        "registered_by": f"pointseg {VERSION}",
        "seed": provenance.get("seed"),
    }
    if isinstance(data, dict):
        known |= {f"data.{key}": data.get(key) for key in ("asset", "class", "scans", "points", "label_map", "sha256")}
    if run is not None:
        known["git_changed"] = run.describe().get("code", {}).get("changed")
    scores = scores_of(trained, run)
    known |= {f"metrics.{key}": scores[key] for key in scores if key not in ("iou", "support")}
    if "iou" in scores:
        present = {name for name, points in scores["support"].items() if points}
        by_class = {name: round(value, 4) for name, value in scores["iou"].items() if name in present}
        known["metrics.iou"] = json.dumps(by_class)  # one tag: some servers allow few
    return {key: value for key, value in known.items() if value is not None}


def scores_of(trained: bundle.TrainedModel, run: RunFolder | None) -> dict[str, Any]:
    """metrics.json of the run, else the validation scores of the bundle; {} where there are neither.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    if run is not None and run.metrics.is_file():
        return read_scores(run.metrics)
    validation = trained.provenance.get("validation")
    return dict(validation) if isinstance(validation, dict) else {}


def read_scores(path: Path) -> dict[str, Any]:
    """The content of a metrics.json.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("miou", "miou_present", "accuracy", "points", "scans", "iou", "support")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"the scores of the run cannot be read ({type(error).__name__})",
            where=path,
            remedy="Register its bundle/ instead, or write the scores again with pointseg.evaluate output=RUN_FOLDER.",
        ) from error


def description_of(facts: dict[str, Any], sentence: str | None) -> str:
    """A description in Markdown: the user's sentence, and a short table.

    Args:
        facts: of `facts_of`, and `pointseg.format`.
    """
    rows = {"architecture": f"{facts['architecture']}, {counted(facts['parameters'], 'parameter')}"}
    if "metrics.miou" in facts:
        rows["validation mIoU"] = f"{100 * facts['metrics.miou']:.2f} % over all {facts['classes']} classes"
    if "metrics.scans" in facts:
        accuracy, scans = facts["metrics.accuracy"], counted(facts["metrics.scans"], "scan")
        rows["validation mIoU"] += f", {100 * facts['metrics.miou_present']:.2f} % over those present; {scans}"
        rows["accuracy"] = f"{100 * accuracy:.2f} %"
    if "data.class" in facts:
        points = f"{counted(facts['data.scans'], 'scan')}, {counted(facts['data.points'], 'point')}"
        rows["trained on"] = f"{facts['data.class']}: {points}, sha256 {facts.get('data.sha256', 'unknown')[:12]}"
        rows["trained on"] += f", {facts['data.asset']}" if "data.asset" in facts else ""
    rows["label map"] = f"{facts['label_map.name']} ({facts['label_map.hash']})"
    commit = str(facts.get("git_commit") or "unknown")[:12] + (" with changes" if facts.get("git_changed") else "")
    rows["code"] = f"pointseg {facts.get('pointseg_version', 'unknown')}, commit {commit}"
    rows["format"] = str(facts["pointseg.format"])
    lines = [sentence, ""] if sentence else []
    return "\n".join([*lines, "| | |", "| --- | --- |", *(f"| {key} | {value} |" for key, value in rows.items())])
