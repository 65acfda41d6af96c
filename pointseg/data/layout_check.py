"""What is wrong with a raw folder in SemanticKITTI's layout, found without reading points: names, sizes, gaps, pairs.

    sequences/SS/velodyne/FFFFFF.bin   labels/FFFFFF.label   poses.txt   calib.txt   times.txt

Frame numbers advance by a constant step, 1 in the whole data set, more in a subset of it. Sequences without a `labels`
folder are unlabelled, as the official test sequences are.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pointseg.data.checking import Finding, shown
from pointseg.data.scan import COLUMNS, LABEL_BYTES
from pointseg.data.semantickitti import find_sequences
from pointseg.data.track_check import TRACKS, check_tracks
from pointseg.errors import DataError

__all__ = ["Layout", "RawFile", "SequenceLayout", "check_layout"]

COPY_AGAIN = "Copy it again from its source."
NAMED = 10  # missing frames that are named one by one
MOST_MISSING = 10_000  # missing frames of one gap whose label files are looked for
DIGITS = 6


@dataclass(frozen=True)
class RawFile:
    """A file of the layout, as its folder lists it.

    Attributes:
        path: where it is.
        kind: "scan", "labels", "poses", "calib" or "times".
        stem: its name without the suffix; of a scan and of its labels it is the frame.
        bytes: its size.
        records: points or labels by its size; None for a text file, or if the size cannot be right.
    """

    path: Path
    kind: str
    stem: str
    bytes: int
    records: int | None = None


@dataclass
class SequenceLayout:
    """The files of one sequence; `labelled`: it has a `labels` folder."""

    name: str
    folder: Path
    labelled: bool = False
    scans: dict[str, RawFile] = field(default_factory=dict)
    labels: dict[str, RawFile] = field(default_factory=dict)
    tracks: list[RawFile] = field(default_factory=list)

    @property
    def files(self) -> list[RawFile]:
        """Scans, labels, then text files, each in order."""
        scans, labels = sorted(self.scans.items()), sorted(self.labels.items())
        return [file for _, file in scans] + [file for _, file in labels] + self.tracks


@dataclass
class Layout:
    """What `check_layout` found: the folder that holds the sequences, the sequences, and what is wrong."""

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
    """List the files of some sequences, None for all, and find what is wrong with them without reading points.

    Args:
        root: the data set's folder (see `find_sequences`).
        sequences: names, or numbers.
        columns: float32 values of a point.
        allow_gaps: frame numbers may advance as they like.

    Raises:
        DataError: if the folder does not exist or has no sequences. All else is a finding.

    Example:
        >>> [finding.what for finding in check_layout("semantickitti").findings]
        []
    """
    try:
        folder = find_sequences(root)
        present = sorted(child.name for child in folder.iterdir() if child.is_dir())
    except OSError as error:
        raise DataError(
            f"the data folder cannot be read ({error.strerror})", where=root, remedy="Check its permissions."
        ) from error
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
    """One sequence."""

    def __init__(self, folder: Path, columns: int, allow_gaps: bool) -> None:
        self.sequence = SequenceLayout(folder.name, folder)
        self.columns, self.allow_gaps = columns, allow_gaps
        self.findings: list[Finding] = []
        self.misnamed: set[str] = set()  # file names that stand out from the others

    def find(
        self, kind: str, file: object, what: str, remedy: str, *, level: str = "error", or_file: object = ""
    ) -> None:
        self.findings.append(Finding(level, kind, shown(file), what, remedy, shown(or_file)))

    def run(self, *, wanted: bool) -> None:
        """List the files and look at names, sizes, gaps, pairs and text files; `wanted`: the sequence was asked for."""
        sequence, folder = self.sequence, self.sequence.folder
        velodyne, labels = folder / "velodyne", folder / "labels"
        if not velodyne.is_dir():
            what = "the sequence has no velodyne folder"
            level = "error" if wanted or velodyne.exists() else "warning"  # labels are handed out for all sequences
            self.find("missing folder", velodyne, what, "Copy its scans, or leave the sequence out.", level=level)
            return
        sequence.labelled = labels.is_dir()
        if labels.exists() and not sequence.labelled:
            self.find("not a folder", labels, "a file where a folder should be", COPY_AGAIN)
        scan_names = self._list(velodyne, ".bin", "scan")
        if not scan_names:
            self.find(
                "missing file", velodyne, "the sequence has no .bin files", "Check that the download is complete."
            )
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

    # ---- names and sizes ----------------------------------------------------------------------------------------

    def _list(self, folder: Path, suffix: str, kind: str) -> set[str]:
        """Names without suffix of what a folder holds; files are noted, what is no file is found."""
        stems, strangers = set(), []
        noted = self.sequence.scans if kind == "scan" else self.sequence.labels
        for path in sorted(folder.iterdir()):
            name = path.name
            if not name.endswith(suffix):
                strangers.append(name)
                continue
            stem = name.removesuffix(suffix)
            stems.add(stem)
            if (file := self._file(path, kind, stem)) is not None:
                noted[stem] = file
        if strangers:
            what = f"{len(strangers)} files here are not {suffix} files, the first is {shown(strangers[0])}"
            self.find("unknown file", folder, what, "They are not read; move them elsewhere.", level="warning")
        return stems

    def _sizes(self, files: dict[str, RawFile], record: int) -> None:
        """Note how many records each file has; find those that are empty or cut off."""
        for stem, file in files.items():
            if file.path.name in self.misnamed:
                continue  # its name says already that it is none of these files
            if file.bytes == 0:
                noun = "label" if file.kind == "labels" else "point"
                self.find("empty file", file.path, f"the {noun} file is empty", COPY_AGAIN)
            elif file.bytes % record:
                what = f"{file.bytes} bytes is not a multiple of the {record} bytes of one record"
                self.find("cut off", file.path, what, "The file is cut off or of another format; copy it again.")
            else:
                files[stem] = replace(file, records=file.bytes // record)

    def _other_columns(self) -> bool:
        """Whether every scan has another number of values for each of its labels: one finding for all."""
        scans, labels = self.sequence.scans, self.sequence.labels
        sizes = {divmod(scans[stem].bytes, max(labels[stem].bytes, 1)) for stem in scans.keys() & labels.keys()}
        (found, rest), *others = sizes or {(0, 0)}
        if others or rest or len(scans) < 2 or found == self.columns or not 3 <= found <= 16:
            return False
        what = f"every scan has {found} values of 4 bytes for each label, not {self.columns}"
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
        """Frame number -> name, of those that are one; the others are found."""
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
            found = {finding.file for finding in self.findings}
            for stem in (stem for stem in bad if shown(folder / f"{stem}{suffix}") not in found):
                self.find(
                    "file name", folder / f"{stem}{suffix}", f"the name is not a frame number of {usual} digits", remedy
                )
        return {int(stem): stem for stem in sorted(good)}

    # ---- gaps and pairs -----------------------------------------------------------------------------------------

    def _gaps(self, frames: dict[int, str], label_names: set[str]) -> set[str]:
        """Find frames off the step and gaps; names of the frames whose missing partner is known by that."""
        numbers = sorted(frames)
        if self.allow_gaps or len(numbers) < 3:
            return set()
        remedy = "Copy what is missing; if the folder is a choice of frames, set allow_gaps=true."
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
        """Scans without labels and labels without a scan, but for frames of which it is `known`."""
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

    # ---- poses, calibration, times ------------------------------------------------------------------------------

    def _tracks(self, last_frame: int) -> None:
        there = {}
        for kind in TRACKS:
            path = self.sequence.folder / f"{kind}.txt"
            if os.path.lexists(path) and (file := self._file(path, kind, kind)) is not None:
                self.sequence.tracks.append(file)
                there[kind] = path
        self.findings += check_tracks(there, self.sequence.folder, last_frame)
