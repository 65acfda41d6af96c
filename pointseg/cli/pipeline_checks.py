"""What a step's own command would refuse, refused before the first step begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from pointseg.cli import checks
from pointseg.cli.deploying import check_deployment
from pointseg.cli.drifting import check_drift
from pointseg.cli.evaluating import views_of
from pointseg.cli.preparing import check_preparation
from pointseg.cli.promoting import CHAMPION, check_new_alias, rule_of
from pointseg.cli.registering import check_settings
from pointseg.cli.training import check_training
from pointseg.errors import ConfigError
from pointseg.labels import LabelMap
from pointseg.tracking.registry import Registry, check_alias
from pointseg.training.devices import choose_compute

__all__ = ["check_step"]

SPLITS = ("train", "val", "test")


def check_step(step: str, config: DictConfig, overrides: Sequence[str], *, remote: bool) -> None:
    """Check a composed configuration by what its values mean.

    Args:
        overrides: the words that it was composed of.
        remote: whether it runs elsewhere, where there may be other processors.

    Raises:
        ConfigError, DeviceError, LabelMapError: naming what is wrong.
    """
    if step == "prepare":
        check_preparation(config, overrides)
    elif step == "train":
        check_training(config)
        if not remote:
            choose_compute(config.trainer.accelerator, config.trainer.precision)
    elif step == "evaluate":
        views_of(config)
        checks.check_targets(config)
        _check_split(config, remote)
    elif step == "register":
        check_settings(config)
        checks.check_targets(config)
        _check_tracking(config, remote)
        if config.promote:
            check_alias(config.promote)
            rule_of(config)
            _check_split(config, remote)
            if not remote and config.promote != CHAMPION and not config.force:
                check_new_alias(config, Registry(config.tracking.uri, Path.cwd(), config.tracking.experiment))
    elif step == "deploy":
        check_deployment(config)
        if remote and config.target in ("local", "aci"):
            raise ConfigError(
                "a job in Azure cannot: it has neither this machine, nor a key for callers, nor az",
                where=f"target={config.target}",
                remedy="Use target=managed or batch, or compute=local.",
            )
    elif step == "drift":
        check_drift(config)
    if "data" in config:
        LabelMap.load(config.data.labels)


def _check_split(config: DictConfig, remote: bool) -> None:
    if config.split not in SPLITS:
        raise ConfigError(f"there is no split {config.split!r}", where="split", remedy=f"Use {', '.join(SPLITS)}.")
    if not remote:
        choose_compute(config.accelerator)


def _check_tracking(config: DictConfig, remote: bool) -> None:
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
