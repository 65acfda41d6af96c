"""Files that appear whole or not at all: written beside, flushed to disk, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pointseg.errors import OutputError

__all__ = [
    "check_writable",
    "expanded",
    "is_file",
    "is_folder",
    "is_there",
    "remove_folder",
    "whole_file",
    "write_json",
    "write_text",
]


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes the name when the block ends without an error.

    Raises:
        OutputError: if the folder or file cannot be written.

    Example:
        >>> with whole_file("labels.bin") as temporary:
        ...     labels.tofile(temporary)
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(
            f"cannot be written ({error.strerror or error})", where=path, remedy="Check the folder and the disk."
        ) from error
    finally:
        with suppress(OSError):  # a parent may be a file: the error above says so
            temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any) -> None:
    """Write indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def remove_folder(folder: Path) -> None:
    """Make room for what is written anew, where an earlier try has left a folder.

    Raises:
        OutputError: if it cannot be removed.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"the folder cannot be emptied ({error.strerror})", where=folder) from error


# What pathlib asks of the disk raises where a folder is closed to us or a name is longer than the disk takes. To who looks
# for a file, neither is there.


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of ~, as it is where nobody has that name."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Whether a file is there, as far as can be seen."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether a folder is there, as far as can be seen."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Whether anything is there, as far as can be seen."""
    return os.path.exists(path)  # noqa: PTH110


def check_writable(folder: Path, where: str) -> None:
    """Make the folder and try it with a file, so that work is not lost at its end.

    Raises:
        OutputError: naming the key that chose the folder.
    """
    probe = folder / f".{uuid.uuid4().hex[:8]}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"the output folder cannot be written ({error.strerror})",
            where=f"{where}={folder}",
            remedy="Name another folder, or change its permissions.",
        ) from error
