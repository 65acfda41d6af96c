"""What a folder of scans holds, without reading points: SemanticKITTI's layout, or a packed store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pointseg.data.scan import COLUMNS
from pointseg.data.semantickitti import SemanticKITTIScans, find_sequences
from pointseg.data.store import PackedStore, is_store
from pointseg.errors import DataError
from pointseg.labels import LabelMap

__all__ = ["describe_folder"]


def describe_folder(folder: Path, label_map: LabelMap, columns: Sequence[str] = COLUMNS) -> dict[str, str]:
    """Layout, scans, points and label map, as words.

    Args:
        label_map: of raw scans; a store knows its own.
        columns: of raw scans, x, y, z, remission first.

    Raises:
        DataError: if it is neither, or a file is missing or of an impossible size.

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
    found = {
        "layout": "semantickitti",
        "sequences": ",".join(dict.fromkeys(name.rpartition("/")[0] for name in scans.names))[:256],
        "scans": str(len(scans)),
        "points": str(sum(file.stat().st_size for file in scans.files) // (4 * len(columns))),
    }
    if any(sequences.glob("*/labels")):
        found |= {"label_map": label_map.name, "label_map_hash": label_map.hash}
    return found
