"""Export a trained model as ONNX, 8-bit ONNX, a Triton model repository or a smaller bundle, checked and compared."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pointseg.core.config import check_choices
from pointseg.core.errors import CheckpointError, ConfigError, PointsegError
from pointseg.core.files import check_writable, expanded, new_run_folder, write_json
from pointseg.core.optional_packages import needed
from pointseg.core.progress import Progress, silent
from pointseg.data.scan_datamodule import ScanDataModule
from pointseg.engine import bundle
from pointseg.engine.predictor import Predictor
from pointseg.workflows.adaptation import adapted_to
from pointseg.workflows.model_location import fetched_checkpoint, required
from pointseg.workflows.run_data import build_data, readable_data_of_run
from pointseg.workflows.settings.export import ExportConfig

if TYPE_CHECKING:  # on use: they need the extra `export`
    from pointseg.exporting.compare import Comparison
    from pointseg.exporting.onnx_file import ExportCheck

__all__ = ["Exported", "export"]

log = logging.getLogger(__name__)

RECORD = "export.json"
BUNDLES = ("bundle", "half")  # formats that need no package
CHANGES = ("onnx-int8", "half")  # formats whose labels are not quite the model's


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        model: the `.onnx` file; of a bundle, the weights.
        files: all that were written.
        check: how far the logits of the float32 file are from those of the model; None for a bundle.
        comparison: of both on scans; None where they were not compared.
    """

    model: Path
    files: list[Path]
    check: ExportCheck | None
    comparison: Comparison | None


def export(config: ExportConfig, *, folder: str | Path | None = None, progress: Progress = silent) -> Exported:
    """Export `checkpoint` as `format` into `output`.

    Args:
        folder: of this run, where `output` names none; None: outputs/DATE/TIME.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: if no checkpoint is named, a value or folder cannot be used, a package is missing, or 8 bits change
            too much.
        CheckpointError, DataError: if the checkpoint, or for 8 bits the data, cannot be used.

    Example:
        >>> export(ExportConfig(checkpoint="RUN_FOLDER", output="export")).model
        PosixPath('export/model.onnx')
    """
    checkpoint = _checked(config)
    where = expanded(config.output) if config.output else Path(folder or new_run_folder())
    _check_folder(where)
    with _removed_if_empty(where):
        check_writable(where, "output" if config.output else "hydra.run.dir")
        trained = bundle.load(fetched_checkpoint(checkpoint, config.tracking, Path.cwd()), models=config.models)
        if config.adapt is not None:
            trained = adapted_to(Predictor(trained), config.adapt, config.adapt_scans, config.adapt_share).trained
        write = {"bundle": _write_bundle, "onnx-int8": _write_int8, "half": _write_half}.get(
            config.format, _write_float
        )
        model, check, comparison = write(config, trained, where, progress)
        content = {
            "format": config.format,
            "model": str(model.relative_to(where)),
            "check": {"difference": check.difference, "largest": check.largest} if check else None,
            "comparison": comparison.to_dict() if comparison else None,
        }
        write_json(where / RECORD, content)
    log.info("Exported %s as %s%s", checkpoint, config.format, f": {check}" if check else "")
    if comparison:
        log.info("\n%s\n", comparison)
    settings = [model.parent.parent / "config.pbtxt"] if config.format == "triton" else []
    files = [model, model.with_name(bundle.DESCRIPTION), *settings, where / RECORD]
    for file in files:
        log.info("  %s", file)
    return Exported(model, files, check, comparison)


def _checked(config: ExportConfig) -> str:
    """The checkpoint, after everything that can be checked without it."""
    checkpoint = required(config.checkpoint, "checkpoint", "Name it: checkpoint=RUN_FOLDER.")
    check_choices(config)
    if config.scans < 0 or (config.scans == 0 and config.format in CHANGES):
        raise ConfigError(
            "fewer bits must be compared with 32 bits on scans" if config.scans == 0 else f"{config.scans} is negative",
            where="scans",
            remedy="Give 1 or more.",
        )
    for package in () if config.format in BUNDLES else ("onnx", "onnxruntime"):
        needed(package, "export", "ONNX")
    return checkpoint


def _check_folder(folder: Path) -> None:
    """Refuse a folder that would break the result, or that the result would break."""
    if folder.name == "triton":
        raise ConfigError(
            "a folder named triton hides the Python package triton, which torch imports, from programs started beside it",
            where=f"output={folder}",
            remedy="Give it another name.",
        )
    for name in ("run.json", bundle.WEIGHTS):
        if (folder / name).exists():
            # model.yaml would be mistaken for, or overwrite, that of a bundle
            remedy = "Name a folder of its own."
            raise ConfigError("the folder holds a run or a bundle", where=f"output={folder}", remedy=remedy)


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """If the block fails, remove a folder that it made, unless there is a file in it."""
    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not existed and folder.is_dir() and all(path.is_dir() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _data(config: ExportConfig, trained: bundle.TrainedModel) -> ScanDataModule:
    """The data of the checkpoint's run, or those that are named.

    Raises:
        CheckpointError: if the model has other classes.
    """
    section = readable_data_of_run(config.data, config.checkpoint, config.models)
    data = build_data(section, trained.features, config.seed)
    if data.label_map.hash != trained.label_map.hash:
        raise CheckpointError(
            f"the model has the classes of label map {trained.label_map.name!r} and the data those of "
            f"{data.label_map.name!r}",
            where="data.labels",
            remedy="Compare it on data with its own classes.",
        )
    return data


def _on_scans(config: ExportConfig, trained: bundle.TrainedModel, progress: Progress) -> dict[str, Any]:
    """What a form whose labels are not quite the model's is compared on, and how far it may differ."""
    data = _data(config, trained)
    return {
        "source": data.source(config.split, progress(f"{config.split} scans")),
        "label_map": data.label_map,
        "scans": config.scans,
        "min_agreement": config.min_agreement,
        "max_miou_loss": config.max_miou_loss,
        "progress": progress("comparing"),
    }


def _write_int8(
    config: ExportConfig, trained: bundle.TrainedModel, folder: Path, progress: Progress
) -> tuple[Path, ExportCheck, Comparison | None]:
    from pointseg.exporting.int8 import export_int8

    check, comparison = export_int8(trained, folder, **_on_scans(config, trained, progress))
    return folder / bundle.EXPORT, check, comparison


def _write_half(
    config: ExportConfig, trained: bundle.TrainedModel, folder: Path, progress: Progress
) -> tuple[Path, None, Comparison]:
    from pointseg.exporting.half_bundle import export_half_bundle

    written, comparison = export_half_bundle(trained, folder, **_on_scans(config, trained, progress))
    return written / bundle.WEIGHTS, None, comparison


def _write_bundle(
    config: ExportConfig, trained: bundle.TrainedModel, folder: Path, progress: Progress
) -> tuple[Path, None, None]:
    return bundle.save_bundle(folder / "bundle", trained) / bundle.WEIGHTS, None, None


def _write_float(
    config: ExportConfig, trained: bundle.TrainedModel, folder: Path, progress: Progress
) -> tuple[Path, ExportCheck, Comparison | None]:
    from pointseg.exporting.compare import compare
    from pointseg.exporting.onnx_file import export_onnx
    from pointseg.exporting.triton import export_triton

    check = (export_triton if config.format == "triton" else export_onnx)(trained, folder)
    if config.scans == 0:
        return check.path, check, None
    try:
        data = _data(config, trained)
        source = data.source(config.split, progress(f"{config.split} scans"))
        pair = ("torch", Predictor(trained)), ("onnxruntime", Predictor.load(check.path))
        comparison = compare(
            *pair, source, label_map=data.label_map, scans=config.scans, progress=progress("comparing")
        )
    except PointsegError as error:
        # the file is right, as its check has shown: scans would only add detail
        log.warning("Not compared on scans: %s", error)
        return check.path, check, None
    return check.path, check, comparison
