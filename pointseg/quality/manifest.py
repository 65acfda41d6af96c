"""`manifest.json`: name, size and SHA-256 of every raw file, to detect any later change.

    {"format": 1, "files": {"sequences/00/velodyne/000000.bin": {"bytes": 1994688, "sha256": "..."}, ...}}

Names are relative to the folder that holds `sequences/`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pointseg.core.errors import DataError
from pointseg.core.files import write_text
from pointseg.core.progress import Update
from pointseg.data.checks.findings import Finding, shown
from pointseg.quality.layout_check import Layout, RawFile, check_layout

__all__ = ["MANIFEST", "Entry", "Manifest", "file_sha256", "manifest_name"]

FORMAT = 1
MANIFEST = "manifest.json"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """Size in bytes and SHA-256, as 64 hexadecimal digits, of one file."""

    bytes: int
    sha256: str


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def manifest_name(path: Path, folder: Path) -> str:
    """The name of a file in the manifest; `folder` holds the sequences, whatever it is called."""
    return shown(PurePosixPath("sequences", *path.relative_to(folder).parts))


@dataclass(frozen=True)
class Manifest:
    """The sizes and hashes of raw files at one time.

    Example:
        >>> Manifest.of("semantickitti").write("semantickitti/manifest.json")
        >>> Manifest.read("semantickitti/manifest.json").compare("semantickitti")
        []
    """

    files: Mapping[str, Entry]

    @classmethod
    def of(
        cls,
        root: str | Path,
        sequences: Sequence[str | int] | None = None,
        *,
        threads: int = 4,
        progress: Update | None = None,
    ) -> Manifest:
        """Read every raw file of a data set.

        Raises:
            DataError: if the folder has no sequences, or a file cannot be read.
        """
        layout = check_layout(root, sequences, allow_gaps=True)
        files = [file for sequence in layout.sequences for file in sequence.files]
        entries: dict[str, Entry] = {}
        with ThreadPoolExecutor(max(threads, 1)) as pool:  # hashing releases the interpreter's lock
            for file, digest in zip(files, pool.map(_digest, files), strict=True):
                entries[manifest_name(file.path, layout.folder)] = Entry(file.bytes, digest)
                if progress:
                    progress(len(entries), len(files))
        return cls(entries)

    def write(self, path: str | Path) -> Path:
        """Write it, one file a line, whole or not at all."""
        lines = [
            f"  {json.dumps(name)}: {json.dumps({'bytes': entry.bytes, 'sha256': entry.sha256})}"
            for name, entry in sorted(self.files.items())
        ]
        write_text(path, f'{{"format": {FORMAT}, "files": {{\n' + ",\n".join(lines) + "\n}}\n")
        return Path(path)

    @classmethod
    def read(cls, path: str | Path) -> Manifest:
        """The inverse of `write`.

        Raises:
            DataError: if the file is missing, damaged, or of another format.
        """
        remedy = "Copy the manifest again, or write a new one for files that are known to be good."
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise DataError(
                    f"the manifest has format {str(content['format'])[:20]}, and this version reads {FORMAT}",
                    where=path,
                    remedy="Write it again with this version.",
                )
            entries = {name: _entry(name, value) for name, value in content["files"].items()}
        except OSError as error:
            raise DataError(f"the manifest cannot be read ({error.strerror})", where=path, remedy=remedy) from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = f"the manifest is damaged ({type(error).__name__}: {error})"
            raise DataError(what, where=path, remedy=remedy) from error
        return cls(entries)

    def compare(
        self, root: str | Path, sequences: Sequence[str | int] | None = None, *, threads: int = 4
    ) -> list[Finding]:
        """Read the files of a data set and report those that are missing, changed, or not in the manifest.

        Raises:
            DataError: if the folder has no sequences, or a file cannot be read.
        """
        layout = check_layout(root, sequences, allow_gaps=True)
        now = Manifest.of(root, sequences, threads=threads)
        return self.differences(now.files, layout, whole=sequences is None)

    def differences(self, now: Mapping[str, Entry], layout: Layout, *, whole: bool) -> list[Finding]:
        """Findings about the present files, by name; `whole` if all sequences were read."""
        chosen = {shown(sequence.name) for sequence in layout.sequences}
        findings = []
        for name in sorted({*self.files, *now}):
            sequence = name.split("/")[1]
            if sequence not in chosen and not whole:
                continue
            path = layout.folder.joinpath(*PurePosixPath(name).parts[1:])
            then, present = self.files.get(name), now.get(name)
            if then == present:
                continue
            remedy = "Copy it again from its source."
            if present is None:
                kind, what = "missing file", "the manifest names a file that is missing"
            elif then is None:
                kind, what, remedy = "extra file", "the manifest lacks this file", "Remove it, or write a new manifest."
            else:
                size = (
                    f"{present.bytes:,} bytes instead of {then.bytes:,}"
                    if then.bytes != present.bytes
                    else "equal size"
                )
                kind, what = "changed file", f"the file differs from the manifest ({size}, another SHA-256)"
                remedy = "Copy it again from its source, or write a new manifest."
            findings.append(Finding("error", kind, shown(path), what, remedy))
        return findings


def _digest(file: RawFile) -> str:
    try:
        return file_sha256(file.path)
    except OSError as error:
        raise DataError(f"the file cannot be read ({error.strerror})", where=shown(file.path)) from error


def _entry(name: str, value: Mapping[str, object]) -> Entry:
    parts = PurePosixPath(name).parts
    size, digest = value["bytes"], value["sha256"]
    if len(parts) < 3 or parts[0] != "sequences" or ".." in parts:
        raise ValueError(f"{name[:60]!r} is not a file below sequences/")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"the size of {name[:60]!r} is not a number of bytes")
    if not isinstance(digest, str) or not SHA256.fullmatch(digest):
        raise ValueError(f"the SHA-256 of {name[:60]!r} is not 64 hexadecimal digits")
    return Entry(size, digest)
