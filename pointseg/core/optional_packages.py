"""Imports packages of the extras on use; if one is missing, the error gives the command that installs it."""

from __future__ import annotations

import re
from importlib import import_module, metadata
from typing import Any

from pointseg.core.errors import ConfigError

__all__ = ["missing_extra", "needed"]


def needed(package: str, extra: str, what: str) -> Any:
    """Import a package, or a module of it.

    Args:
        package: such as "pyarrow.parquet".
        extra: of pointseg that installs it.
        what: what needs it, a word for the message.

    Raises:
        ConfigError: if it is not installed.

    Example:
        >>> needed("laspy", "formats", "LAS").read("tile.laz")
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise _not_installed(package, extra, what) from error


def missing_extra(error: ModuleNotFoundError) -> ConfigError | None:
    """What to tell a user where an import failed because an extra is not installed; None where it failed for another reason.

    Example:
        >>> try:
        ...     import orjson
        ... except ModuleNotFoundError as error:
        ...     raise missing_extra(error) or error
    """
    package = (error.name or "").partition(".")[0]
    try:
        requirements = metadata.requires("pointseg") or []
    except metadata.PackageNotFoundError:  # the code of a job, which is not installed
        return None
    for requirement in requirements:
        found = re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", requirement)
        if found and found[2] != "dev" and package in _modules_of(found[1]):
            return _not_installed(package, found[2], "this")
    return None


def _modules_of(distribution: str) -> tuple[str, str]:
    """What a distribution may be imported as: azure-ai-ml is azure, prometheus-client is prometheus_client."""
    name = distribution.replace("-", "_")
    return name, name.partition("_")[0]


def _not_installed(package: str, extra: str, what: str) -> ConfigError:
    return ConfigError(
        f"{package.partition('.')[0]} is not installed, which {what} needs",
        remedy=f"Install it, in the checkout: python -m pip install -c environments/constraints.txt -e '.[{extra}]'.",
    )
