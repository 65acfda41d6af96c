"""Archives for the benchmark's server: packed by `predict`, checked by `evaluate`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pointseg.core.errors import ConfigError, InvalidData
from pointseg.core.files import check_writable, expanded
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Progress
from pointseg.core.text import counted
from pointseg.engine.prediction import Item
from pointseg.quality.submission import TEST_SCANS, check_submission, require_test_scans, write_submission

__all__ = ["check_archive", "check_submittable", "pack_archive", "require_benchmark_classes", "test_items"]

log = logging.getLogger(__name__)

BENCHMARK = "semantickitti"  # the label map of the benchmark's classes


def check_archive(archive: str | Path, root: str | None, progress: Progress) -> None:
    """Check whether the benchmark's server would accept an archive.

    Args:
        root: the data set whose scans it labels.

    Raises:
        ConfigError: if no data set is named.
        InvalidData: if it would be rejected (exit code 2).
    """
    if not root:
        raise ConfigError(
            "the archive is checked against scans, and none are named",
            where="data.root",
            remedy="Name the data set: data=semantickitti data.root=DIR.",
        )
    result = check_submission(str(archive), str(root), LabelMap.load(BENCHMARK), progress=progress("checking"))
    log.info("%s: %s, %s", archive, counted(result.scans, "scan"), counted(result.points, "label"))
    if result.problems:
        for problem in result.problems:
            log.error("  %s", problem)
        raise InvalidData(
            f"the server would reject it: {counted(len(result.problems), 'problem')}",
            where=f"submission={archive}",
            remedy="They are listed above. python -m pointseg.predict submission=FILE.zip writes archives that pass.",
        )
    log.info("  The benchmark's server accepts it.")


def check_submittable(archive: str, root: str, world: int) -> None:
    """Refuse what could not be submitted, before anything is predicted.

    Args:
        archive: the .zip to write.
        root: the data set whose test sequences are predicted.
        world: how many processes predict.

    Raises:
        ConfigError: if several processes were started, or the file is not called .zip.
        DataError: if the data set lacks test scans.
        OutputError: if the archive cannot be written.
    """
    if world > 1:
        raise ConfigError(
            "only one process can pack the archive",
            where="submission",
            remedy="Predict with all of them without submission=, then pack with one: finished files are not made again.",
        )
    path = expanded(archive)
    if path.suffix != ".zip":
        raise ConfigError("the server accepts only .zip", where=f"submission={path}", remedy="Name it FILE.zip.")
    check_writable(path.parent, "submission")
    require_test_scans(root)


def require_benchmark_classes(label_map: LabelMap) -> None:
    """Raises ConfigError, naming both label maps, for a model with other classes."""
    if label_map.hash != LabelMap.load(BENCHMARK).hash:
        raise ConfigError(
            f"the model has the classes of {label_map.name!r} and the benchmark those of {BENCHMARK!r}",
            where="submission",
            remedy="Submit a model that was trained with data.labels=semantickitti.",
        )


def test_items(items: Sequence[Item]) -> list[Item]:
    """The files of the test sequences."""
    return [item for item in items if item.target.parts[-3] in TEST_SCANS]


def pack_archive(archive: str, labels: Path, root: str, progress: Progress) -> None:
    """Pack the labels of a folder.

    Raises:
        DataError: if the server would reject them.
    """
    path = write_submission(labels, archive, root, LabelMap.load(BENCHMARK), progress=progress("packing"))
    log.info("Packed and checked: %s, %.0f MB", path, path.stat().st_size / 1e6)
