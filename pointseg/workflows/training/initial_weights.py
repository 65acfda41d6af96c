"""The weights that a training begins with: those of a model of this package, or a file that others have published."""

from __future__ import annotations

import logging
from pathlib import Path

from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine import bundle
from pointseg.models import SegmentationModel, describe_model
from pointseg.models.carrying_over import carry_over
from pointseg.models.published import load_published
from pointseg.workflows.model_location import fetched_checkpoint
from pointseg.workflows.settings.train import TrainConfig

__all__ = ["load_initial_weights"]

log = logging.getLogger(__name__)


def load_initial_weights(
    model: SegmentationModel, features: FeatureSpec, label_map: LabelMap, config: TrainConfig
) -> None:
    """Put the weights that `init` names into a model; nothing without `init`.

    The classes may be others: those of the same name keep what is known of them, the rest begin afresh.

    Args:
        features, label_map: of the training.

    Raises:
        ConfigError: for `format` without `init`.
        CheckpointError: if the weights cannot be read, or are those of a model of another form or with other features.
    """
    if config.init is None:
        if config.format is not None:
            raise ConfigError(f"format={config.format} is that of no file", where="format", remedy="Give init=FILE.")
        return
    if config.format is not None:
        load_published(model, Path(config.init).expanduser(), config.format)
        return
    given = bundle.load(fetched_checkpoint(config.init, config.tracking, Path.cwd()), [type(model.network_called)])
    _refuse_other_form(model, features, given, config.init)
    names, known = label_map.class_names, {name: number for number, name in enumerate(given.label_map.class_names)}
    carry_over(given.model, model, [known.get(name) for name in names])
    new = [name for name in names if name not in known]
    log.info("Weights: begin with those of %s%s", config.init, f"; new classes: {', '.join(new)}" if new else "")


def _refuse_other_form(model: SegmentationModel, features: FeatureSpec, given: bundle.TrainedModel, init: str) -> None:
    pairs = (describe_model(model), describe_model(given.model)), (features.to_dict(), given.features.to_dict())
    differing = [
        f"{name} is {other.get(name)} there"
        for own, other in pairs
        for name in {**own, **other}
        if name != "num_classes" and own.get(name) != other.get(name)
    ]
    if model.title != given.model.title:
        differing = [f"{given.model.title} there, {model.title} here"]
    if differing:
        raise CheckpointError(
            f"a model of another form: {'; '.join(differing)}",
            where=f"init={init}",
            remedy="Give the same model= and features.",
        )
