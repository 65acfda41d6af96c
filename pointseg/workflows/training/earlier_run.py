"""A run that is resumed or repeated: its configuration, and what may be changed about it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pointseg.core.config_values import from_plain, to_plain
from pointseg.core.errors import ConfigError
from pointseg.core.redaction import MASK
from pointseg.core.saved_configuration import read_saved, targets_in
from pointseg.core.targets import is_target
from pointseg.engine.training.run_folder import RunFolder
from pointseg.workflows.default_sections import merged, with_defaults
from pointseg.workflows.run_config import read_run_config
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.training.renamed_keys import renamed

__all__ = ["RESUME_AUTO", "earlier_configuration", "refuse_restored_settings", "warn_of_other_assets"]

log = logging.getLogger(__name__)

RESUME_AUTO = "auto"  # resume=auto: the run in the folder, if one has begun there
RESTORED = ("optimizer", "scheduler")  # a checkpoint restores their settings,
NOT_RESTORED = ("warmup_steps", "final_lr_ratio", "interval")  # but not these of WarmupCosine


def earlier_configuration(config: TrainConfig, earlier: RunFolder) -> TrainConfig:
    """The configuration of an earlier run, changed by whatever differs from the defaults in `config`.

    Raises:
        CheckpointError: if its configuration cannot be read, or names a foreign class that `config` does not name.
        ConfigError: if it has a key that no longer exists.
    """
    given = to_plain(config)
    saved = renamed(read_run_config(earlier.config, targets_in(given)))
    before = {key: value for key, value in saved.items() if key in given}
    changed = merged(_without_masked(before, given), dict(_changes(to_plain(TrainConfig()), given)))
    return from_plain(TrainConfig, changed)


def _without_masked(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values that were masked when they were saved, such as passwords, are replaced by the present ones."""
    result: dict[str, Any] = {}
    for key, value in before.items():
        now = given.get(key)
        if isinstance(value, Mapping):
            result[key] = _without_masked(value, now if isinstance(now, Mapping) else {})
        else:
            result[key] = now if isinstance(value, str) and MASK in value else value
    return result


def _changes(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in given.items():
        before = defaults.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping) and not is_target(value):
            inner = dict(_changes(before, value))
            if inner:
                yield key, inner
        elif value != before:
            yield key, value


def refuse_restored_settings(earlier: RunFolder, now: TrainConfig) -> None:
    """Refuse a change to a setting that the checkpoint restores: it would have no effect.

    Raises:
        ConfigError: naming the setting, and its value in the checkpoint.
    """
    saved = renamed(read_saved(earlier.config))
    for name in RESTORED:
        before = with_defaults(saved.get(name) or {}, name)
        present = with_defaults(getattr(now, name), name)
        for key in present:
            then, given = before.get(key, present[key]), present[key]
            applied = name == "scheduler" and key in NOT_RESTORED and before.get("_target_") == present.get("_target_")
            if then == given or applied:
                continue
            text = f"{then:g}" if isinstance(then, int | float) else str(then)
            raise ConfigError(
                f"a resumed run keeps the value of its checkpoint, {text}",
                where=f"{name}.{key}={given}",
                remedy="Leave it out, or start a new run (rerun=RUN_FOLDER keeps everything else).",
            )


def warn_of_other_assets(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Warn if a resumed run reads other data assets than it began with: @latest may have moved on.

    Args:
        before: the assets that the run has recorded, by key.
        now: those that are read now.
    """
    for key, asset in now.items():
        if before.get(key, asset) != asset:
            log.warning("The run began with %s=%s and continues with %s.", key, before[key], asset)
