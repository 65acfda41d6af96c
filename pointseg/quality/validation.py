"""Validate every file of a raw data set: structure, contents, copies, manifest.

Each fault is blamed on one file, once: a file of the wrong size is not read, a file with a fault of its own is not compared
with others, and a difference from the manifest is omitted if the file alone has shown the fault.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.labels import LabelMap
from pointseg.core.progress import Update
from pointseg.data.checks.findings import LEVELS, Finding, finding_of, shown
from pointseg.data.checks.scan_check import ScanCheck
from pointseg.data.scan import COLUMNS
from pointseg.quality.frame_check import FrameFiles, FrameReader, FrameResult, read_frames
from pointseg.quality.layout_check import OFFICIAL_SCANS, Layout, SequenceLayout, check_layout
from pointseg.quality.manifest import Entry, Manifest, file_sha256, manifest_name
from pointseg.quality.pair_check import find_copies, find_misfits, find_short_scans, vouched
from pointseg.quality.validation_report import FileRow, SequenceRow, ValidationReport

__all__ = ["validate"]


def validate(
    root: str | Path,
    label_map: LabelMap,
    *,
    sequences: Sequence[str | int] | None = None,
    columns: Sequence[str] = COLUMNS,
    remission_scale: float = 1.0,
    manifest: Manifest | str | Path | None = None,
    check: ScanCheck | None = None,
    allow_gaps: bool = False,
    processes: int | None = None,
    progress: Update | None = None,
) -> ValidationReport:
    """Read every scan and label file and report what is wrong, without stopping at the first fault.

    Args:
        root: the data set's folder (see `find_sequences`).
        label_map: must know every raw id.
        sequences: names or numbers; None for all.
        columns: of a `.bin` file, x, y, z, remission first.
        remission_scale: remission is divided by it.
        manifest: what the files must be, or the path of a `manifest.json`; None to skip the comparison.
        check: limits of what a sensor sees; None for the usual ones.
        allow_gaps: allow frame numbers that do not advance by a constant step.
        processes: None uses all cores.

    Raises:
        DataError: if the folder does not exist or has no sequences. Bad files are findings.
        ConfigError: for impossible columns or scale.

    Example:
        >>> report = validate("subset", LabelMap.load("semantickitti"))
        >>> report.ok, report.points
        (True, 5197859)
    """
    began = time.perf_counter()
    if tuple(columns[: len(COLUMNS)]) != COLUMNS or not remission_scale > 0:
        raise ConfigError(
            f"columns {', '.join(columns)}, remission divided by {remission_scale:g}",
            where="columns, remission_scale",
            remedy=f"Columns begin with {', '.join(COLUMNS)}; the scale is 1 or 255.",
        )
    layout = check_layout(root, sequences, columns=len(columns), allow_gaps=allow_gaps or manifest is not None)
    reader = FrameReader(check or ScanCheck(label_map), len(columns), float(remission_scale))
    run = _Validation(layout, label_map, len(columns), _read(layout, reader, processes, progress))
    run.check()
    if manifest is not None:
        run.compare(manifest, whole=sequences is None)
    findings = sorted(run.findings, key=lambda finding: (LEVELS.index(finding.level), finding.file, finding.kind))
    return ValidationReport(
        root=shown(root),
        label_map=label_map,
        columns=tuple(columns),
        files=run.files(),
        sequences=run.rows(),
        findings=findings,
        scan_counts=run.scan_counts(),
        with_manifest=manifest is not None,
        seconds=time.perf_counter() - began,
    )


def _read(
    layout: Layout, reader: FrameReader, processes: int | None, progress: Update | None
) -> dict[tuple[str, str], FrameResult]:
    """The result of reading each frame, by sequence and frame."""
    frames = {
        (sequence.name, stem): FrameFiles(sequence.scans.get(stem), sequence.labels.get(stem))
        for sequence in layout.sequences
        for stem in sorted({*sequence.scans, *sequence.labels})
    }
    results = {}
    for key, result in zip(frames, read_frames(reader, list(frames.values()), processes), strict=True):
        results[key] = result
        if progress:
            progress(len(results), len(frames))
    return results


class _Validation:
    """Collects the findings about a layout whose frames have been read."""

    def __init__(
        self, layout: Layout, label_map: LabelMap, columns: int, results: dict[tuple[str, str], FrameResult]
    ) -> None:
        self.layout, self.label_map, self.columns, self.results = layout, label_map, columns, results
        self.findings = list(layout.findings)
        self.official = OFFICIAL_SCANS if label_map.name == "semantickitti" else {}
        self.digests = self._digests()

    def _digests(self) -> dict[Path, str]:
        digests: dict[Path, str] = {}
        for sequence in self.layout.sequences:
            for file in sequence.files:
                digest: str | None = None
                if file.kind in ("scan", "labels"):
                    result = self.results[sequence.name, file.stem]
                    digest = result.scan_sha256 if file.kind == "scan" else result.labels_sha256
                else:
                    try:
                        digest = file_sha256(file.path)
                    except OSError as error:
                        what = f"cannot be read ({error.strerror})"
                        self.findings.append(Finding("error", "unreadable", shown(file.path), what, "Copy it again."))
                if digest:
                    digests[file.path] = digest
        return digests

    @property
    def bad(self) -> set[str]:
        """Files with an error."""
        return {finding.file for finding in self.findings if finding.is_error}

    def check(self) -> None:
        """Collect the faults of single files, then those that files show together."""
        for result in self.results.values():
            self.findings += result.findings
        self.findings += find_copies(self.layout.sequences, self.results, self.bad)
        for sequence in self.layout.sequences:
            self.findings += find_misfits(sequence, self.columns, self.bad)
            self.findings += find_short_scans(sequence, self.bad)
            self._note_size(sequence)

    def _note_size(self, sequence: SequenceLayout) -> None:
        official, scans = self.official.get(sequence.name), len(sequence.scans)
        if official is not None and scans != official:
            what = f"{scans} of the {official} scans of the full data set"
            if scans > official:
                what = f"{scans} scans, where the full data set has {official}"
            self.findings.append(Finding("note", "choice of scans", shown(sequence.folder), what))

    def compare(self, manifest: Manifest | str | Path, *, whole: bool) -> None:
        """Find what differs from the manifest, which also decides between two suspected files."""
        try:
            known = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)
        except DataError as error:
            self.findings.append(finding_of(error))
            return
        folder, now, good = self.layout.folder, {}, set()
        for sequence in self.layout.sequences:
            for file in sequence.files:
                name = manifest_name(file.path, folder)
                now[name] = Entry(file.bytes, self.digests.get(file.path, ""))
                if known.files.get(name) == now[name]:
                    good.add(shown(file.path))
        self.findings = vouched(self.findings, good)
        bad = self.bad
        self.findings += [f for f in known.differences(now, self.layout, whole=whole) if f.file not in bad]

    def files(self) -> list[FileRow]:
        return [
            FileRow(
                path=manifest_name(file.path, self.layout.folder),
                sequence=shown(sequence.name),
                kind=file.kind,
                bytes=file.bytes,
                records=file.records,
                ranges=self.results[sequence.name, file.stem].ranges if file.kind == "scan" else None,
                sha256=self.digests.get(file.path),
            )
            for sequence in self.layout.sequences
            for file in sequence.files
        ]

    def rows(self) -> list[SequenceRow]:
        errors = [f"{finding.file}/" for finding in self.findings if finding.is_error]
        return [
            SequenceRow(
                name=shown(sequence.name),
                scans=len(sequence.scans),
                points=sum(file.records or 0 for file in sequence.scans.values()),
                labelled=len(sequence.scans.keys() & sequence.labels.keys()),
                expected=self.official.get(sequence.name),
                errors=sum(file.startswith(f"{shown(sequence.folder)}/") for file in errors),
            )
            for sequence in self.layout.sequences
        ]

    def scan_counts(self) -> dict[str, list[int]]:
        """ "SEQUENCE/FRAME" -> points by training id, of the frames whose two files fit."""
        counts = {}
        for sequence in self.layout.sequences:
            for stem, scan in sorted(sequence.scans.items()):
                result, labels = self.results[sequence.name, stem], sequence.labels.get(stem)
                if labels is not None and result.class_counts is not None and scan.records == labels.records:
                    counts[f"{shown(sequence.name)}/{shown(stem)}"] = result.class_counts.tolist()
        return counts
