"""Archives for the benchmark's server, in the verbs: `predict submission=` packs one, `evaluate submission=` checks one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pointseg.cli.values import progress_bar
from pointseg.errors import ConfigError, InvalidData
from pointseg.files import check_writable
from pointseg.labels import LabelMap
from pointseg.prediction import Item
from pointseg.submission import TEST_SCANS, check_submission, require_test_scans, write_submission
from pointseg.words import counted

__all__ = [
    "check_archive",
    "labels_folder",
    "pack_archive",
    "require_benchmark_classes",
    "require_test_set",
    "test_items",
]

log = logging.getLogger(__name__)

BENCHMARK = "semantickitti"


def labels_folder(config: DictConfig) -> str | None:
    """Where the labels go: `output`, or beside the archive."""
    if config.output or not config.submission:
        return str(config.output) if config.output else None
    return str(Path(str(config.submission)).with_suffix("")) + "_labels"


def require_test_set(config: DictConfig, world: int) -> None:
    """Refuse, before anything is predicted, what could not be submitted.

    Raises:
        ConfigError: if several processes were started.
        DataError: if the data set lacks test scans.
        OutputError: if the archive cannot be written.
    """
    if world > 1:
        raise ConfigError(
            "one process packs the archive",
            where="submission",
            remedy="Predict with all of them without submission=, then pack with one: finished files are not made again.",
        )
    archive = Path(str(config.submission)).expanduser()
    if archive.suffix != ".zip":
        raise ConfigError("the server takes a .zip", where=f"submission={archive}", remedy="Name it FILE.zip.")
    check_writable(archive.parent, "submission")
    require_test_scans(str(config.input))


def require_benchmark_classes(label_map: LabelMap) -> None:
    """Refuse a model with other classes.

    Raises:
        ConfigError: naming both label maps.
    """
    if label_map.hash != LabelMap.load(BENCHMARK).hash:
        raise ConfigError(
            f"the model has the classes of {label_map.name!r} and the benchmark those of {BENCHMARK!r}",
            where="submission",
            remedy="Submit a model that was trained with data.labels=semantickitti.",
        )


def test_items(items: Sequence[Item]) -> list[Item]:
    """Those of the test sequences."""
    return [item for item in items if item.target.parts[-3] in TEST_SCANS]


def pack_archive(config: DictConfig, output: Path) -> None:
    """Pack the labels in `output`.

    Raises:
        DataError: if they are not what the server takes.
    """
    archive = Path(str(config.submission)).expanduser()
    label_map = LabelMap.load(BENCHMARK)
    write_submission(output, archive, str(config.input), label_map, progress=progress_bar("packing"))
    log.info("Packed and checked: %s, %.0f MB", archive, archive.stat().st_size / 1e6)


def check_archive(config: DictConfig) -> None:
    """Say whether the server would take `submission`.

    Raises:
        ConfigError: if no data set is named.
        InvalidData: if it would not (exit code 2).
    """
    root = OmegaConf.select(config, "data.root")
    if not root:
        raise ConfigError(
            "the archive is checked against the scans",
            where="data.root",
            remedy="Name the data set: data=semantickitti data.root=DIR.",
        )
    archive = str(config.submission)
    found = check_submission(archive, str(root), LabelMap.load(BENCHMARK), progress=progress_bar("checking"))
    log.info("%s: %s, %s", archive, counted(found.scans, "scan"), counted(found.points, "label"))
    if found.problems:
        for problem in found.problems:
            log.error("  %s", problem)
        raise InvalidData(
            f"the server would refuse it: {counted(len(found.problems), 'problem')}",
            where=f"submission={archive}",
            remedy="They are listed above. python -m pointseg.predict submission=FILE.zip writes archives that pass.",
        )
    log.info("  It is what the benchmark's server takes.")
