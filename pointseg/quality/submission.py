"""Write archives for the SemanticKITTI benchmark's server, and check them before the server does.

The rules are those of the official validator (semantic-kitti-api, validate_submission.py) and some that it misses:

- a .zip with the folders sequences/, sequences/SS/ and sequences/SS/predictions/ as entries of their own, SS = 11..21;
- one .label for each scan, uint32, as many as the scan has points;
- only raw ids that the benchmark scores, in the lower 16 bits: a training id would be silently wrong;
- every one of the 20,351 test scans, and nothing else.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pointseg.core.errors import DataError, OutputError
from pointseg.core.files import whole_file
from pointseg.core.labels import SEMANTIC_BITS, LabelMap
from pointseg.core.text import counted, listed
from pointseg.data.semantickitti import OFFICIAL_SPLIT, find_sequences
from pointseg.quality.layout_check import OFFICIAL_SCANS

__all__ = ["TEST_SCANS", "SubmissionCheck", "check_submission", "require_test_scans", "write_submission"]

TEST_SCANS = {name: count for name, count in OFFICIAL_SCANS.items() if name in OFFICIAL_SPLIT["test"]}  # 20,351 in all
POINT_BYTES, LABEL_BYTES = 16, 4


@dataclass(frozen=True)
class SubmissionCheck:
    """The result of checking an archive.

    Attributes:
        scans: label files that belong to a scan.
        points: labels in those.
        problems: why the server would refuse the archive or score it wrongly; empty if it is ready.
    """

    scans: int
    points: int
    problems: list[str]


def write_submission(
    predictions: str | Path,
    archive: str | Path,
    root: str | Path,
    label_map: LabelMap,
    *,
    sequences: Sequence[str] = tuple(TEST_SCANS),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Pack predicted labels into an archive, check it, and only then move it into place.

    Args:
        predictions: a folder with sequences/SS/predictions/*.label.
        archive: the .zip to write.
        root: the data set whose scans were predicted.
        sequences: the server refuses others than the test set's.

    Raises:
        DataError: if labels are missing or wrong, naming all problems at once.
        OutputError: if the archive cannot be written.

    Example:
        >>> write_submission("predicted", "submission.zip", "semantickitti", LabelMap.load("semantickitti"))
    """
    predictions, archive = Path(predictions).expanduser(), Path(archive).expanduser()
    if archive.suffix != ".zip":
        raise OutputError("the server takes a .zip", where=archive, remedy="Name it so: submission=FILE.zip.")
    files = [
        (f"sequences/{name}/predictions/{file.name}", file)
        for name in sequences
        for file in sorted((predictions / "sequences" / name / "predictions").glob("*.label"))
    ]
    with whole_file(archive) as temporary:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
            packed.mkdir("sequences")
            for name in sequences:
                packed.mkdir(f"sequences/{name}")
                packed.mkdir(f"sequences/{name}/predictions")
            for number, (place, file) in enumerate(files):
                packed.write(file, place)
                if progress:
                    progress(number + 1, len(files))
        problems = check_submission(temporary, root, label_map, sequences=sequences).problems
        if problems:
            raise DataError(
                "the archive would be refused, and is not written:\n  " + "\n  ".join(problems),
                where=archive,
                remedy="Predict what is missing, then run the same command again.",
            )
    return archive


def check_submission(
    archive: str | Path,
    root: str | Path,
    label_map: LabelMap,
    *,
    sequences: Sequence[str] = tuple(TEST_SCANS),
    progress: Callable[[int, int], None] | None = None,
) -> SubmissionCheck:
    """Check an archive against the rules and against the scans of the data set in `root`.

    Raises:
        DataError: if the archive or the data set cannot be read at all.

    Example:
        >>> check_submission("submission.zip", "semantickitti", LabelMap.load("semantickitti")).problems
        []
    """
    archive, scans = Path(archive).expanduser(), _scans(Path(root).expanduser(), sequences)
    if not archive.is_file():
        raise DataError("there is no such file", where=archive, remedy="Name the archive: submission=FILE.zip.")
    try:
        with zipfile.ZipFile(archive) as packed:
            return _check(packed, scans, label_map, sequences, progress)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:  # the last: encrypted
        raise DataError(f"not a readable .zip ({error})", where=archive, remedy="Write it again.") from error


def require_test_scans(root: str | Path) -> None:
    """Refuse a data set that lacks test scans: the server needs labels of all 20,351.

    Raises:
        DataError: naming each incomplete sequence.

    Example:
        >>> require_test_scans("semantickitti")
    """
    scans = _scans(Path(root).expanduser(), tuple(TEST_SCANS))
    problems = list(_incomplete(scans, tuple(TEST_SCANS)))
    if problems:
        raise DataError(
            "the test set is incomplete:\n  " + "\n  ".join(problems),
            where=root,
            remedy="Complete sequences 11 to 21, or predict without submission=.",
        )


def _scans(root: Path, sequences: Sequence[str]) -> dict[str, int]:
    """Points of every scan, by the name of its labels in the archive."""
    folder = find_sequences(root)
    return {
        f"sequences/{name}/predictions/{file.stem}.label": file.stat().st_size // POINT_BYTES
        for name in sequences
        for file in sorted((folder / name / "velodyne").glob("*.bin"))
    }


def _check(
    packed: zipfile.ZipFile,
    scans: dict[str, int],
    label_map: LabelMap,
    sequences: Sequence[str],
    progress: Callable[[int, int], None] | None,
) -> SubmissionCheck:
    names = packed.namelist()
    problems = [*_layout(names, sequences), *_missing(set(names), scans, sequences)]
    others = [name for name in names if not name.endswith("/") and name not in scans]
    if others:
        problems.append(f"{counted(len(others), 'file')} without a scan: {listed(others, most=3)}")
    duplicates = len(names) - len(set(names))
    if duplicates:
        problems.append(f"{duplicates:,} duplicate {'entry' if duplicates == 1 else 'entries'}")
    allowed = np.zeros(int(SEMANTIC_BITS) + 1, bool)
    allowed[label_map.to_raw(np.arange(1, label_map.num_classes + 1, dtype=np.uint8))] = True
    wanted = [name for name in dict.fromkeys(names) if name in scans]
    bad, points = [], 0
    for number, name in enumerate(wanted):
        content = packed.read(name)  # also compares the CRC
        problem = _labels(content, scans[name], allowed)
        points += len(content) // LABEL_BYTES
        if problem:
            bad.append(f"{name}: {problem}")
        if progress:
            progress(number + 1, len(wanted))
    problems += bad[:20] + ([f"and {len(bad) - 20:,} more files with wrong labels"] if len(bad) > 20 else [])
    return SubmissionCheck(len(wanted), points, problems)


def _layout(names: Sequence[str], sequences: Sequence[str]) -> Iterator[str]:
    """Folders that must be entries of their own, since the server's script looks them up."""
    wanted = ["sequences/", *(f"sequences/{s}/{folder}" for folder in ("", "predictions/") for s in sequences)]
    missing = sorted(set(wanted) - set(names))
    if missing:
        yield f"no entry for {counted(len(missing), 'folder')}: {listed(missing, most=4)}"
    extra = sorted(name for name in names if name.endswith("/") and name not in wanted)
    if extra:
        yield f"{counted(len(extra), 'extra folder')}: {listed(extra, most=4)}"


def _missing(names: set[str], scans: dict[str, int], sequences: Sequence[str]) -> Iterator[str]:
    for sequence in sequences:
        here = [name for name in scans if name.startswith(f"sequences/{sequence}/")]
        absent = [name for name in here if name not in names]
        if absent:
            yield f"sequence {sequence}: {counted(len(absent), 'scan')} without labels, the first {absent[0]}"
    yield from _incomplete(scans, sequences)


def _incomplete(scans: dict[str, int], sequences: Sequence[str]) -> Iterator[str]:
    """Test sequences that are incomplete in the data set."""
    for sequence in sequences:
        here = sum(name.startswith(f"sequences/{sequence}/") for name in scans)
        published = TEST_SCANS.get(sequence, here)
        if here != published:
            yield f"sequence {sequence}: the data set has {here:,} of {published:,} scans; the server needs all"


def _labels(content: bytes, points: int, allowed: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> str | None:
    if len(content) != points * LABEL_BYTES:
        return f"{len(content):,} bytes for {counted(points, 'point')} of 4 bytes each"
    ids = np.frombuffer(content, np.uint32)
    semantic = ids & SEMANTIC_BITS
    wrong = ~allowed[semantic]
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        of = counted(int(wrong.sum()), "point")
        return f"{of} with an id that is not a scored class, the first {semantic[first]} at point {first}"
    return None
