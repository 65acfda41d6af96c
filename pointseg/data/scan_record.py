"""What is kept of a scan that a service has labelled: counts of its points, never the points. NumPy only.

A record is a JSON object of one to two kilobytes:

    {"pointseg_scan": 1, "time": "2026-11-21T23:15:00.123Z", "request_id": "4f...", "model": "street/3",
     "milliseconds": 81.5, "points": 124668, "counts": {"range": [...], ...}, "label_map": "9c...", "classes": {"car": 9120}}

`counts` are those of `pointseg.data.input_quantities.scan_counts`, whole numbers, so that the statistics of collected scans
are exactly those of the scans. It holds no coordinates, no remission of a point, no label of a point, no address or name.

Legend: N points, B bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.data.input_quantities import QUANTITIES, quantities_of, scan_counts
from pointseg.labels import LabelMap

__all__ = ["MARK", "VERSION", "ScanRecord", "make_record", "parse_record"]

MARK = "pointseg_scan"  # the key by which a record is known; its value is the version
VERSION = 1
LONGEST = 200  # characters of a name
ALWAYS = frozenset(QUANTITIES) - {"remission", "beams"}  # what each scan with points has
OF_POINTS = frozenset(name for name, kind in QUANTITIES.items() if kind.compare != "log") | {"density by range"}


@dataclass(frozen=True)
class ScanRecord:
    """A record as it is read.

    Attributes:
        time: of the answer, in UTC.
        model: NAME/VERSION that labelled the scan.
        counts: (B,) int64 by the name of the quantity.
        label_map: the hash of the model's label map.
        classes: points by the name of the predicted class.
    """

    time: datetime
    model: str
    counts: Mapping[str, NDArray[np.int64]]
    label_map: str
    classes: Mapping[str, int]

    def vectors(self) -> dict[str, NDArray[np.float64]]:
        """As `scan_quantities` gives them."""
        return quantities_of(self.counts)

    def class_shares(self, label_map: LabelMap) -> NDArray[np.float64] | None:
        """(K,) as `input_quantities.class_shares` gives them; None where the model had other classes."""
        if self.label_map != label_map.hash:
            return None
        count_K = np.array([self.classes.get(name, 0) for name in label_map.class_names], np.int64)
        return np.asarray(count_K / max(count_K.sum(), 1), np.float64)


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
    """The record of a labelled scan, plain values; None for a scan without a finite point. About 30 ms for 120,000 points.

    Args:
        points: (N, 4) or (N, 3), as they were labelled.
        raw_ids: (N,) what was predicted.
        time: of the answer.
        seconds: that labelling took.

    Example:
        >>> make_record(points, raw_ids, label_map, time=now, request_id="a1", model="street/3", seconds=0.1)["points"]
        124668
    """
    counts = scan_counts(points)
    if not counts:
        return None
    by_class = np.bincount(label_map.to_train(raw_ids), minlength=label_map.num_classes + 1)[1:]
    return {
        MARK: VERSION,
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
    """What `make_record` gave, read again and checked.

    Raises:
        ValueError: with what is wrong, for what is no record, of another version or damaged.
    """
    if not isinstance(content, Mapping) or MARK not in content:
        raise ValueError("no record of a scan")
    if content[MARK] != VERSION:
        raise ValueError(f"a record of version {str(content[MARK])[:20]}, and this version of pointseg reads {VERSION}")
    try:
        time = datetime.fromisoformat(str(content["time"]).replace("Z", "+00:00"))
        counts = {str(name): _counted(name, values) for name, values in content["counts"].items() if name in QUANTITIES}
        classes = {str(name): _whole(value) for name, value in content["classes"].items()}
        record = ScanRecord(time, str(content["model"])[:LONGEST], counts, str(content["label_map"]), classes)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise ValueError(f"a damaged record ({type(error).__name__}: {' '.join(str(error).split())[:100]})") from None
    if time.tzinfo is None or not counts.keys() >= ALWAYS:
        raise ValueError("a damaged record (a time without a zone, or a quantity is missing)")
    total = int(counts["density"][0])
    if (
        total < 1
        or counts.get("beams", 1) < 1
        or any(int(counts[name].sum()) != total for name in OF_POINTS & counts.keys())
    ):
        raise ValueError("a damaged record (the counts do not add up)")
    return record


def _counted(name: str, values: Any) -> NDArray[np.int64]:
    if not isinstance(values, list) or len(values) != QUANTITIES[name].bins:
        raise ValueError(f"{name} has {QUANTITIES[name].bins} bins")
    return np.array([_whole(value) for value in values], np.int64)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise ValueError(f"{value!r} is no count")
    return value
