"""The configuration of the run that a checkpoint lies in. Light: the command line imports it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pointseg.core.addresses import is_registered_model, is_shipped_model
from pointseg.core.files import expanded, is_file
from pointseg.core.saved_configuration import read_saved, refuse_foreign_classes

__all__ = ["read_run_config", "run_config_of"]


def run_config_of(checkpoint: str | None) -> Path | None:
    """The config.yaml of the run folder that a checkpoint lies in or is, if there is one."""
    if not checkpoint or is_registered_model(checkpoint) or is_shipped_model(checkpoint):
        return None
    path = expanded(checkpoint).absolute()  # from within a run folder, "best.ckpt" has no parents of its own
    for folder in (path, path.parent, path.parent.parent):
        config = folder / "config.yaml"
        if is_file(config) and is_file(folder / "run.json"):
            return config
    return None


def read_run_config(path: Path, allowed: Collection[str] = (), part: str | None = None) -> dict[str, Any]:
    """A run's config.yaml.

    Args:
        allowed: classes of your own that it may name.
        part: the only section that is used; None: all are.

    Raises:
        CheckpointError: if it cannot be read, or could run code (see `refuse_foreign_classes`).
    """
    content = read_saved(path)
    refuse_foreign_classes({part: content.get(part)} if part else content, path, allowed)
    return content
