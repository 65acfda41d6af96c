"""Finds the point clouds in a folder, and tells them from the results that `predict` writes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pointseg.core.files import is_file
from pointseg.data.formats import KINDS

__all__ = ["PREDICTION_RECORD", "PROBABILITIES_SUFFIX", "clouds_among"]

PROBABILITIES_SUFFIX = ".probs.npy"  # results beside the labels
PREDICTION_RECORD = "prediction.json"  # in the output folder of a prediction


def clouds_among(files: Iterable[Path], base: Path) -> list[Path]:
    """Files of known kinds in order of their names, without hidden ones and the results of earlier predictions, which may
    be clouds as well.

    Args:
        files: below `base`, which may itself be such a folder of results, for it was named.

    Example:
        >>> clouds_among(Path("drives").rglob("*"), Path("drives"))[0]
        PosixPath('drives/monday/000000.pcd')
    """
    files = sorted(files)
    results = {file.parent for file in files if file.name == PREDICTION_RECORD} - {base}
    return [
        file
        for file in files
        if file.suffix.lower() in KINDS
        and not file.name.endswith(PROBABILITIES_SUFFIX)
        and not any(part.startswith(".") for part in file.relative_to(base).parts)
        and results.isdisjoint(file.parents)
        and is_file(file)
    ]
