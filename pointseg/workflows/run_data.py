"""The data that a model is scored on: those that are named, else those of its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.targets import build, check_keys, is_target
from pointseg.data.features import FeatureSpec
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine.training.run_folder import RunFolder
from pointseg.workflows.default_sections import default_section, merged
from pointseg.workflows.run_config import read_run_config, run_config_of

__all__ = ["build_data", "data_name", "data_of_run", "readable_data_of_run"]


def data_of_run(given: Mapping[str, Any], checkpoint: str | None, allowed: Sequence[str] = ()) -> dict[str, Any]:
    """The `data` section to score on.

    Args:
        given: a complete section with `_target_`, or keys that differ from those of the run.
        checkpoint: the model, whose run folder has the rest; without one, synthetic streets are used.
        allowed: classes of your own that the run's configuration may name.

    Raises:
        ConfigError: for a key that the data do not have.
        CheckpointError: if the run's configuration cannot be read, or names other classes.
    """
    if is_target(given):
        section = dict(given)
    else:
        config = run_config_of(checkpoint)
        if config is not None:
            before = read_run_config(config, allowed, part="data").get("data") or {}
        else:
            before = default_section("data")
            if "root" in given:
                remedy = "The synthetic data has no folder; for your own scans add data=semantickitti."
                raise ConfigError("unknown key data.root", where=f"data.root={given['root']}", remedy=remedy)
        section = merged(before, given)
    check_keys(section, "data")
    return section


def readable_data_of_run(
    given: Mapping[str, Any], checkpoint: str | None, allowed: Sequence[str] = ()
) -> dict[str, Any]:
    """`data_of_run`, if they can be read.

    Raises:
        DataError: if the run's data are not on this machine.
    """
    section = data_of_run(given, checkpoint, allowed)
    config, root = run_config_of(checkpoint), section.get("root")
    if config is None or not root or root == given.get("root") or Path(str(root)).expanduser().exists():
        return section
    asset = RunFolder(config.parent).describe().get("inputs", {}).get("data.root")
    raise DataError(
        f"the run was made in Azure ML, from {asset}" if asset else "the data of the run are not here",
        where=f"data.root={root}",
        remedy="Name a copy on this machine: data=semantickitti data.root=DIR.",
    )


def build_data(section: Mapping[str, Any], features: FeatureSpec, seed: int) -> ScanDataModule:
    """The DataModule of a section.

    Raises:
        ConfigError: naming the key that is wrong.
    """
    workers = section.get("num_workers") or 0
    if workers < 0:
        raise ConfigError(f"{workers} is negative", where="data.num_workers")
    data: ScanDataModule = build(section, "data", of=ScanDataModule, features=features, seed=seed)
    return data


def data_name(section: Mapping[str, Any], split: str) -> str:
    """The data that are scored, in words.

    Example:
        >>> data_name({"_target_": "pointseg.data.SemanticKITTIDataModule", "root": "kitti"}, "val")
        'SemanticKITTI val in kitti'
    """
    root = section.get("root")
    kind = str(section["_target_"]).rsplit(".", 1)[-1].removesuffix("DataModule")
    return f"{kind} {split}" + (f" in {root}" if root else "")
