"""Scans of any folder, whatever its layout: a packed store, sequences as in SemanticKITTI, or files of point clouds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointseg.data.found_clouds import clouds_among
from pointseg.data.scan import Scan
from pointseg.data.semantickitti import SemanticKITTIScans, find_sequences
from pointseg.data.sources import ScanSource
from pointseg.data.store import PackedScans, PackedStore, is_store
from pointseg.errors import ConfigError, DataError
from pointseg.files import expanded, is_folder, is_there
from pointseg.formats import KINDS, count_points, read_cloud, require_packages

__all__ = ["CloudFiles", "open_scans"]

USUAL_POINTS = 100_000


class CloudFiles:
    """The files of point clouds in a folder and those below; the files of one folder are a sequence.

    Args:
        folder: where they lie. Hidden files and folders are left out, and folders of results of `predict`.
        remission_scale: what remission is divided by; None: see `read_cloud`.

    Raises:
        DataError: if there is none.
        ConfigError: if a package of the extra `formats` is missing.

    Example:
        >>> CloudFiles("drives").names[0]
        'monday/000000.pcd'
    """

    def __init__(self, folder: str | Path, *, remission_scale: float | None = None) -> None:
        self.folder, self.remission_scale = expanded(folder), remission_scale
        self._files = clouds_among(self.folder.rglob("*"), self.folder)
        if not self._files:
            raise DataError(
                "there is no file of a kind that is read", where=self.folder, remedy=f"Kinds: {', '.join(KINDS)}."
            )
        require_packages({path.suffix for path in self._files})
        self.names = [str(path.relative_to(self.folder)) for path in self._files]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def expected_points(self) -> int:
        """What sizes and headers tell."""
        return sum(count_points(path) or USUAL_POINTS for path in self._files)

    def __getitem__(self, index: int) -> Scan:
        """A scan of the finite points; (N, 3) where the file has no remission."""
        cloud = read_cloud(self._files[index], remission_scale=self.remission_scale)
        return Scan(np.ascontiguousarray(cloud.points[cloud.finite]), None, str(self._files[index]))


def open_scans(root: str | Path, *, remission_scale: float | None = None) -> ScanSource:
    """The scans of a packed store, of all sequences of a data set in SemanticKITTI's layout, or of a folder of clouds.

    Args:
        root: the folder, or the address of a store.
        remission_scale: what remission is divided by; not for stores, which hold [0, 1]. None: as it is, and for clouds
            see `read_cloud`.

    Raises:
        DataError: if there is no folder, no scan, or a store is damaged.
        ConfigError: if remission of a store is to be scaled.

    Example:
        >>> open_scans("semantickitti").names[0]
        '00/000000'
    """
    if is_store(root):
        if remission_scale is not None:
            raise ConfigError(
                "remission of a packed store is scaled when it is packed",
                where="remission_scale",
                remedy="Leave it out.",
            )
        return PackedScans(PackedStore(root))
    folder = expanded(root)
    if not is_folder(folder):
        what = "a file, and a folder is needed" if is_there(folder) else "the folder of scans does not exist"
        raise DataError(what, where=root, remedy="Name a folder of point clouds or a packed store.")
    try:
        find_sequences(folder)
    except DataError:
        return CloudFiles(folder, remission_scale=remission_scale)
    return SemanticKITTIScans(folder, None, labelled=False, remission_scale=remission_scale or 1.0)
