"""Adapt a model to unlabelled clouds that a configuration names."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.limits import require_between
from pointseg.core.text import counted
from pointseg.data.formats import finite_points, read_cloud
from pointseg.engine.evaluation import evenly_spaced
from pointseg.engine.prediction.inputs import find_clouds
from pointseg.engine.predictor import Predictor

__all__ = ["adapted_to"]

log = logging.getLogger(__name__)


def adapted_to(
    predictor: Predictor,
    given: str | None,
    scans: int,
    share: float,
    *,
    remission_scale: float | None = None,
    columns: Sequence[str] | None = None,
) -> Predictor:
    """The predictor, or where `given` names clouds, one whose BatchNorm statistics are partly theirs.

    Args:
        given: a file, a folder or a pattern; None changes nothing.
        scans: how many of the clouds are read, spread evenly over them.
        share: of their statistics.
        remission_scale, columns: as for `read_cloud`.

    Raises:
        ConfigError: for values that cannot be used, or a model without BatchNorm.
        DataError: if there is no cloud that can be read.
    """
    if given is None:
        return predictor
    require_between(share, 0, 1, "adapt_share")
    if scans < 1:
        raise ConfigError(f"{scans} clouds", where="adapt_scans", remedy="Give 1 or more.")
    files = list(find_clouds(given, "adapt"))
    chosen = [files[number] for number in sorted(evenly_spaced(scans, len(files)))]
    read: list[Path] = []

    def clouds() -> Iterator[NDArray[np.float32]]:
        for file in chosen:
            try:
                cloud = read_cloud(file, remission_scale=remission_scale, extra=predictor.extra, columns=columns)
                points, _ = finite_points(cloud, predictor.extra)
            except DataError as error:
                log.warning("Not adapted to %s: %s", file, error.what)
            else:
                read.append(file)
                yield points

    adapted = predictor.adapted(clouds(), share)
    log.info("Adapted to %s of %s, whose statistics count for %.0f %%", counted(len(read), "cloud"), given, 100 * share)
    return adapted
