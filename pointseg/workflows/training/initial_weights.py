"""The weights that a training begins with: those of a model of this package, or a file that others have published."""

from __future__ import annotations

from pathlib import Path

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.engine import bundle
from pointseg.models import SegmentationModel, describe_model
from pointseg.models.published import load_published
from pointseg.workflows.model_location import fetched_checkpoint
from pointseg.workflows.settings.train import TrainConfig

__all__ = ["load_initial_weights"]


def load_initial_weights(model: SegmentationModel, config: TrainConfig) -> None:
    """Put the weights that `init` names into a model; nothing without `init`.

    Raises:
        ConfigError: for `format` without `init`.
        CheckpointError: if the weights cannot be read, or are those of another model.
    """
    if config.init is None:
        if config.format is not None:
            raise ConfigError(f"format={config.format} is that of no file", where="format", remedy="Give init=FILE.")
        return
    if config.format is not None:
        load_published(model, Path(config.init).expanduser(), config.format)
        return
    given = bundle.load(
        fetched_checkpoint(config.init, config.tracking, Path.cwd()), [type(model.network_called)]
    ).model
    own, other = describe_model(model), describe_model(given)
    differing = [f"{name} is {other.get(name)} there" for name in {**own, **other} if own.get(name) != other.get(name)]
    if differing:
        raise CheckpointError(
            f"a model of another form: {'; '.join(differing)}",
            where=f"init={config.init}",
            remedy="Give the same model=, features and data.labels.",
        )
    model.load_state_dict(given.state_dict())
