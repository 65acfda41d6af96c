"""Find files that are copies of others or do not belong together: faults that one file alone does not show.

Sizes show that a scan and its label file do not fit, not which of the two is wrong. Other evidence decides: a fault of its
own, bytes that are those of another frame, a manifest that vouches for it; else the shorter one is blamed, since files are
cut off more often than they grow. If nothing decides, as with two files swapped, the finding names both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointseg.data.checks.findings import Finding, shown
from pointseg.quality.frame_check import FrameResult
from pointseg.quality.layout_check import RawFile, SequenceLayout

__all__ = ["find_copies", "find_misfits", "find_short_scans", "vouched"]

COPY_BOTH = "Scan and label file do not belong together; copy both again."
COPY_AGAIN = "Copy it again from its source."
TAIL = 1 << 16  # bytes of a longer file that are read


def find_copies(
    sequences: Sequence[SequenceLayout], results: Mapping[tuple[str, str], FrameResult], bad: set[str]
) -> list[Finding]:
    """Scans that are copies of another scan of any sequence, and label files that are copies of another one of their
    sequence; files in `bad` are left out.
    """
    scans: dict[str, list[tuple[SequenceLayout, RawFile]]] = defaultdict(list)
    labels: dict[tuple[str, str], list[tuple[SequenceLayout, RawFile]]] = defaultdict(list)
    for sequence in sequences:
        for stem in sorted({*sequence.scans, *sequence.labels}):
            frame = results[sequence.name, stem]
            scan, label = sequence.scans.get(stem), sequence.labels.get(stem)
            if scan and scan.records and frame.scan_sha256 and shown(scan.path) not in bad:
                scans[frame.scan_sha256].append((sequence, scan))
            if label and label.records and frame.labels_sha256 and not frame.one_label and shown(label.path) not in bad:
                labels[sequence.name, frame.labels_sha256].append((sequence, label))
    groups = (*scans.values(), *labels.values())
    return [finding for group in groups if len(group) > 1 for finding in _copies(group)]


def _copies(group: list[tuple[SequenceLayout, RawFile]]) -> list[Finding]:
    """One finding for each copy. The original is the only file that fits its partner, or else the first."""
    fitting = [(sequence, file) for sequence, file in group if _fits(sequence, file)]
    sure = len(fitting) == 1
    original = fitting[0][1] if sure else group[0][1]
    findings = []
    for _, file in group:
        if file is original:
            continue
        near = original.path.parent == file.path.parent
        other = original.path.name if near else Path(*original.path.parts[-3:])
        what = f"the bytes are those of {'label file' if file.kind == 'labels' else 'scan'} {other}"
        # equal labels that fit different points are odd, but not an error
        level = "warning" if file.kind == "labels" and not sure else "error"
        kind = "duplicate" if file.kind == "scan" else "labels of another scan"
        or_file = "" if sure else shown(original.path)
        findings.append(Finding(level, kind, shown(file.path), what, COPY_AGAIN, or_file))
    return findings


def _fits(sequence: SequenceLayout, file: RawFile) -> bool:
    """Whether the frame's other file exists and has the right length."""
    other = (sequence.scans if file.kind == "labels" else sequence.labels).get(file.stem)
    return other is not None and other.records == file.records


def find_misfits(sequence: SequenceLayout, columns: int, bad: set[str]) -> list[Finding]:
    """Scans and label files of different lengths, unless one of them is in `bad`."""
    misfits: dict[str, tuple[RawFile, RawFile]] = {}
    for stem, scan in sorted(sequence.scans.items()):
        labels = sequence.labels.get(stem)
        if labels is None or None in (scan.records, labels.records) or scan.records == labels.records:
            continue
        if not {shown(scan.path), shown(labels.path)} & bad:
            misfits[stem] = (scan, labels)
    points = {scan.records for scan, _ in misfits.values()}
    return [_misfit(scan, labels, columns, swapped=labels.records in points) for scan, labels in misfits.values()]


def _misfit(scan: RawFile, labels: RawFile, columns: int, *, swapped: bool) -> Finding:
    points, count = scan.records or 0, labels.records or 0
    what = f"{points} points, {count} labels"

    def finding(file: RawFile, reason: str, remedy: str = COPY_AGAIN, kind: str = "label count") -> Finding:
        other = labels if file is scan else scan
        return Finding("error", kind, shown(file.path), f"{what}: {reason}", remedy, shown(other.path))

    if swapped:
        reason = "the labels fit another scan, so scans or label files were swapped"
        return finding(labels, reason, COPY_BOTH, "swapped")
    if count == 2 * points and _every_second_is_zero(labels.path):
        return finding(labels, "64-bit labels", "Write them as uint32.", "wrong dtype")
    if points in (2 * count, 4 * count):
        return finding(labels, f"cut off, or {32 * count // points}-bit labels", "Copy them again; labels are uint32.")
    longer, wanted = (scan, count * 4 * columns) if points > count else (labels, points * 4)
    if _ends_in_zeros(longer.path, wanted):
        return finding(longer, "the rest of it is zero bytes")
    shorter = labels if longer is scan else scan
    return finding(shorter, f"cut off, or its {'scan' if shorter is labels else 'label file'} is too long")


def _every_second_is_zero(path: Path) -> bool:
    try:
        return not np.fromfile(path, "<u4")[1::2].any()
    except OSError:
        return False


def _ends_in_zeros(path: Path, start: int) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return not any(file.read(TAIL))
    except OSError:
        return False


def find_short_scans(sequence: SequenceLayout, bad: set[str]) -> list[Finding]:
    """Scans with less than half of the points that are usual in their sequence, which may be cut off."""
    counts = [scan.records for scan in sequence.scans.values() if scan.records is not None]
    if len(counts) < 4:
        return []
    usual = float(np.median(counts))
    findings = []
    for _, scan in sorted(sequence.scans.items()):
        if scan.records is not None and scan.records < usual / 2 and shown(scan.path) not in bad:
            what = f"{scan.records} points, where {usual:.0f} are usual in the sequence"
            remedy = "Check whether the file was cut off."
            findings.append(Finding("warning", "few points", shown(scan.path), what, remedy))
    return findings


def vouched(findings: Sequence[Finding], good: set[str]) -> list[Finding]:
    """The findings, without suspicion of a file that the manifest vouches for (`good`)."""
    narrowed = []
    for finding in findings:
        if finding.or_file and finding.or_file in good:
            finding = replace(finding, or_file="")
        elif finding.or_file and finding.file in good:
            name = Path(finding.file).name
            what = f"{finding.what} (found at {name}, which matches the manifest)"
            finding = replace(finding, file=finding.or_file, or_file="", what=what)
        narrowed.append(finding)
    return narrowed
