"""Check scans, and write them as a packed store, raw files or tables; they are raw, packed or synthetic."""

from __future__ import annotations

import logging
import shlex
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pointseg.core.config import check_choices
from pointseg.core.errors import ConfigError
from pointseg.core.files import check_writable, expanded, new_run_folder
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Progress, silent
from pointseg.core.text import counted, duration
from pointseg.data.features import FeatureSpec
from pointseg.data.semantickitti import SemanticKITTIScans
from pointseg.data.sources import ScanSource
from pointseg.data.store import PackedScans, PackedStore, PackSettings, is_store, pack
from pointseg.data.store.layout import PACKING
from pointseg.data.store.writer import PackResult
from pointseg.data.synthetic import SyntheticSequences, write_sequences
from pointseg.data.tabular.export import export_csv, export_parquet
from pointseg.pages.exploration_page import write_page
from pointseg.quality.exploration import explore
from pointseg.quality.manifest import MANIFEST, Manifest
from pointseg.quality.validation_report import ValidationReport
from pointseg.workflows.data.raw_validation import check_store, log_findings, refuse_errors, scan_check, validate_raw
from pointseg.workflows.settings.prepare import PrepareConfig
from pointseg.workflows.settings.shared import SyntheticConfig

__all__ = ["Prepared", "check_preparation", "prepare"]

log = logging.getLogger(__name__)


@dataclass
class Prepared:
    """The result of a preparation.

    Attributes:
        output: the folder of the result.
        scans: how many it holds; for a validation alone, how many were checked.
        store: the packed store; None where another format was written.
        validation: of the raw files; None where none were read.
        pages: reports beside the result.
    """

    output: Path
    scans: int = 0
    store: PackedStore | None = None
    validation: ValidationReport | None = None
    pages: list[Path] = field(default_factory=list)


def prepare(config: PrepareConfig, *, folder: str | Path | None = None, progress: Progress = silent) -> Prepared:
    """Check the scans and write what is asked for.

    It uses processes: a script that calls it needs `if __name__ == "__main__":`.

    Args:
        folder: for the report of `validate` without an `output`; None: outputs/DATE/TIME.
        progress: makes a callback for each piece of work.

    Raises:
        ConfigError: for settings that contradict each other.
        InvalidData: if files are bad and `on_error` is stop (exit code 2).
        DataError, OutputError: if there are no scans, or the folder cannot be written or holds something else.

    Example:
        >>> prepare(PrepareConfig(input="semantickitti", output="store")).store.header.scans
        23201
    """
    check_preparation(config)
    output = expanded(config.output) if config.output else Path(folder or new_run_folder())
    check_writable(output, "output" if config.output else "hydra.run.dir")
    label_map, began = LabelMap.load(config.labels), time.perf_counter()
    result = Prepared(output)
    if config.validate:
        _validate_only(config, label_map, result, progress)
    elif _format(config) == "raw":
        _write_raw(config, result, progress)
    elif _format(config) == "packed":
        _pack(config, label_map, result, progress, began)
    else:
        _write_tables(config, label_map, result, progress)
    return result


# ---- checks ----------------------------------------------------------------------------------------------------------


def check_preparation(config: PrepareConfig) -> None:
    """Check the settings, without looking at scans.

    Raises:
        ConfigError, LabelMapError: for settings that contradict each other or do not exist.
    """
    check_choices(config)
    remedy = "Give input=DIR, or synthetic.scans=N."
    if config.input and config.synthetic != SyntheticConfig():
        raise ConfigError("both input and synthetic scans are asked for", where="input", remedy=remedy)
    if not config.input and not _is_synthetic(config):
        raise ConfigError("there is nothing to prepare", where="input", remedy=remedy)
    if config.format == "raw" and config.input:
        text = "only synthetic scans can be written in the raw layout"
        raise ConfigError(text, where="format=raw", remedy="Use packed, parquet or csv.")
    if config.validate and not config.input:
        raise ConfigError("synthetic scans need no validation", where="validate", remedy="Give input=DIR.")
    if not config.output and not config.validate:
        raise ConfigError("no output folder is given", where="output", remedy="Name it: output=DIR.")
    scan_check(config.check, LabelMap.load(config.labels))
    if _is_synthetic(config):
        _streets(config)
    if _format(config) == "packed":
        _pack_settings(config)


def _is_synthetic(config: PrepareConfig) -> bool:
    return config.synthetic.scans is not None


def _format(config: PrepareConfig) -> str:
    if config.format != "auto":
        return config.format
    return "raw" if _is_synthetic(config) else "packed"


def _streets(config: PrepareConfig) -> SyntheticSequences:
    return SyntheticSequences(**asdict(config.synthetic))


def _pack_settings(config: PrepareConfig) -> PackSettings:
    kept = config.surroundings
    return PackSettings(
        record=config.record,
        features=FeatureSpec(ground_cell=kept.ground_cell, pillar_cells=tuple(kept.pillar_cells)) if kept else None,
        keep_raw=config.keep_raw,
        keep_order=config.keep_order,
        shard_scans=config.shard_scans,
        on_error=config.on_error,
    )


def _source(config: PrepareConfig, label_map: LabelMap) -> ScanSource:
    if _is_synthetic(config):
        return _streets(config)
    root = str(config.input)
    if is_store(root):
        store = PackedStore(root)
        store.require_labels(label_map)
        if config.keyframes.distance is not None:
            raise ConfigError("keyframes can only be chosen from raw scans", where="keyframes.distance")
        return PackedScans(store, config.sequences)
    return SemanticKITTIScans(
        root,
        config.sequences,
        labelled=None,
        remission_scale=config.remission_scale,
        columns=tuple(config.columns),
        keyframe_distance=config.keyframes.distance,
        check_sizes=config.on_error == "stop",
    )


# ---- the work --------------------------------------------------------------------------------------------------------


def _validate_only(config: PrepareConfig, label_map: LabelMap, result: Prepared, progress: Progress) -> None:
    if is_store(str(config.input)):
        store = PackedStore(str(config.input))
        check_store(store, progress)
        result.store, result.scans = store, store.header.scans
        return
    report, result.pages = validate_raw(config, label_map, result.output, progress)
    refuse_errors(report.findings, result.output)
    result.validation, result.scans = report, sum(row.scans for row in report.sequences)


def _write_raw(config: PrepareConfig, result: Prepared, progress: Progress) -> None:
    began = time.perf_counter()
    files = write_sequences(
        result.output, progress=progress("writing"), processes=config.processes, **asdict(config.synthetic)
    )
    Manifest.of(result.output).write(result.output / MANIFEST)
    result.scans = len(files)
    seconds = time.perf_counter() - began
    log.info(
        "Wrote %s (%.0f MB of points) into %s in %s, %.1f scans/s",
        counted(result.scans, "scan"),
        sum(file.stat().st_size for file in files) / 1e6,
        result.output,
        duration(seconds),
        result.scans / seconds,
    )
    _log_train(result.output)


def _pack(config: PrepareConfig, label_map: LabelMap, result: Prepared, progress: Progress, began: float) -> None:
    output = result.output
    raw = not _is_synthetic(config) and not is_store(str(config.input))
    if raw and not (output / PACKING).is_file():
        # an interrupted run has validated all files before it began to pack
        result.validation, result.pages = validate_raw(config, label_map, output, progress)
        if config.on_error == "stop":
            refuse_errors(result.validation.findings, output)
    source = _source(config, label_map)
    try:
        packed = pack(
            source,
            output,
            label_map,
            _pack_settings(config),
            check=scan_check(config.check, label_map),
            processes=config.processes,
            progress=progress("packing"),
        )
    except KeyboardInterrupt:
        log.info("The same command continues where this one stopped.")
        raise
    if packed.store is None:
        log_findings(packed.findings)
        refuse_errors(packed.findings, output)
    assert packed.store is not None
    result.store, result.scans = packed.store, packed.store.header.scans
    _log_packed(packed, output, len(source), time.perf_counter() - began)
    if config.report:
        exploration = explore(PackedScans(packed.store), label_map, progress=progress("exploring"))
        page = write_page(exploration, output / "exploration.html")
        result.pages.append(page)
        log.info("  %s", page)
    _log_train(output)


def _log_packed(packed: PackResult, output: Path, scans: int, seconds: float) -> None:
    assert packed.store is not None
    header = packed.store.header
    size = sum(file.bytes for file in header.files)
    log.info(
        "Packed %s with %s into %s: %.0f MB, %s records, %.1f bytes a point; %s, %.1f scans/s",
        counted(header.scans, "scan"),
        counted(header.points, "point"),
        output,
        size / 1e6,
        header.record,
        size / max(header.points, 1),
        duration(seconds),
        max(header.scans - packed.resumed, 0) / seconds,
    )
    if packed.resumed:
        log.info("  %s were already there", counted(packed.resumed, "scan"))
    if scans > header.scans:
        log.warning("  %s left out: see validation.html", counted(scans - header.scans, "bad scan"))


def _write_tables(config: PrepareConfig, label_map: LabelMap, result: Prepared, progress: Progress) -> None:
    began = time.perf_counter()
    source = _source(config, label_map)
    write = export_parquet if config.format == "parquet" else export_csv
    write(source, result.output, label_map, progress=progress("writing"))
    result.scans, seconds = len(source), time.perf_counter() - began
    log.info(
        "Wrote %s into %s in %s, %.1f scans/s",
        counted(result.scans, "scan"),
        result.output,
        duration(seconds),
        result.scans / seconds,
    )
    log.info("  %s makes the folder a data asset of type mltable", result.output / "MLTable")


def _log_train(output: Path) -> None:
    log.info("Train on them: python -m pointseg.train +experiment=kitti data.root=%s", shlex.quote(str(output)))
