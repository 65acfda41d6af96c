"""What a file or folder is, in few words: two that are told alike hold the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pointseg.core.addresses import is_registered_model, is_remote, is_shipped_model, shipped_model

__all__ = ["content_identity"]

STORE = "store.json"  # holds the SHA-256 of every other file of a packed store
OF_RUN = ("bundle/weights.safetensors", "bundle/model.yaml", "metrics.json")  # what later steps read of a run folder
SMALL = 64 << 20  # bytes; larger folders are known by names, sizes and times


def content_identity(path: str) -> str | None:
    """Tells a content; None where there is nothing.

    Of a packed store, a run's results, a file and a small folder it is a SHA-256 of what is in them; of a large folder, of
    names, sizes and times of its files; of an address in Azure the address itself, which names a version.

    Example:
        >>> content_identity("azureml:semantic-kitti:3")
        'azureml:semantic-kitti:3'
    """
    if not path or is_remote(path) or is_registered_model(path):
        return path or None
    place = shipped_model(path) if is_shipped_model(path) else Path(path).expanduser()
    if place.is_file():
        return f"file {_hash([place], place.parent)}"
    if (place / STORE).is_file():
        return f"store {_hash([place / STORE], place)}"
    results = [place / name for name in OF_RUN if (place / name).is_file()]
    if results:
        return f"run {_hash(results, place)}"
    if not place.is_dir():
        return None
    files = sorted(file for file in place.rglob("*") if file.is_file() and file.suffix != ".log")
    if sum(file.stat().st_size for file in files) <= SMALL:
        return f"folder {_hash(files, place)}"
    lines = (f"{file.relative_to(place)} {file.stat().st_size} {file.stat().st_mtime_ns}\n" for file in files)
    return f"listing {hashlib.sha256(''.join(lines).encode()).hexdigest()[:32]}"


def _hash(files: list[Path], root: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root)} {file.stat().st_size}\n".encode())
        with open(file, "rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:32]
