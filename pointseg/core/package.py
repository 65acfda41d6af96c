"""The package itself: its version and its folders."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FOLDER", "VERSION", "shipped_folder"]

VERSION = "0.1.0"
FOLDER = Path(__file__).resolve().parents[1]


def shipped_folder(name: str) -> Path:
    """A folder that is shipped with the package, such as "configs": inside it if installed, beside it in a checkout.

    Example:
        >>> shipped_folder("configs").name
        'configs'
    """
    installed = FOLDER / name
    return installed if installed.is_dir() else FOLDER.parent / name
