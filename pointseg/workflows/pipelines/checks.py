"""What a step's own command would refuse, refused before the first step begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pointseg.core.errors import ConfigError
from pointseg.core.labels import LabelMap
from pointseg.core.targets import check_keys
from pointseg.engine.training.devices import choose_compute
from pointseg.engine.views import Views
from pointseg.tracking.model_registry import Registry, check_alias
from pointseg.workflows.data.prepare import check_preparation
from pointseg.workflows.deployment.deploy import check_deploy
from pointseg.workflows.evaluation.drift import check_drift_settings
from pointseg.workflows.trained_models.promote import CHAMPION, check_new_alias, rule_of
from pointseg.workflows.trained_models.register import check_registration
from pointseg.workflows.training.train import check_train

__all__ = ["check_step"]

SPLITS = ("train", "val", "test")


def check_step(step: str, config: Any, *, remote: bool) -> None:
    """Check a step's settings by what their values mean.

    Args:
        config: the dataclass of the step's task.
        remote: whether it runs elsewhere, where there may be other processors.

    Raises:
        ConfigError, DeviceError, LabelMapError: naming what is wrong.
    """
    if step == "prepare":
        check_preparation(config)
    elif step == "train":
        check_train(config)
        if not remote:
            choose_compute(config.trainer.accelerator, config.trainer.precision)
    elif step == "evaluate":
        Views(**vars(config.views))
        check_keys(config.data, "data")
        _check_split(config, remote)
    elif step == "register":
        check_registration(config)
        check_keys(config.data, "data")
        _check_tracking(config, remote)
        if config.promote:
            check_alias(config.promote)
            rule_of(config)
            _check_split(config, remote)
            if not remote and config.promote != CHAMPION and not config.force:
                store = config.tracking
                check_new_alias(config, Registry(store.uri, Path.cwd(), store.experiment))
    elif step == "deploy":
        check_deploy(config)
        if remote and config.target in ("local", "aci"):
            raise ConfigError(
                "a job in Azure cannot: it has neither this machine, nor a key for callers, nor az",
                where=f"target={config.target}",
                remedy="Use target=managed or batch, or compute=local.",
            )
    elif step == "drift":
        check_drift_settings(config)
    if "labels" in getattr(config, "data", {}):
        LabelMap.load(config.data["labels"])


def _check_split(config: Any, remote: bool) -> None:
    if config.split not in SPLITS:
        raise ConfigError(f"there is no split {config.split!r}", where="split", remedy=f"Use {', '.join(SPLITS)}.")
    if not remote:
        choose_compute(config.accelerator)


def _check_tracking(config: Any, remote: bool) -> None:
    uri = str(config.tracking.uri)
    if uri in ("off", "None"):
        raise ConfigError(
            "models are registered in a store, but tracking is off", where="tracking", remedy="Leave tracking=off out."
        )
    if remote and uri != "auto" and "://" in uri and uri.split(":")[0] in ("sqlite", "file"):
        raise ConfigError(
            "a file of this machine is no registry for a job in Azure",
            where=f"tracking.uri={uri}",
            remedy="Leave it out: there the workspace's registry is taken.",
        )
