"""`scripts/deploy.py`: a trained model at work, by target."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from pointseg.cli.entry import Job
from pointseg.cli.registering import RECORD as REGISTRATION
from pointseg.errors import CheckpointError, ConfigError
from pointseg.files import write_json

__all__ = ["RECORD", "TARGETS", "check_deployment", "deploy_job"]

RECORD = "deployment.json"

# What can be deployed to, each in a module that is loaded on use. `check_NAME(config)` refuses what cannot be without a
# model, a machine or a workspace; `deploy_NAME(job)` does it and gives what there is now, for JSON; {} if nothing is.
TARGETS = {name: f"pointseg.cli.deploying_{name}" for name in ("local", "managed", "aci", "batch")}


def check_deployment(config: DictConfig) -> None:
    """Refuse what can be refused before anything is looked at.

    Raises:
        ConfigError: naming the key.
    """
    target = config.target
    there_is = f"There is: {', '.join(TARGETS)}."
    if not target:
        raise ConfigError("no target is named", where="target", remedy=f"Name it: target=local. {there_is}")
    if target not in TARGETS:
        raise ConfigError(f"there is no target {str(target)!r}", where=f"target={target}", remedy=there_is)
    _function("check", config)(config)


def deploy_job(job: Job) -> None:
    """Say what is to be done for `target`, and unless `plan` is set do it.

    What there is then is written into the run folder, as deployment.json.

    Raises:
        ConfigError: for whatever Azure would not take, before anything is sent.
        CheckpointError, TrackingError: if there is no model that can be read.
        AzureError: if Azure cannot be reached, or refuses: what was made before is said.
    """
    config = job.config
    check_deployment(config)
    config.checkpoint = _registered(config.checkpoint)
    about = _function("deploy", config)(job)
    if about and not config.plan:
        write_json(job.folder / RECORD, {"target": config.target, **about})


def _function(what: str, config: DictConfig) -> Any:
    return getattr(import_module(TARGETS[config.target]), f"{what}_{config.target}")


def _registered(checkpoint: str | None) -> str | None:
    """The model that a folder of register_model names, for others the checkpoint as it is."""
    record = Path(str(checkpoint)).expanduser() / REGISTRATION
    if not checkpoint or not record.is_file():
        return checkpoint
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return f"models:/{found['name']}/{found['version']}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(
            f"the record of a registration cannot be read ({type(error).__name__})",
            where=record,
            remedy="Name the model: checkpoint=models:/NAME/1.",
        ) from error
