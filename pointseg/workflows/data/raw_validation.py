"""The checks before `prepare` packs: of raw files, or of the checksums of a packed store."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pointseg.core.errors import InvalidData
from pointseg.core.files import expanded
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Progress
from pointseg.core.text import counted
from pointseg.data.checks.findings import Finding, finding_lines
from pointseg.data.checks.scan_check import ScanCheck
from pointseg.data.semantickitti import find_sequences
from pointseg.data.store import PackedStore
from pointseg.pages.validation_page import write_validation
from pointseg.quality.manifest import MANIFEST, Entry, Manifest
from pointseg.quality.validation import validate
from pointseg.quality.validation_report import ValidationReport
from pointseg.workflows.settings.prepare import CheckConfig, PrepareConfig

__all__ = ["check_store", "log_findings", "refuse_errors", "scan_check", "validate_raw"]

log = logging.getLogger(__name__)


def scan_check(limits: CheckConfig, label_map: LabelMap) -> ScanCheck:
    """The check of each scan's values; raises ConfigError for a limit that is not positive."""
    return ScanCheck(label_map, limits.max_range, limits.max_height)


def validate_raw(
    config: PrepareConfig, label_map: LabelMap, folder: Path, progress: Progress
) -> tuple[ValidationReport, list[Path]]:
    """Check the raw files of `input`; the report, and the files written about it into a folder.

    Raises:
        DataError: if there are no sequences.
    """
    root = find_sequences(config.input)
    known = root.parent / MANIFEST if root.name == "sequences" else root / MANIFEST
    manifest = expanded(config.manifest) if config.manifest else known if known.is_file() else None
    report = validate(
        str(config.input),
        label_map,
        sequences=config.sequences,
        columns=tuple(config.columns),
        remission_scale=config.remission_scale,
        manifest=manifest,
        check=scan_check(config.check, label_map),
        allow_gaps=config.check.allow_gaps,
        processes=config.processes,
        progress=progress("checking"),
    )
    written = write_validation(report, folder)
    if report.ok:
        entries = {row.path: Entry(row.bytes, row.sha256) for row in report.files if row.sha256 is not None}
        written.append(Manifest(entries).write(folder / MANIFEST))
    log_findings(report.findings)
    log.info("%s", report.summary)
    for path in written:
        log.info("  %s", path)
    return report, written


def check_store(store: PackedStore, progress: Progress) -> None:
    """Compare every file of a packed store with its SHA-256.

    Raises:
        InvalidData: naming those that are damaged.
    """
    damaged = store.damaged(progress("checking"))
    if damaged:
        raise InvalidData(
            f"{counted(len(damaged), 'file')} of the store {'is' if len(damaged) == 1 else 'are'} damaged: "
            f"{', '.join(damaged[:8])}",
            where=store.root,
            remedy="Copy the store again, or pack the data again.",
        )
    files, scans = counted(len(store.header.files), "file"), counted(store.header.scans, "scan")
    log.info("%s of %s: every SHA-256 is right", files, scans)


def refuse_errors(findings: Sequence[Finding], folder: Path) -> None:
    """Refuse bad files.

    Args:
        folder: of the validation's pages.

    Raises:
        InvalidData: saying how many (exit code 2).
    """
    bad = {finding.file for finding in findings if finding.is_error}
    if bad:
        raise InvalidData(
            f"{counted(len(bad), 'file')} cannot be used",
            where=folder / "validation.html",
            remedy="Repair or replace them; on_error=skip packs the others.",
        )


def log_findings(findings: Sequence[Finding]) -> None:
    """Log errors and warnings, line by line."""
    for line in finding_lines([finding for finding in findings if finding.level != "note"]):
        log.info("%s", line)
