"""Check names, sizes, gaps and pairs of the files of a raw folder in SemanticKITTI's layout, without reading points.

    sequences/SS/velodyne/FFFFFF.bin   labels/FFFFFF.label   poses.txt   calib.txt   times.txt

Frame numbers advance by a constant step: 1 in the full data set, more in a subset. Sequences without a `labels` folder are
unlabelled, like the official test sequences.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pointseg.core.errors import DataError
from pointseg.data.checks.findings import Finding, shown
from pointseg.data.scan import COLUMNS, LABEL_BYTES
from pointseg.data.semantickitti import find_sequences
from pointseg.quality.track_check import TRACKS, check_tracks

__all__ = ["OFFICIAL_SCANS", "Layout", "RawFile", "SequenceLayout", "check_layout"]

#: Scans of the full SemanticKITTI data set by sequence, 43,552 in all (Behley et al., ICCV 2019).
OFFICIAL_SCANS = {
    "00": 4541, "01": 1101, "02": 4661, "03": 801, "04": 271, "05": 2761, "06": 1101, "07": 1101,
    "08": 4071, "09": 1591, "10": 1201, "11": 921, "12": 1061, "13": 3281, "14": 631, "15": 1901,
    "16": 1731, "17": 491, "18": 1801, "19": 4981, "20": 831, "21": 2721,
}  # fmt: skip
COPY_AGAIN = "Copy it again from its source."
NAMED = 10  # missing frames that are named one by one
MOST_MISSING = 10_000  # missing frames of a gap whose label files are searched
DIGITS = 6


@dataclass(frozen=True)
class RawFile:
    """A file of the layout.

    Attributes:
        kind: "scan", "labels", "poses", "calib" or "times".
        stem: the name without the suffix; the frame of a scan or of labels.
        records: number of points or labels by the size; None for a text file, or if the size is wrong.
    """

    path: Path
    kind: str
    stem: str
    bytes: int
    records: int | None = None


@dataclass
class SequenceLayout:
    """The files of one sequence; `labelled` if it has a `labels` folder."""

    name: str
    folder: Path
    labelled: bool = False
    scans: dict[str, RawFile] = field(default_factory=dict)
    labels: dict[str, RawFile] = field(default_factory=dict)
    tracks: list[RawFile] = field(default_factory=list)

    @property
    def files(self) -> list[RawFile]:
        """Scans, labels, then text files, each in order."""
        return [*(files[stem] for files in (self.scans, self.labels) for stem in sorted(files)), *self.tracks]


@dataclass
class Layout:
    """The result of `check_layout`: the folder of the sequences, the sequences, and what is wrong."""

    folder: Path
    sequences: list[SequenceLayout]
    findings: list[Finding]


def check_layout(
    root: str | Path,
    sequences: Sequence[str | int] | None = None,
    *,
    columns: int = len(COLUMNS),
    allow_gaps: bool = False,
) -> Layout:
    """List the files of some sequences and find what is wrong with them without reading points.

    Args:
        root: the data set's folder (see `find_sequences`).
        sequences: names or numbers; None for all.
        columns: float32 values of a point.
        allow_gaps: allow frame numbers that do not advance by a constant step.

    Raises:
        DataError: if the folder does not exist or has no sequences. Everything else is a finding.

    Example:
        >>> [finding.what for finding in check_layout("semantickitti").findings]
        []
    """
    try:
        folder = find_sequences(root)
        present = sorted(child.name for child in folder.iterdir() if child.is_dir())
    except OSError as error:
        what = f"the data folder cannot be read ({error.strerror})"
        raise DataError(what, where=root, remedy="Check its permissions.") from error
    layout = Layout(folder, [], [])
    if sequences is None:
        chosen = [name for name in present if _is_sequence(folder / name)]
    else:
        chosen = list(dict.fromkeys(f"{s:02d}" if isinstance(s, int) else str(s) for s in sequences))
    for name in chosen:
        check = _Check(folder / name, columns, allow_gaps)
        try:
            check.run(wanted=sequences is not None)
        except OSError as error:
            where = error.filename or folder / name
            check.find("unreadable", where, f"cannot be read ({error.strerror})", "Check its permissions.")
        layout.sequences.append(check.sequence)
        layout.findings += check.findings
    return layout


def _is_sequence(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("velodyne", "labels", "poses.txt"))


class _Check:
    """The check of one sequence."""

    def __init__(self, folder: Path, columns: int, allow_gaps: bool) -> None:
        self.sequence = SequenceLayout(folder.name, folder)
        self.columns, self.allow_gaps = columns, allow_gaps
        self.findings: list[Finding] = []
        self.misnamed: set[str] = set()  # file names unlike the others

    def find(self, kind: str, file: object, what: str, remedy: str, level: str = "error", or_file: object = "") -> None:
        self.findings.append(Finding(level, kind, shown(file), what, remedy, shown(or_file)))

    def run(self, *, wanted: bool) -> None:
        """List the files and check names, sizes, gaps, pairs and text files; `wanted` if the user named the sequence."""
        sequence, folder = self.sequence, self.sequence.folder
        velodyne, labels = folder / "velodyne", folder / "labels"
        if not velodyne.is_dir():
            what = "the sequence has no velodyne folder"
            level = "error" if wanted or velodyne.exists() else "warning"  # labels are published for all sequences
            self.find("missing folder", velodyne, what, "Copy its scans, or leave the sequence out.", level=level)
            return
        sequence.labelled = labels.is_dir()
        if labels.exists() and not sequence.labelled:
            self.find("not a folder", labels, "a file where a folder should be", COPY_AGAIN)
        scan_names = self._list(velodyne, ".bin", "scan")
        if not scan_names:
            what, remedy = "the sequence has no .bin files", "Check that the download is complete."
            self.find("missing file", velodyne, what, remedy)
        label_names = self._list(labels, ".label", "labels") if sequence.labelled else set()
        frames = self._names(velodyne, scan_names, ".bin")
        self._names(labels, label_names, ".label")
        self._sizes(sequence.labels, LABEL_BYTES)
        if not self._other_columns():
            self._sizes(sequence.scans, 4 * self.columns)
        known = self._gaps(frames, label_names)
        if sequence.labelled and scan_names:
            self._pairs(scan_names, label_names, known)
        self._tracks(max(frames, default=-1))

    def _list(self, folder: Path, suffix: str, kind: str) -> set[str]:
        """Collect the files of a folder and report anything else; returns all names without their suffix."""
        stems, others = set(), []
        files = self.sequence.scans if kind == "scan" else self.sequence.labels
        for path in sorted(folder.iterdir()):
            name = path.name
            if not name.endswith(suffix):
                others.append(name)
                continue
            stem = name.removesuffix(suffix)
            stems.add(stem)
            if (file := self._file(path, kind, stem)) is not None:
                files[stem] = file
        if others:
            what = f"{len(others)} files here are not {suffix} files, the first is {shown(others[0])}"
            self.find("unknown file", folder, what, "They are not read; move them elsewhere.", level="warning")
        return stems

    def _sizes(self, files: dict[str, RawFile], record: int) -> None:
        """Fill in how many records each file has; report those that are empty or cut off."""
        for stem, file in files.items():
            if file.path.name in self.misnamed:
                continue  # reported already by its name
            if file.bytes == 0:
                noun = "label" if file.kind == "labels" else "point"
                self.find("empty file", file.path, f"the {noun} file is empty", COPY_AGAIN)
            elif file.bytes % record:
                what = f"{file.bytes} bytes is not a multiple of the {record} bytes of one record"
                self.find("cut off", file.path, what, "The file is cut off or of another format; copy it again.")
            else:
                files[stem] = replace(file, records=file.bytes // record)

    def _other_columns(self) -> bool:
        """Whether every scan has the same wrong number of values a label: one finding for all of them."""
        scans, labels = self.sequence.scans, self.sequence.labels
        ratios = {divmod(scans[stem].bytes, max(labels[stem].bytes, 1)) for stem in scans.keys() & labels.keys()}
        (values, rest), *others = ratios or {(0, 0)}
        if others or rest or len(scans) < 2 or values == self.columns or not 3 <= values <= 16:
            return False
        what = f"every scan has {values} values of 4 bytes for each label, not {self.columns}"
        remedy = "Name all columns of the files; values of 8 bytes must be written again as float32."
        self.find("columns", self.sequence.folder / "velodyne", what, remedy)
        return True

    def _file(self, path: Path, kind: str, stem: str) -> RawFile | None:
        try:
            status = path.stat()
        except OSError as error:
            what = "a link to a file that is not there" if path.is_symlink() else f"cannot be read ({error.strerror})"
            self.find("unreadable", path, what, COPY_AGAIN)
            return None
        if stat.S_ISREG(status.st_mode):
            return RawFile(path, kind, stem, status.st_size)
        what = "a folder where a file should be" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        self.find("not a file", path, what, COPY_AGAIN)
        return None

    def _names(self, folder: Path, stems: set[str], suffix: str) -> dict[int, str]:
        """Frame number -> name; names that are not frame numbers are reported."""
        digits = [stem for stem in stems if stem.isascii() and stem.isdigit()]
        widths = Counter(map(len, digits))
        usual = max(widths, key=lambda width: (widths[width], width == DIGITS), default=DIGITS)
        good = {stem for stem in digits if len(stem) == usual}
        if good and usual != DIGITS:
            what = f"frames are named by {usual} digits, not {DIGITS}"
            self.find("file name", folder, what, "Rename them as 000000, 000001, ...", level="warning")
        remedy = f"Name it by its frame number in {usual} digits, as {0:0{usual}d}{suffix}, or move it elsewhere."
        bad = sorted(stems - good)
        if bad and not good:
            self.find("file name", folder, f"no {suffix} file is named by its frame number", remedy)
        else:
            self.misnamed |= {f"{stem}{suffix}" for stem in bad}
            reported = {finding.file for finding in self.findings}
            what = f"the name is not a frame number of {usual} digits"
            for path in (folder / f"{stem}{suffix}" for stem in bad):
                if shown(path) not in reported:
                    self.find("file name", path, what, remedy)
        return {int(stem): stem for stem in sorted(good)}

    def _gaps(self, frames: dict[int, str], label_names: set[str]) -> set[str]:
        """Report gaps and frames off the step; returns names of frames whose missing partner this explains."""
        numbers = sorted(frames)
        if self.allow_gaps or len(numbers) < 3:
            return set()
        remedy = "Copy what is missing; if the folder is a selection of frames, set allow_gaps=true."
        steps = Counter(later - earlier for earlier, later in itertools.pairwise(numbers))
        step = min(steps, key=lambda size: (-steps[size], size))
        phase = Counter(number % step for number in numbers).most_common(1)[0][0]
        on_step = [number for number in numbers if number % step == phase]
        known = {frames[number] for number in numbers if number % step != phase}
        for stem in sorted(known):
            what = f"frames advance by {step} from {on_step[0]}, this one is off that step"
            self.find("frame gap", self._scan_path(stem), what, remedy)
        width = len(frames[numbers[0]])
        for earlier, later in itertools.pairwise(on_step):
            missing, count = range(earlier + step, later, step), (later - earlier) // step - 1
            if count == 0:
                continue
            names = ", ".join(map(str, missing[:NAMED])) + (", ..." if count > NAMED else "")
            what = f"frames {names} are missing ({count})" if count > 1 else f"frame {names} is missing"
            labelled = {stem for n in missing[:MOST_MISSING] if (stem := f"{n:0{width}d}") in label_names}
            if labelled:
                what += ", its label file is there" if count == 1 else f", {len(labelled)} label files are there"
            self.find("frame gap", self._scan_path(f"{missing[0]:0{width}d}"), what, remedy)
            known |= labelled
        return known

    def _scan_path(self, stem: str) -> Path:
        return self.sequence.folder / "velodyne" / f"{stem}.bin"

    def _pairs(self, scan_names: set[str], label_names: set[str], known: set[str]) -> None:
        """Report scans without labels and labels without a scan, except for `known` frames."""
        labels = self.sequence.folder / "labels"
        if not label_names:
            remedy = "Copy the label files, or remove the folder if the sequence has none."
            self.find("missing file", labels, "the sequence's labels folder has no .label files", remedy)
            return
        known = known | {name.rpartition(".")[0] for name in self.misnamed}
        for stem in sorted(scan_names - label_names - known):
            what, remedy = "the label file of a scan is missing", "Copy the labels again, or remove the scan."
            self.find("missing file", labels / f"{stem}.label", what, remedy)
        for stem in sorted(label_names - scan_names - known):
            what, remedy = "there is no scan for this label file", "Copy the scan again, or remove the label file."
            self.find("no scan", labels / f"{stem}.label", what, remedy, or_file=self._scan_path(stem))

    def _tracks(self, last_frame: int) -> None:
        present = {}
        for kind in TRACKS:
            path = self.sequence.folder / f"{kind}.txt"
            if os.path.lexists(path) and (file := self._file(path, kind, kind)) is not None:
                self.sequence.tracks.append(file)
                present[kind] = path
        self.findings += check_tracks(present, self.sequence.folder, last_frame)
