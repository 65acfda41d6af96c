"""Writes files so that they appear whole or not at all: under a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pointseg.core.errors import OutputError

__all__ = [
    "check_writable",
    "expanded",
    "free_space",
    "is_file",
    "is_folder",
    "is_there",
    "remove_folder",
    "whole_file",
    "write_json",
    "write_text",
    "new_run_folder",
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
    """Remove the folder of an earlier attempt, if there is one.

    Raises:
        OutputError: if it cannot be removed.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise OutputError(f"the folder cannot be emptied ({error.strerror})", where=folder) from error


# pathlib's own tests raise if a folder may not be read or a name is too long for the disk. For the code that looks for a
# file, it is not there.


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of ~; unchanged if there is no such user."""
    return Path(os.path.expanduser(path))  # noqa: PTH111


def is_file(path: Path) -> bool:
    """Whether there is a file that can be seen."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether there is a folder that can be seen."""
    return os.path.isdir(path)  # noqa: PTH112


def is_there(path: Path) -> bool:
    """Whether there is a file or folder that can be seen."""
    return os.path.exists(path)  # noqa: PTH110


def check_writable(folder: Path, where: str) -> None:
    """Make the folder and try to write a file into it, so that work is not lost at its end.

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


def free_space(folder: Path) -> int | None:
    """Free bytes where a folder lies; None if the disk does not say, as the mounted outputs of an Azure ML job, which have 0
    bytes in all."""
    usage = shutil.disk_usage(folder)
    return usage.free if usage.total else None


def new_run_folder(parent: str | Path = "outputs") -> Path:
    """Make PARENT/DATE/TIME; with a number if several runs start in the same second.

    Raises:
        OutputError: if it cannot be made.
    """
    base = Path(parent) / time.strftime("%Y-%m-%d")
    name, count = time.strftime("%H-%M-%S"), 1
    while True:
        folder = base / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir(parents=True)
            return folder.resolve()
        except FileExistsError:
            count += 1
        except OSError as error:
            raise OutputError(
                f"the output folder cannot be made ({error.strerror})",
                where=folder.resolve(),
                remedy="Name another with hydra.run.dir=DIR.",
            ) from error
