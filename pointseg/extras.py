"""Packages that come with an extra: imported on use, with the command that installs them where they are missing."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from pointseg.errors import ConfigError

__all__ = ["needed"]


def needed(package: str, extra: str, what: str) -> Any:
    """Import a package, or a module of it.

    Args:
        package: such as "pyarrow.parquet".
        extra: of ours, that it comes with.
        what: needs it, in a word for people.

    Raises:
        ConfigError: if it is not installed.

    Example:
        >>> needed("laspy", "formats", "LAS").read("tile.laz")
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"{package.partition('.')[0]} is not installed, which {what} needs",
            remedy=f"Install it, in the checkout: python -m pip install -c environments/constraints.txt -e '.[{extra}]'.",
        ) from error
