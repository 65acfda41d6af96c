"""What a configuration gives to `pl.Trainer`: options, callbacks and loggers, and why some options are refused."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.profilers import AdvancedProfiler, Profiler, PyTorchProfiler, SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy, Strategy

from pointseg.core.errors import ConfigError
from pointseg.core.ranks import Ranks
from pointseg.core.targets import TARGET, build, find, is_target, nearest
from pointseg.core.text import counted
from pointseg.engine.training.devices import Compute, device_index
from pointseg.engine.training.tracker import Tracker
from pointseg.engine.training.trainer_settings import TrainerSettings

__all__ = ["build_callbacks", "build_loggers", "further_options", "trainer_options"]

PROFILERS = {"simple": SimpleProfiler, "advanced": AdvancedProfiler, "pytorch": PyTorchProfiler}
# option -> why it must keep Lightning's default, and what to set instead
REFUSED = {
    "barebones": ("a run keeps checkpoints and scores", "To try the code without them, set trainer.fast_dev_run=true."),
    "callbacks": ("callbacks are a section of their own", "Use callbacks.NAME._target_=PACKAGE.CLASS."),
    "default_root_dir": ("a run has its folder", "Set hydra.run.dir=DIR."),
    "enable_checkpointing": (
        "a run is scored by its best checkpoint",
        "To try the code without any, set trainer.fast_dev_run=true.",
    ),
    "limit_predict_batches": ("a training predicts nothing", "Use python -m pointseg.predict."),
    "limit_test_batches": ("a training scores the validation split", "Use python -m pointseg.evaluate split=test."),
    "logger": ("loggers are a section of their own", "Use logger=csv, or logger.NAME._target_=PACKAGE.CLASS."),
    "model_registry": (
        "models are registered in MLflow's registry",
        "Use python scripts/register_model.py, or tracking.uri.",
    ),
    "sync_batchnorm": ("the model decides how its statistics span processes", "Set model.sync_batchnorm=true."),
    "use_distributed_sampler": ("the data share the scans among the processes", "Leave it out."),
}
HARMLESS = {"enable_checkpointing": True, "use_distributed_sampler": False, "logger": None, "callbacks": None}


def further_options() -> dict[str, Any]:
    """Options of `pl.Trainer` that `TrainerSettings` does not declare -> Lightning's defaults.

    Example:
        >>> further_options()["detect_anomaly"]
        False
    """
    parameters = inspect.signature(pl.Trainer.__init__).parameters.values()
    declared = set(TrainerSettings.__dataclass_fields__)
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in declared}


def trainer_options(options: Mapping[str, Any], compute: Compute, folder: Path) -> dict[str, Any]:
    """Options for `pl.Trainer`: objects are built from their sections, and profiles are written into the folder.

    Raises:
        ConfigError: for an unknown option, with the nearest name, or one that a run cannot honour, with the reason and what
            to set instead.

    Example:
        >>> trainer_options({"profiler": "simple"}, choose_compute(), Path("run"))
    """
    known = further_options()
    built: dict[str, Any] = {}
    for name, value in options.items():
        where = f"trainer.{name}"
        if name not in known:
            keys = [*known, *TrainerSettings.__dataclass_fields__]
            remedy = nearest(name, keys, "trainer") or "The options are those of pytorch_lightning.Trainer."
            raise ConfigError(f"unknown key {where}", where=where, remedy=remedy)
        if name in REFUSED:
            if value != known[name] and value != HARMLESS.get(name, known[name]):
                why, remedy = REFUSED[name]
                raise ConfigError(why, where=f"{where}={value}", remedy=remedy)
            continue
        built[name] = _built(value, where)
    _check_processes(built.pop("devices", "auto"), built.pop("num_nodes", None), compute.ranks)
    built["strategy"] = _checked_strategy(built.get("strategy", "auto"))
    if isinstance(built.get("profiler"), str):
        built["profiler"] = _profiler(built["profiler"], folder)
    return built


def build_callbacks(section: Mapping[str, Any]) -> list[Callback]:
    """Lightning callbacks from sections with `_target_`, by name; None leaves one out.

    Raises:
        ConfigError: naming the one that cannot be built.

    Example:
        >>> build_callbacks({"stop": target(EarlyStopping, monitor="val/miou", mode="max")})
    """
    return [build(entry, f"callbacks.{name}", of=Callback) for name, entry in section.items() if entry is not None]


def build_loggers(section: Mapping[str, Any], tracker: Tracker, folder: Path) -> list[Logger]:
    """Lightning loggers from sections with `_target_`, by name; None leaves one out.

    Args:
        tracker: for the logger that writes to it.
        folder: for loggers that name no other place.

    Raises:
        ConfigError: naming the one that cannot be built, or whose package is not installed.

    Example:
        >>> build_loggers({"csv": target(CSVLogger)}, NullTracker(), Path("run"))
    """
    loggers = []
    for name, entry in section.items():
        if entry is None:
            continue
        where = f"logger.{name}"
        accepted = inspect.signature(find(entry[TARGET], where)).parameters if is_target(entry) else {}
        defaults: dict[str, Any] = {"tracker": tracker, "save_dir": str(folder)}
        unset = {key: value for key, value in defaults.items() if key in accepted and entry.get(key) is None}
        logger = build({key: value for key, value in entry.items() if key not in unset}, where, **unset)
        if logger is False:  # tracking is off
            continue
        if not isinstance(logger, Logger):
            what = f"{entry[TARGET]} is not a Logger"
            raise ConfigError(what, where=f"{where}.{TARGET}", remedy="Name one of pytorch_lightning.loggers.")
        loggers.append(logger)
    return loggers


def _built(value: Any, where: str) -> Any:
    if is_target(value):
        return build(value, where)
    if isinstance(value, list | tuple):
        return [_built(item, f"{where}.{number}") for number, item in enumerate(value)]
    return value


def _check_processes(devices: Any, nodes: Any, ranks: Ranks) -> None:
    """Refuse other numbers of processes than the environment's: they are started before the training."""
    if devices not in ("auto", ranks.local_world, str(ranks.local_world)) and device_index(devices, ranks) is None:
        raise ConfigError(
            f"the training has {counted(ranks.local_world, 'process')} on this machine, each with one device",
            where=f"trainer.devices={devices}",
            remedy="Set compute=local_ddp compute.processes=N, or name one GPU: trainer.devices=[1].",
        )
    if nodes not in (None, ranks.nodes):
        raise ConfigError(
            f"the training runs on {counted(ranks.nodes, 'machine')}",
            where=f"trainer.num_nodes={nodes}",
            remedy="Set compute.nodes=N of compute=local_ddp or compute=aml_multinode.",
        )


def _checked_strategy(strategy: Any) -> Any:
    spawned = ("spawn", "fork", "notebook")
    if isinstance(strategy, Strategy):
        fits = isinstance(strategy, DDPStrategy | SingleDeviceStrategy)
    else:
        fits = strategy == "auto" or (str(strategy).startswith("ddp") and not any(word in strategy for word in spawned))
    if not fits:
        raise ConfigError(
            "each process holds the whole model and is started before the training",
            where=f"trainer.strategy={strategy if isinstance(strategy, str) else type(strategy).__name__}",
            remedy="Use auto, ddp or a form of it such as ddp_find_unused_parameters_true; other strategies train a "
            "SegmentationModule in a pl.Trainer of your own.",
        )
    return strategy


def _profiler(name: str, folder: Path) -> Profiler:
    if name not in PROFILERS:
        remedy = f"{nearest(name, PROFILERS)} Use {', '.join(PROFILERS)}, or a section with _target_.".strip()
        raise ConfigError(f"there is no profiler {name!r}", where="trainer.profiler", remedy=remedy)
    return PROFILERS[name](dirpath=str(folder), filename="profile")
