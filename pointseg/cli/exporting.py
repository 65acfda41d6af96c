"""The `export` verb: a checkpoint as ONNX, 8-bit ONNX or a Triton model repository, checked and compared."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from pointseg import bundle
from pointseg.cli import checks
from pointseg.cli.building import build_data
from pointseg.cli.entry import Job
from pointseg.cli.evaluating import fetch_checkpoint, with_data_of_run
from pointseg.cli.values import progress_bar
from pointseg.data.datamodule import ScanDataModule
from pointseg.errors import CheckpointError, ConfigError, PointsegError
from pointseg.extras import needed
from pointseg.files import check_writable, write_json
from pointseg.predictor import Predictor

if TYPE_CHECKING:
    from pointseg.exporting.compare import Comparison
    from pointseg.exporting.onnx_file import Check

__all__ = ["export_job"]

log = logging.getLogger(__name__)

FORMATS = ("onnx", "onnx-int8", "triton")


def export_job(job: Job) -> None:
    """Export `checkpoint` as `format` into `output`.

    Raises:
        ConfigError: if no checkpoint is named, the format is unknown, a package is missing, or 8 bits change too much.
        CheckpointError, DataError: if the checkpoint, or for 8 bits the data, cannot be used.
    """
    config = job.config
    _check(config)
    folder = Path(str(config.output)).expanduser() if config.output else job.folder
    if folder.name == "triton":
        raise ConfigError(
            "a folder named triton hides the Python package of that name, which torch looks for, from what starts beside it",
            where=f"output={folder}",
            remedy="Name it otherwise.",
        )
    for name in ("run.json", bundle.WEIGHTS):
        if (folder / name).exists():
            # its model.yaml would be taken for, or replace, that of a bundle
            raise ConfigError(
                "the folder holds a run or a bundle", where=f"output={folder}", remedy="Name a folder of its own."
            )
    with _nothing_left(folder):
        check_writable(folder, "output" if config.output else "hydra.run.dir")
        trained = bundle.load(fetch_checkpoint(config, job))
        check, comparison = (_int8 if config.format == "onnx-int8" else _float)(config, trained, folder)
        path = folder / "model.onnx" if config.format == "onnx-int8" else check.path
        result = {
            "format": config.format,
            "model": str(path.relative_to(folder)),
            "check": {"difference": check.difference, "largest": check.largest},
            "comparison": comparison.to_dict() if comparison else None,
        }
        write_json(folder / "export.json", result)
    log.info("Exported %s as %s: %s", config.checkpoint, config.format, check)
    if comparison:
        log.info("\n%s\n", comparison)
    for file in (path, path.with_name("model.yaml"), path.parent.parent / "config.pbtxt", folder / "export.json"):
        if file.name != "config.pbtxt" or config.format == "triton":
            log.info("  %s", file)


def _check(config: DictConfig) -> None:
    if not config.checkpoint:
        raise ConfigError("no checkpoint is given", where="checkpoint", remedy="Name it: checkpoint=RUN_FOLDER.")
    if config.format not in FORMATS:
        raise ConfigError(f"there is no format {config.format!r}", where="format", remedy=f"Use {', '.join(FORMATS)}.")
    if config.scans < 0 or (config.scans == 0 and config.format == "onnx-int8"):
        raise ConfigError(
            "8 bits must be compared with 32 on scans" if config.scans == 0 else f"{config.scans} is negative",
            where="scans",
            remedy="Give 1 or more.",
        )
    for package in ("onnx", "onnxruntime"):
        needed(package, "export", "ONNX")


@contextmanager
def _nothing_left(folder: Path) -> Iterator[None]:
    """If the block fails, a folder that it made goes again, unless there is a file in it."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed and folder.is_dir() and all(path.is_dir() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _data(config: DictConfig, trained: bundle.TrainedModel) -> ScanDataModule:
    """The data of the checkpoint's run, or the one that is named.

    Raises:
        CheckpointError: if the model has other classes.
    """
    config = with_data_of_run(config)
    checks.check_targets(config)
    data = build_data(config, trained.features)
    if data.label_map.hash != trained.label_map.hash:
        raise CheckpointError(
            f"the model has the classes of label map {trained.label_map.name!r} and the data those of "
            f"{data.label_map.name!r}",
            where="data.labels",
            remedy="Compare it on data with its own classes.",
        )
    return data


def _int8(config: DictConfig, trained: bundle.TrainedModel, folder: Path) -> tuple[Check, Comparison | None]:
    from pointseg.exporting.int8 import export_int8

    data = _data(config, trained)
    return export_int8(
        trained,
        folder,
        data.source(config.split, progress_bar(f"{config.split} scans")),
        label_map=data.label_map,
        scans=config.scans,
        min_agreement=config.min_agreement,
        max_miou_loss=config.max_miou_loss,
        progress=progress_bar("comparing"),
    )


def _float(config: DictConfig, trained: bundle.TrainedModel, folder: Path) -> tuple[Check, Comparison | None]:
    from pointseg.exporting.compare import compare
    from pointseg.exporting.onnx_file import export_onnx
    from pointseg.exporting.triton import export_triton

    check = (export_triton if config.format == "triton" else export_onnx)(trained, folder)
    if config.scans == 0:
        return check, None
    try:
        data = _data(config, trained)
        source = data.source(config.split, progress_bar(f"{config.split} scans"))
        pair = ("torch", Predictor(trained)), ("onnxruntime", Predictor.load(check.path))
        progress = progress_bar("comparing")
        return check, compare(*pair, source, label_map=data.label_map, scans=config.scans, progress=progress)
    except PointsegError as error:
        # the file is right, as its check has shown; scans only tell more about it
        log.warning("Not compared on scans: %s", error)
        return check, None
