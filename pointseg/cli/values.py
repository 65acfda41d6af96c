"""Sections of a configuration as plain values, and what building from them may refuse. Light: every command imports it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from pointseg.errors import ConfigError, PointsegError

__all__ = ["plain", "progress_bar", "refused_values"]


def plain(section: DictConfig) -> dict[str, Any]:
    """A section as plain values."""
    values = OmegaConf.to_container(section, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


@contextmanager
def refused_values(name: str) -> Iterator[None]:
    """Building from the section `name`: what it does not take becomes an error of the user's."""
    try:
        yield
    except (InstantiationException, TypeError, ValueError, IndexError) as error:
        cause = error.__cause__
        if isinstance(cause, PointsegError):
            raise cause from None
        reason = " ".join(str(cause or error).split())[:240]
        raise ConfigError(f"cannot be built ({reason})", where=name, remedy=f"Check the values of {name}.") from error


def progress_bar(what: str) -> Callable[[int, int], None]:
    """A callback (done, in all) that draws a bar on a terminal and is silent elsewhere."""
    bar: tqdm[Any] | None = None

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=what, unit="scan", disable=not sys.stderr.isatty(), dynamic_ncols=True)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
            bar = None

    return update
