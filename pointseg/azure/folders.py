"""A folder before it is uploaded: what is in it, one number that stands for its content, and what must not go along."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pointseg.compute.snapshot import SECRET_FILES, refuse_secret
from pointseg.data.manifest import file_sha256
from pointseg.data.sources import Progress
from pointseg.errors import ConfigError, DataError

__all__ = ["FolderContent", "look_through"]

IGNORING = (".amlignore", ".gitignore")  # the SDK leaves out what they name
SCANS = (".bin", ".label")
SMALL = 1 << 20  # bytes of a file that is looked into for keys
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


def look_through(
    folder: Path, more: Mapping[str, str] | None = None, progress: Progress | None = None
) -> FolderContent:
    """Read every file once, a piece at a time.

    Args:
        more: files that will be written into it: relative name -> text.
        progress: called with (files done, files in all).

    Raises:
        ConfigError: if a file looks like a secret, a link leads out of the folder, or a file names what is left out.
        DataError: if it is no folder, is empty, or a file cannot be read.

    Example:
        >>> look_through(Path("semantickitti")).version
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
                _refuse_link(path, path.relative_to(root).as_posix(), root)
                raise ConfigError(
                    "a link to a folder would be uploaded twice, or not at all",
                    where=path.relative_to(root).as_posix(),
                    remedy="Put the folder in its place.",
                )
        names += [Path(place, each).relative_to(root).as_posix() for each in files]
    return sorted(names)


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"a folder cannot be read ({error.strerror})", where=error.filename, remedy="Check its permissions."
    )


def _refuse_unfit(path: Path, name: str, root: Path) -> None:
    if path.is_symlink():
        _refuse_link(path, name, root)
    if not path.is_file():
        raise ConfigError("this is no file", where=name, remedy="Remove it from the folder.")
    if name in IGNORING:
        raise ConfigError(
            "this file makes the upload leave others out", where=name, remedy="Remove it, and what shall not go along."
        )
    remedy = "Take it out of the folder: all who may read the asset may read it."
    if SECRET_FILES.search(name):
        raise ConfigError("a file that looks like a secret would go along", where=name, remedy=remedy)
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
