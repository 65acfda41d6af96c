"""What a service keeps of a scan that it has labelled: counts of its points, never the points. Needs NumPy only.

A record is a JSON object of one to two kilobytes:

    {"pointseg_scan": 1, "time": "2026-11-21T23:15:00.123Z", "request_id": "4f...", "model": "street/3",
     "milliseconds": 81.5, "points": 124668, "counts": {"range": [...], ...}, "label_map": "9c...", "classes": {"car": 9120}}

`counts` are those of `quality.input_quantities.scan_counts`, whole numbers, so statistics of collected scans are exactly
those of the scans. A record holds no coordinates, no remission or label of a point, no address or name.

Legend: N points, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.quality.input_quantities import QUANTITIES, class_shares, quantities_of, scan_counts

__all__ = ["RECORD_MARK", "RECORD_VERSION", "ScanRecord", "make_record", "parse_record"]

RECORD_MARK = "pointseg_scan"  # the key that identifies a record; its value is the version
RECORD_VERSION = 1
LONGEST = 200  # characters of a name
ALWAYS = frozenset(QUANTITIES) - {"remission", "beams"}  # quantities of every scan with points
OF_POINTS = frozenset(name for name, kind in QUANTITIES.items() if kind.compare != "log") | {"density by range"}


@dataclass(frozen=True)
class ScanRecord:
    """A record that was read.

    Attributes:
        time: of the answer, in UTC.
        model: NAME/VERSION that labelled the scan.
        counts: (B,) int64 by quantity.
        label_map: the hash of the model's label map.
        classes: points by predicted class.
    """

    time: datetime
    model: str
    counts: Mapping[str, NDArray[np.int64]]
    label_map: str
    classes: Mapping[str, int]

    def vectors(self) -> dict[str, NDArray[np.float64]]:
        """The vectors of `scan_quantities`."""
        return quantities_of(self.counts)

    def class_shares(self, label_map: LabelMap) -> NDArray[np.float64] | None:
        """(K,) shares of the predicted classes; None if the model had other classes."""
        if self.label_map != label_map.hash:
            return None
        return class_shares(np.array([self.classes.get(name, 0) for name in label_map.class_names], np.int64))


def make_record(
    points: NDArray[np.float32],
    raw_ids: NDArray[np.uint32],
    label_map: LabelMap,
    *,
    time: datetime,
    request_id: str,
    model: str,
    seconds: float,
) -> dict[str, Any] | None:
    """The record of a labelled scan as plain values; None without a finite point. Takes 30 ms for 120,000 points.

    Args:
        points: (N, 4) or (N, 3).
        raw_ids: (N,) the prediction.
        time: of the answer.
        seconds: the time of labelling.

    Example:
        >>> make_record(points, raw_ids, label_map, time=now, request_id="a1", model="street/3", seconds=0.1)["points"]
        124668
    """
    counts = scan_counts(points)
    if not counts:
        return None
    by_class = np.bincount(label_map.to_train(raw_ids), minlength=label_map.num_classes + 1)[1:]
    return {
        RECORD_MARK: RECORD_VERSION,
        "time": time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "request_id": request_id[:LONGEST],
        "model": model[:LONGEST],
        "milliseconds": round(1000 * seconds, 2),
        "points": len(points),
        "counts": {name: count_B.tolist() for name, count_B in counts.items()},
        "label_map": label_map.hash,
        "classes": {name: int(n) for name, n in zip(label_map.class_names, by_class, strict=True) if n},
    }


def parse_record(content: Any) -> ScanRecord:
    """Read and check a record of `make_record`.

    Raises:
        ValueError: saying why it is not a record, of another version, or damaged.
    """
    if not isinstance(content, Mapping) or RECORD_MARK not in content:
        raise ValueError("not a record of a scan")
    if content[RECORD_MARK] != RECORD_VERSION:
        version = str(content[RECORD_MARK])[:20]
        raise ValueError(f"a record of version {version}, and this version of pointseg reads {RECORD_VERSION}")
    try:
        time = datetime.fromisoformat(str(content["time"]).replace("Z", "+00:00"))
        counts = {str(name): _counted(name, values) for name, values in content["counts"].items() if name in QUANTITIES}
        classes = {str(name): _whole(value) for name, value in content["classes"].items()}
        record = ScanRecord(time, str(content["model"])[:LONGEST], counts, str(content["label_map"]), classes)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"a damaged record ({type(error).__name__}: {' '.join(str(error).split())[:100]})") from None
    if time.tzinfo is None or not counts.keys() >= ALWAYS:
        raise ValueError("a damaged record (a time without a zone, or a quantity is missing)")
    total, sums = int(counts["density"][0]), {int(counts[name].sum()) for name in OF_POINTS & counts.keys()}
    if total < 1 or counts.get("beams", 1) < 1 or sums != {total}:
        raise ValueError("a damaged record (the counts do not add up)")
    return record


def _counted(name: str, values: Any) -> NDArray[np.int64]:
    if not isinstance(values, list) or len(values) != QUANTITIES[name].bins:
        raise ValueError(f"{name} has {QUANTITIES[name].bins} bins")
    return np.array([_whole(value) for value in values], np.int64)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise ValueError(f"{value!r} is not a count")
    return value
