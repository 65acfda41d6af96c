"""The files of a store: in a local or mounted folder, or in any file system that fsspec knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError

__all__ = ["StoreFiles", "files_of"]


class StoreFiles(Protocol):
    """Where the store's files are."""

    def sizes(self) -> dict[str, int]:
        """Name -> bytes of every file."""

    def whole(self, name: str) -> bytes: ...

    def part(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        """Bytes start .. end - 1."""


def files_of(root: str) -> StoreFiles:
    """The files at a folder or an address such as abfs://container/folder.

    Raises:
        DataError: if no file system is installed for the address.
    """
    return _RemoteFiles(root) if "://" in root else _LocalFiles(Path(root).expanduser())


class _LocalFiles:
    """A folder; files are mapped into memory when they are first read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped: dict[str, NDArray[np.uint8]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_mapped": {}}  # another process maps its own

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.folder.iterdir() if path.is_file()}

    def whole(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def part(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        mapped = self._mapped.get(name)
        if mapped is None:
            mapped = self._mapped[name] = np.memmap(self.folder / name, np.uint8, "r").view(np.ndarray)
        return mapped[start:end]


class _RemoteFiles:
    """A folder of any file system that fsspec knows."""

    def __init__(self, url: str) -> None:
        from fsspec.core import url_to_fs

        try:
            self.system, self.path = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise DataError(
                f"the address cannot be used ({error})",
                where=url,
                remedy="Install the package that fsspec names for it, such as adlfs for abfs://.",
            ) from error

    def sizes(self) -> dict[str, int]:
        entries = self.system.ls(self.path, detail=True)
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1]: int(entry["size"] or 0) for entry in entries}

    def whole(self, name: str) -> bytes:
        content: bytes = self.system.cat_file(f"{self.path}/{name}")
        return content

    def part(self, name: str, start: int, end: int) -> NDArray[np.uint8]:
        return np.frombuffer(self.system.cat_file(f"{self.path}/{name}", start=start, end=end), np.uint8)
