"""Where the model is that a key names."""

from __future__ import annotations

from pathlib import Path

from pointseg import tracking
from pointseg.core.addresses import is_registered_model, is_shipped_model
from pointseg.core.errors import ConfigError
from pointseg.core.files import expanded, is_file
from pointseg.tracking.model_download import find_model
from pointseg.workflows.settings.shared import TrackingConfig

__all__ = ["fetched_checkpoint", "required"]


def required(value: str | None, key: str, remedy: str) -> str:
    """A value that must be given; raises ConfigError naming the key if it is not.

    Example:
        >>> required(config.checkpoint, "checkpoint", "Name it: checkpoint=RUN_FOLDER.")
    """
    if not value:
        raise ConfigError(f"no {key} is given", where=key, remedy=remedy)
    return value


def fetched_checkpoint(checkpoint: str, store: TrackingConfig, start_dir: Path) -> str | Path:
    """What `Predictor.load` takes: a registered model is downloaded; in a folder of one, the bundle is looked for.

    Args:
        store: its `uri` is the registry; where it is off, MLflow's: tracking may be off while a registry exists.
        start_dir: that relative paths start from.

    Raises:
        TrackingError: if the registry cannot be used, or has no such model.
    """
    if is_registered_model(checkpoint):
        registry = tracking.resolve_uri(store.uri, start_dir) or "auto"
        return tracking.download_model(checkpoint, registry, start_dir)
    if is_shipped_model(checkpoint):
        return checkpoint
    folder = expanded(checkpoint)
    return find_model(folder) if is_file(folder / "MLmodel") else checkpoint
