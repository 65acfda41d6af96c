"""Thousands of commands in one process: what each of them does alike is done once, with the same result."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult

from pointseg.cli.hydra_options import config_folder

Load = Callable[[Any, str], ConfigResult]


def parse_configurations_once() -> None:
    """Hydra parses a file for each of the four times that a command composes. The shipped ones, and Hydra's own, are kept;
    files of the tests are read each time."""
    Plugins.instance()  # which finds the kinds of sources
    for scheme in ("file", "pkg"):
        source: Any = SourcesRegistry.instance().resolve(scheme)
        source.load_config = _kept(source.load_config)


def _kept(load: Load) -> Load:
    shipped = {str(config_folder()), "hydra.conf"}
    kept: dict[tuple[object, ...], ConfigResult] = {}

    @wraps(load)
    def load_config(source: Any, config_path: str) -> ConfigResult:
        if source.path not in shipped:
            return load(source, config_path)
        file = Path(source.path, source._normalize_file_name(config_path))
        key = source.path, source.provider, config_path, file.stat().st_mtime_ns if file.is_file() else None
        if key not in kept:
            kept[key] = load(source, config_path)
        result = kept[key]
        return replace(result, config=copy.deepcopy(result.config), header=dict(result.header))

    return load_config


def set_levels_where_they_change() -> None:
    """Hydra sets the levels of many loggers for each run, and each time `logging` forgets what all loggers had found out:
    with those of all packages in one process that is a fifth of a command."""
    set_level = logging.Logger.setLevel

    @wraps(set_level)
    def set_level_where_it_changes(logger: logging.Logger, level: int | str) -> None:
        if level != logger.level:
            set_level(logger, level)

    logging.Logger.setLevel = set_level_where_it_changes  # type: ignore[method-assign]
