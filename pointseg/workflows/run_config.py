"""The configuration of the run that a checkpoint lies in. Light: the command line imports it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pointseg.core.addresses import is_registered_model
from pointseg.core.errors import CheckpointError
from pointseg.core.files import expanded, is_file

__all__ = ["read_run_config", "run_config_of"]


def run_config_of(checkpoint: str | None) -> Path | None:
    """The config.yaml of the run folder that a checkpoint lies in or is, if there is one."""
    if not checkpoint or is_registered_model(checkpoint):
        return None
    path = expanded(checkpoint).absolute()  # from within a run folder, "best.ckpt" has no parents of its own
    for folder in (path, path.parent, path.parent.parent):
        config = folder / "config.yaml"
        if is_file(config) and is_file(folder / "run.json"):
            return config
    return None


def read_run_config(path: Path) -> dict[str, Any]:
    """A run's config.yaml.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"cannot be read ({type(error).__name__})", where=path) from error
    if not isinstance(content, dict):
        raise CheckpointError("not a configuration", where=path)
    return content
