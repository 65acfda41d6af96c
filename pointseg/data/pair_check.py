"""Which files do not belong together, or are there twice: faults that one file alone does not show.

Sizes say that a scan and its label file do not fit, not which of the two is wrong. What is known of either decides: its own
faults, its bytes being those of another frame, a manifest that vouches for it; else the shorter one, which is cut off more
likely than the longer one has grown. Where nothing decides, as with two files swapped, a finding names both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pointseg.data.checking import Finding, shown
from pointseg.data.frame_check import Seen
from pointseg.data.layout_check import RawFile, SequenceLayout

__all__ = ["find_copies", "find_misfits", "find_short_scans", "vouched"]

COPY_BOTH = "Scan and label file do not belong together; copy both again."
COPY_AGAIN = "Copy it again from its source."
TAIL = 1 << 16  # bytes of a longer file that are looked at


def find_copies(
    sequences: Sequence[SequenceLayout], seen: Mapping[tuple[str, str], Seen], bad: set[str]
) -> list[Finding]:
    """Scans whose bytes are those of another scan, of any sequence, and label files whose bytes are those of another one of
    their sequence.

    Args:
        sequences: the files.
        seen: what reading gave, by sequence and frame.
        bad: files that are left out.
    """
    scans: dict[str, list[tuple[SequenceLayout, RawFile]]] = defaultdict(list)
    labels: dict[tuple[str, str], list[tuple[SequenceLayout, RawFile]]] = defaultdict(list)
    for sequence in sequences:
        for stem in sorted({*sequence.scans, *sequence.labels}):
            frame = seen[sequence.name, stem]
            scan, label = sequence.scans.get(stem), sequence.labels.get(stem)
            if scan and scan.records and frame.scan_sha256 and shown(scan.path) not in bad:
                scans[frame.scan_sha256].append((sequence, scan))
            if label and label.records and frame.labels_sha256 and not frame.one_label and shown(label.path) not in bad:
                labels[sequence.name, frame.labels_sha256].append((sequence, label))
    findings = []
    for group in (*scans.values(), *labels.values()):
        if len(group) > 1:
            findings += _copies(group)
    return findings


def _copies(group: list[tuple[SequenceLayout, RawFile]]) -> list[Finding]:
    """One finding for each copy. The original is the one that fits its partner, if only one does; else the first."""
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
        # equal labels under different points that fit are odd, and no more
        level = "warning" if file.kind == "labels" and not sure else "error"
        kind = "duplicate" if file.kind == "scan" else "labels of another scan"
        or_file = "" if sure else shown(original.path)
        findings.append(Finding(level, kind, shown(file.path), what, COPY_AGAIN, or_file))
    return findings


def _fits(sequence: SequenceLayout, file: RawFile) -> bool:
    """Whether the other file of its frame is there and of the right length."""
    other = (sequence.scans if file.kind == "labels" else sequence.labels).get(file.stem)
    return other is not None and other.records == file.records


def find_misfits(sequence: SequenceLayout, columns: int, bad: set[str]) -> list[Finding]:
    """Scans and label files of different lengths, where neither is in `bad` already."""
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

    def finding(file: RawFile, said: str, remedy: str = COPY_AGAIN, kind: str = "label count") -> Finding:
        other = labels if file is scan else scan
        return Finding("error", kind, shown(file.path), f"{what}: {said}", remedy, shown(other.path))

    if swapped:
        said = "the labels fit another scan, so scans or label files have changed places"
        return finding(labels, said, COPY_BOTH, "swapped")
    if count == 2 * points and _every_second_is_zero(labels.path):
        return finding(labels, "64-bit labels", "Write them as uint32.", "wrong dtype")
    if points in (2 * count, 4 * count):
        return finding(labels, f"cut off, or {32 * count // points}-bit labels", "Copy them again; labels are uint32.")
    longer, wanted = (scan, count * 4 * columns) if points > count else (labels, points * 4)
    if _ends_in_zeros(longer.path, wanted):
        return finding(longer, "it goes on with zero bytes")
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
    """Scans with less than half of the points that are usual in their sequence: cut off, where no labels tell."""
    counts = [scan.records for scan in sequence.scans.values() if scan.records is not None]
    if len(counts) < 4:
        return []
    usual = float(np.median(counts))
    return [
        Finding(
            "warning",
            "few points",
            shown(scan.path),
            f"{scan.records} points, where {usual:.0f} are usual in the sequence",
            "Look whether the file was cut off.",
        )
        for _, scan in sorted(sequence.scans.items())
        if scan.records is not None and scan.records < usual / 2 and shown(scan.path) not in bad
    ]


def vouched(findings: Sequence[Finding], good: set[str]) -> list[Finding]:
    """The findings, with files of a pair taken out of suspicion where a manifest vouches for them (`good`)."""
    narrowed = []
    for finding in findings:
        if finding.or_file and finding.or_file in good:
            finding = replace(finding, or_file="")
        elif finding.or_file and finding.file in good:
            name = Path(finding.file).name
            what = f"{finding.what} (seen at {name}, which is the manifest's)"
            finding = replace(finding, file=finding.or_file, or_file="", what=what)
        narrowed.append(finding)
    return narrowed
