"""A folder before it is uploaded: its size, a hash of its content, and checks for what must not be uploaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.progress import Update
from pointseg.jobs.snapshot import SECRET_FILES, refuse_secret
from pointseg.quality.manifest import file_sha256

__all__ = ["FolderContent", "folder_content"]

IGNORE_FILES = (".amlignore", ".gitignore")  # the SDK excludes what they name
SCANS = (".bin", ".label")
SMALL = 1 << 20  # bytes of the largest file that is searched for keys
DIGITS = 12


@dataclass(frozen=True)
class FolderContent:
    """What a folder holds.

    Attributes:
        files: how many.
        bytes: of all of them.
        sha256: of relative names and contents, 64 hexadecimal digits: the same wherever the folder lies.
    """

    files: int
    bytes: int
    sha256: str

    @property
    def version(self) -> str:
        """The first digits of the hash."""
        return self.sha256[:DIGITS]


def folder_content(
    folder: Path, more: Mapping[str, str] | None = None, progress: Update | None = None
) -> FolderContent:
    """Read every file once, a piece at a time.

    Args:
        more: files that will be written into it: relative name -> text.
        progress: called with (files done, files in all).

    Raises:
        ConfigError: if a file looks like a secret, a link leads out of the folder, or an ignore file would exclude others.
        DataError: if it is not a folder, is empty, or a file cannot be read.

    Example:
        >>> folder_content(Path("semantickitti")).version
        '0f3a2b9c8d7e'
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", where=f"path={folder}", remedy="Check the path.")
    root = folder.resolve()
    names = _names(root)
    for name in names:
        _refuse_unfit(root / name, name, root)
    lines: dict[str, str] = {name: _line(name, text.encode()) for name, text in (more or {}).items()}
    size = sum(len(text.encode()) for text in (more or {}).values())
    for number, name in enumerate(names):
        if name not in lines:
            lines[name] = _line_of_file(root / name, name)
            size += (root / name).stat().st_size
        if progress:
            progress(number + 1, len(names))
    if not lines:
        raise DataError("the folder is empty", where=f"path={folder}", remedy="Name the folder that holds the data.")
    digest = hashlib.sha256("".join(lines[name] for name in sorted(lines)).encode()).hexdigest()
    return FolderContent(len(lines), size, digest)


def _names(root: Path) -> list[str]:
    """Relative names of all files, in order; links to folders are refused, wherever they lead."""
    names = []
    for place, folders, files in os.walk(root, onerror=_unreadable):
        for each in sorted(folders):
            path = Path(place, each)
            if path.is_symlink():
                name = path.relative_to(root).as_posix()
                _refuse_link(path, name, root)
                text = "a link to a folder would be uploaded twice, or not at all"
                raise ConfigError(text, where=name, remedy="Replace it by the folder.")
        names += [Path(place, each).relative_to(root).as_posix() for each in files]
    return sorted(names)


def _unreadable(error: OSError) -> None:
    text = f"a folder cannot be read ({error.strerror})"
    raise DataError(text, where=error.filename, remedy="Check its permissions.")


def _refuse_unfit(path: Path, name: str, root: Path) -> None:
    if path.is_symlink():
        _refuse_link(path, name, root)
    if not path.is_file():
        raise ConfigError("this is not a file", where=name, remedy="Remove it from the folder.")
    if name in IGNORE_FILES:
        remedy = "Remove it, and what must not be uploaded."
        raise ConfigError("this file excludes others from the upload", where=name, remedy=remedy)
    remedy = "Remove it from the folder: everybody who may read the asset may read it."
    if SECRET_FILES.search(name):
        raise ConfigError("a file that looks like a secret would be uploaded", where=name, remedy=remedy)
    if path.suffix not in SCANS and path.stat().st_size <= SMALL:
        try:
            refuse_secret(path, root)
        except ConfigError as error:
            raise ConfigError(error.what, where=error.where, remedy=remedy) from error
        except OSError as error:
            raise _cannot_be_read(error, name) from error


def _refuse_link(path: Path, name: str, root: Path) -> None:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ConfigError("a link leads nowhere", where=name, remedy="Remove it.") from error
    if not target.is_relative_to(root):
        raise ConfigError(
            "a link leads out of the folder", where=f"{name} -> {target}", remedy="Put the file itself in its place."
        )


def _line_of_file(path: Path, name: str) -> str:
    try:
        return f"{json.dumps(name)} {path.stat().st_size} {file_sha256(path)}\n"
    except OSError as error:
        raise _cannot_be_read(error, name) from error


def _line(name: str, content: bytes) -> str:
    return f"{json.dumps(name)} {len(content)} {hashlib.sha256(content).hexdigest()}\n"


def _cannot_be_read(error: OSError, name: str) -> DataError:
    return DataError(f"a file cannot be read ({error.strerror})", where=name, remedy="Check its permissions.")
