"""What tasks that score a model share: the file of a page, the tracked run, the numbers of a resampling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pointseg import tracking
from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable, expanded
from pointseg.workflows.settings.shared import TrackingConfig

__all__ = ["check_resampling", "page_file", "start_tracking"]

FEWEST_DRAWS = 100  # below, two or three draws decide where a 95 % interval ends


def page_file(output: str | None, folder: Path, name: str, *, key: str = "hydra.run.dir") -> Path:
    """The file that a page is written to; checks that it can be.

    Args:
        output: the file that was asked for.
        folder: where it goes otherwise, by `name`.
        key: what chose that folder, for messages.

    Raises:
        ConfigError: if `output` is a folder.
        OutputError: if nothing can be written there.

    Example:
        >>> page_file(None, Path("run"), "report.html", key="run")
        PosixPath('run/report.html')
    """
    path = expanded(output) if output else folder / name
    if path.is_dir():
        remedy = f"Name it: output={path / name}"
        raise ConfigError("this is a folder, and one file is written", where=f"output={path}", remedy=remedy)
    check_writable(path.parent, "output" if output else key)
    return path


def start_tracking(settings: TrackingConfig, verb: str, split: str, params: Mapping[str, Any]) -> tracking.Tracker:
    """A tracked run of a task that scores a model.

    Raises:
        TrackingError: if the store cannot be used.
    """
    return tracking.start(
        settings.uri,
        settings.experiment,
        settings.run_name or f"{verb}-{split}",
        start_dir=Path.cwd(),
        params={**params, "split": split},
        tags={**settings.tags, "verb": verb},
        system_metrics=settings.system_metrics,
    )


def check_resampling(draws: int, seed: int) -> None:
    """Refuse numbers of resamples of scans from which no interval can be drawn.

    Raises:
        ConfigError: naming `bootstrap` or `seed`.

    Example:
        >>> check_resampling(1000, seed=0)
    """
    if draws < FEWEST_DRAWS:
        raise ConfigError(f"{draws} resamples are too few", where="bootstrap", remedy="Give 100 or more.")
    if not 0 <= seed < 2**32:
        raise ConfigError(f"{seed} is not between 0 and 2^32 - 1", where="seed")
