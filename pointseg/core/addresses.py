"""Names of models and data that are not paths of this machine: registered and shipped models, and addresses in a cloud.

A higher room sets the function that fetches registered models (see `fetch_models_with`), for only `tracking` uses MLflow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pointseg.core.errors import TrackingError

__all__ = [
    "SHIPPED",
    "fetch_model",
    "fetch_models_with",
    "is_registered_model",
    "is_remote",
    "is_shipped_model",
    "shipped_model",
    "split_registered_model",
]

REGISTERED = "models:/"
REGISTERED_MODEL = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/([0-9]+|latest))")
SHIPPED = ("street",)  # models inside this package
SHIPPED_MODELS = Path(__file__).parent / "shipped_models"
REMOTE = re.compile(r"(azureml:|https?://|abfss?://|wasbs?://)")

_fetchers: list[Callable[[str], Path]] = []


def is_registered_model(name: str | Path | None) -> bool:
    """Whether a name is that of a registered model.

    Example:
        >>> is_registered_model("models:/street@champion")
        True
    """
    return name is not None and str(name).startswith(REGISTERED)


def is_shipped_model(name: str | Path | None) -> bool:
    """Whether a name is that of a model inside this package; a folder of the same name is `./street`.

    Example:
        >>> is_shipped_model("street"), is_shipped_model("./street")
        (True, False)
    """
    return name is not None and str(name) in SHIPPED


def shipped_model(name: str | Path) -> Path:
    """The bundle of a model inside this package.

    Example:
        >>> shipped_model("street").name
        'street'
    """
    return SHIPPED_MODELS / str(name)


def split_registered_model(name: str) -> tuple[str, str | None, str | None]:
    """Name, alias and version of `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/NAME/latest`.

    Raises:
        TrackingError: if it is none of these.

    Example:
        >>> split_registered_model("models:/street@champion")
        ('street', 'champion', None)
    """
    match = REGISTERED_MODEL.fullmatch(name)
    if not match:
        raise TrackingError(
            "this is not the name of a registered model",
            where=name,
            remedy="Write models:/NAME@ALIAS or models:/NAME/1.",
        )
    return match[1], match[2], match[3]


def is_remote(name: str) -> bool:
    """Whether a name is an address in a cloud rather than a place on this machine.

    Example:
        >>> [is_remote(name) for name in ("azureml:semantic-kitti:3", "data/kitti")]
        [True, False]
    """
    return REMOTE.match(name) is not None


def fetch_models_with(fetch: Callable[[str], Path]) -> None:
    """Set the function by which `fetch_model` downloads a registered model, instead of an earlier one."""
    _fetchers[:] = [fetch]


def fetch_model(name: str) -> Path:
    """Download a registered model; returns the folder with the copy.

    Raises:
        TrackingError: if there is no such model, or nothing to fetch it with.
    """
    if not _fetchers:
        raise TrackingError("there is no registry", where=name, remedy="Import pointseg, not a part of it alone.")
    return _fetchers[0](name)
