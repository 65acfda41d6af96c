"""The `prepare` verb: raw scans, a packed store or a synthetic world -> a store, raw files or tables, checked first."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pointseg.cli.entry import Job
from pointseg.cli.values import plain, progress_bar, refused_values
from pointseg.data.checking import Finding, ScanCheck, finding_lines
from pointseg.data.exploration import explore
from pointseg.data.manifest import MANIFEST, Entry, Manifest
from pointseg.data.semantickitti import SemanticKITTIScans, find_sequences
from pointseg.data.sources import ScanSource
from pointseg.data.store import PackedScans, PackedStore, PackSettings, is_store, pack
from pointseg.data.store.writer import IN_PROGRESS
from pointseg.data.synthetic import SyntheticSequences, write_sequences
from pointseg.data.tabular import export_csv, export_parquet
from pointseg.data.validation import validate
from pointseg.data.validation_report import ValidationReport
from pointseg.errors import ConfigError, InvalidData
from pointseg.features import FeatureSpec
from pointseg.files import check_writable
from pointseg.labels import LabelMap
from pointseg.report.exploration_page import write_page
from pointseg.words import counted, duration

__all__ = ["check_preparation", "prepare_job"]

log = logging.getLogger(__name__)

FORMATS = ("packed", "raw", "parquet", "csv")


def prepare_job(job: Job) -> None:
    """Check what there is and write what is asked for.

    Raises:
        ConfigError: for settings that contradict each other.
        InvalidData: if files are bad and `on_error` is stop (exit code 2).
        OutputError: if the folder cannot be written or holds something else.
    """
    _Preparation(job.config, job.folder, HydraConfig.get().overrides.task).run()


def check_preparation(config: DictConfig, overrides: Sequence[str]) -> None:
    """Refuse what can be refused without looking at scans.

    Raises:
        ConfigError: for settings that contradict each other, or that there are not.
    """
    _Preparation(config, Path(), overrides).check_settings()


class _Preparation:
    """One run of the verb."""

    def __init__(self, config: DictConfig, folder: Path, overrides: Sequence[str]) -> None:
        self.config, self.overrides = config, overrides
        self.synthetic = self.config.synthetic.scans is not None
        self._check_one_input()
        self.format = self._format()
        if not self.config.output and not self.config.validate:
            raise ConfigError("no output folder is given", where="output", remedy="Name it: output=DIR.")
        self.output = Path(str(self.config.output)).expanduser() if self.config.output else folder
        if self.config.on_error not in ("stop", "skip"):
            raise ConfigError(f"there is no {self.config.on_error!r}", where="on_error", remedy="Use stop or skip.")
        self.label_map = LabelMap.load(self.config.labels)
        with refused_values("check"):
            limits = plain(self.config.check)
            self.allow_gaps = bool(limits.pop("allow_gaps"))
            self.check = ScanCheck(self.label_map, **limits)

    def check_settings(self) -> None:
        """What is looked at before the first scan."""
        if self.synthetic:
            SyntheticSequences(**plain(self.config.synthetic))
        if self.format == "packed":
            self._pack_settings()

    def run(self) -> None:
        """Do it, and say where the result is."""
        check_writable(self.output, "output" if self.config.output else "hydra.run.dir")
        began = time.perf_counter()
        if self.config.validate:
            self._validate_only()
        elif self.format == "raw":
            self._write_raw()
        elif self.format == "packed":
            self._pack(began)
        else:
            self._export(began)

    # ---- what is asked for -----------------------------------------------------------------------------------

    def _check_one_input(self) -> None:
        named = [line.split("=")[0].lstrip("+") for line in self.overrides]
        if self.config.input and any(name.startswith("synthetic.") for name in named):
            raise ConfigError(
                "both input and synthetic scans are asked for",
                where="input",
                remedy="Give input=DIR, or synthetic.scans=N.",
            )
        if not self.config.input and not self.synthetic:
            raise ConfigError(
                "nothing to prepare is given", where="input", remedy="Give input=DIR, or synthetic.scans=N."
            )

    def _format(self) -> str:
        form = self.config.format
        if form == "auto":
            return "raw" if self.synthetic else "packed"
        if form not in FORMATS:
            raise ConfigError(f"there is no format {form!r}", where="format", remedy=f"Use {', '.join(FORMATS)}.")
        if form == "raw" and not self.synthetic:
            raise ConfigError(
                "the raw layout is written of synthetic scans only",
                where="format=raw",
                remedy="Use packed, parquet or csv.",
            )
        return str(form)

    def _source(self) -> ScanSource:
        config = self.config
        if self.synthetic:
            return SyntheticSequences(**plain(config.synthetic))
        sequences = None if config.sequences is None else list(config.sequences)
        if is_store(config.input):
            store = PackedStore(str(config.input))
            store.require_labels(self.label_map)
            if config.keyframes.distance is not None:
                raise ConfigError("keyframes are chosen from raw scans", where="keyframes.distance")
            return PackedScans(store, sequences)
        return SemanticKITTIScans(
            config.input,
            sequences,
            labelled=None,
            remission_scale=config.remission_scale,
            columns=tuple(config.columns),
            keyframe_distance=config.keyframes.distance,
            check_sizes=config.on_error == "stop",
        )

    # ---- checking --------------------------------------------------------------------------------------------

    def _validated(self) -> ValidationReport:
        """The report of the raw files, written beside the result."""
        config = self.config
        root = find_sequences(config.input)
        known = root.parent / MANIFEST if root.name == "sequences" else root / MANIFEST
        manifest = config.manifest or (known if known.is_file() else None)
        report = validate(
            config.input,
            self.label_map,
            sequences=None if config.sequences is None else list(config.sequences),
            columns=tuple(config.columns),
            remission_scale=config.remission_scale,
            manifest=None if manifest is None else Path(str(manifest)).expanduser(),
            check=self.check,
            allow_gaps=self.allow_gaps,
            processes=config.processes,
            progress=progress_bar("checking"),
        )
        written = report.write(self.output)
        if report.ok:
            entries = {row.path: Entry(row.bytes, row.sha256) for row in report.files if row.sha256 is not None}
            written.append(Manifest(entries).write(self.output / MANIFEST))
        self._say(report.findings)
        log.info("%s", report.summary)
        for path in written:
            log.info("  %s", path)
        return report

    def _validate_only(self) -> None:
        if self.synthetic:
            raise ConfigError("synthetic scans need no validation", where="validate", remedy="Give input=DIR.")
        if is_store(self.config.input):
            store = PackedStore(str(self.config.input))
            damaged = store.damaged(progress_bar("checking"))
            if damaged:
                raise InvalidData(
                    f"{counted(len(damaged), 'file')} of the store {'is' if len(damaged) == 1 else 'are'} damaged: "
                    f"{', '.join(damaged[:8])}",
                    where=store.root,
                    remedy="Copy the store again, or pack the data again.",
                )
            files, scans = counted(len(store.header.files), "file"), counted(store.header.scans, "scan")
            log.info("%s of %s: every SHA-256 is right", files, scans)
            return
        self._refuse(self._validated().findings)

    def _refuse(self, findings: list[Finding]) -> None:
        bad = sorted({finding.file for finding in findings if finding.is_error})
        if bad:
            raise InvalidData(
                f"{counted(len(bad), 'file')} cannot be used",
                where=self.output / "validation.html",
                remedy="Mend or replace them; on_error=skip packs the others.",
            )

    @staticmethod
    def _say(findings: list[Finding]) -> None:
        for line in finding_lines([finding for finding in findings if finding.level != "note"]):
            log.info("%s", line)

    # ---- results ---------------------------------------------------------------------------------------------

    def _write_raw(self) -> None:
        settings = plain(self.config.synthetic)
        began = time.perf_counter()
        write_sequences(self.output, progress=progress_bar("writing"), processes=self.config.processes, **settings)
        Manifest.of(self.output).write(self.output / MANIFEST)
        seconds = time.perf_counter() - began
        size = sum(file.stat().st_size for file in self.output.rglob("*.bin"))
        log.info(
            "Wrote %s (%.0f MB of points) into %s in %s, %.1f scans/s",
            counted(settings["scans"], "scan"),
            size / 1e6,
            self.output,
            duration(seconds),
            settings["scans"] / seconds,
        )
        self._say_train()

    def _pack(self, began: float) -> None:
        # an interrupted run had validated all files before it began to pack
        if not self.synthetic and not is_store(self.config.input) and not (self.output / IN_PROGRESS).is_file():
            report = self._validated()
            if self.config.on_error == "stop":
                self._refuse(report.findings)
        source = self._source()
        try:
            result = pack(
                source,
                self.output,
                self.label_map,
                self._pack_settings(),
                check=self.check,
                processes=self.config.processes,
                progress=progress_bar("packing"),
            )
        except KeyboardInterrupt:
            log.info("The same command goes on where this one stopped.")
            raise
        if result.store is None:
            self._say(result.findings)
            self._refuse(result.findings)
        assert result.store is not None
        store, seconds = result.store, time.perf_counter() - began
        header = store.header
        size = sum(file.bytes for file in header.files)
        packed = header.scans - result.resumed
        log.info(
            "Packed %s with %s into %s: %.0f MB, %s records, %.1f bytes a point; %s, %.1f scans/s",
            counted(header.scans, "scan"),
            counted(header.points, "point"),
            self.output,
            size / 1e6,
            header.record,
            size / max(header.points, 1),
            duration(seconds),
            max(packed, 0) / seconds,
        )
        if result.resumed:
            log.info("  %s were there already", counted(result.resumed, "scan"))
        if len(source) > header.scans:
            log.warning("  %s left out: see validation.html", counted(len(source) - header.scans, "bad scan"))
        if self.config.report:
            exploration = explore(PackedScans(store), self.label_map, progress=progress_bar("exploring"))
            log.info("  %s", write_page(exploration, self.output / "exploration.html"))
        self._say_train()

    def _pack_settings(self) -> PackSettings:
        config = self.config
        features = None
        if config.surroundings is not None:
            with refused_values("surroundings"):
                features = FeatureSpec(**plain(config.surroundings))
        return PackSettings(
            record=config.record,
            features=features,
            keep_raw=config.keep_raw,
            keep_order=config.keep_order,
            shard_scans=config.shard_scans,
            on_error=config.on_error,
        )

    def _export(self, began: float) -> None:
        export: Any = export_parquet if self.format == "parquet" else export_csv
        source = self._source()
        export(source, self.output, self.label_map, progress=progress_bar("writing"))
        seconds = time.perf_counter() - began
        rate = len(source) / seconds
        log.info(
            "Wrote %s into %s in %s, %.1f scans/s", counted(len(source), "scan"), self.output, duration(seconds), rate
        )
        log.info("  %s makes the folder a data asset of type mltable", self.output / "MLTable")

    def _say_train(self) -> None:
        log.info(
            "Train on them: python -m pointseg.train +experiment=kitti data.root=%s", shlex.quote(str(self.output))
        )
