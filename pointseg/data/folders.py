"""Opens or describes a folder of scans: a packed store, sequences as in SemanticKITTI, or files of point clouds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pointseg.core.errors import ConfigError, DataError
from pointseg.core.files import expanded, is_folder, is_there
from pointseg.core.labels import LabelMap
from pointseg.data.formats import KINDS, count_points, read_cloud, require_packages
from pointseg.data.formats.cloud_files import clouds_among
from pointseg.data.scan import COLUMNS, Scan
from pointseg.data.semantickitti import SemanticKITTIScans, find_sequences
from pointseg.data.sources import ScanSource
from pointseg.data.store import PackedScans, PackedStore, is_store

__all__ = ["CloudFiles", "describe_folder", "open_scans"]

USUAL_POINTS = 100_000  # of a file whose header does not say how many it has


class CloudFiles:
    """The files of point clouds in a folder and its subfolders; the files of one folder are a sequence.

    Args:
        folder: where to look. Hidden files and folders are skipped, and folders that `predict` wrote.
        remission_scale: what remission is divided by; None: see `read_cloud`.
        extra: further columns that are wanted.

    Raises:
        DataError: if there is no such file.
        ConfigError: if a package of the extra `formats` is missing.

    Example:
        >>> CloudFiles("drives").names[0]
        'monday/000000.pcd'
    """

    def __init__(self, folder: str | Path, *, remission_scale: float | None = None, extra: Sequence[str] = ()) -> None:
        self.folder, self.remission_scale, self.extra = expanded(folder), remission_scale, tuple(extra)
        self._files = clouds_among(self.folder.rglob("*"), self.folder)
        if not self._files:
            raise DataError(
                "the folder has no files of point clouds", where=self.folder, remedy=f"Kinds: {', '.join(KINDS)}."
            )
        require_packages({path.suffix for path in self._files})
        self.names = [str(path.relative_to(self.folder)) for path in self._files]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def expected_points(self) -> int:
        """As far as sizes and headers say."""
        return sum(count_points(path) or USUAL_POINTS for path in self._files)

    def __getitem__(self, index: int) -> Scan:
        """A scan of the finite points; (N, 3) where the file has no remission."""
        path = self._files[index]
        cloud = read_cloud(path, remission_scale=self.remission_scale, extra=self.extra)
        finite_N = cloud.finite
        extra = None if cloud.extra is None else np.ascontiguousarray(cloud.extra[finite_N])
        points = np.ascontiguousarray(cloud.points[finite_N])
        return Scan(points, None, str(path), extra=extra, extra_names=self.extra)


def open_scans(
    root: str | Path,
    *,
    remission_scale: float | None = None,
    extra: Sequence[str] = (),
) -> ScanSource:
    """The scans of a packed store, of all sequences of a data set in SemanticKITTI's layout, or of a folder of clouds.

    Args:
        root: the folder, or the address of a store.
        remission_scale: what remission is divided by; not for stores, which hold [0, 1]. None: unchanged, and for clouds
            see `read_cloud`.
        extra: further columns to read from files that name their columns; a store gives all that it has.

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
        return CloudFiles(folder, remission_scale=remission_scale, extra=extra)
    return SemanticKITTIScans(folder, None, labelled=False, remission_scale=remission_scale or 1.0)


def describe_folder(folder: Path, label_map: LabelMap, columns: Sequence[str] = COLUMNS) -> dict[str, str]:
    """Layout, scans, points and label map of a folder or store, as text, without reading points.

    Args:
        label_map: of raw scans; a store has its own.
        columns: of raw scans, x, y, z, remission first.

    Raises:
        DataError: if it is neither SemanticKITTI's layout nor a store, or a file is missing or of an impossible size.

    Example:
        >>> describe_folder(Path("semantickitti"), LabelMap.load("semantickitti"))["scans"]
        '43552'
    """
    if is_store(folder):
        header = PackedStore(folder).header
        return {
            "layout": "packed store",
            "scans": str(header.scans),
            "points": str(header.points),
            "label_map": str(header.label_map.get("name", "")),
            "label_map_hash": header.label_map_hash,
        }
    try:
        sequences = find_sequences(folder)
    except DataError as error:
        raise DataError(
            "the folder is neither SemanticKITTI's layout nor a packed store",
            where=folder,
            remedy="It holds sequences/SS/velodyne/*.bin, or what prepare packs; check=false registers it as it is.",
        ) from error
    scans = SemanticKITTIScans(folder, None, labelled=None, columns=columns)
    facts = {
        "layout": "semantickitti",
        "sequences": ",".join(dict.fromkeys(name.rpartition("/")[0] for name in scans.names))[:256],
        "scans": str(len(scans)),
        "points": str(scans.expected_points),
    }
    if any(sequences.glob("*/labels")):
        facts |= {"label_map": label_map.name, "label_map_hash": label_map.hash}
    return facts
