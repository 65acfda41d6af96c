"""Short hashes of the scans that a model was trained on, by which such a scan is recognised later.

A hash is made of the number of points of each class, which is the same in raw files and in a packed store. A copy under
another name has the same hash; the same scan cropped, thinned or labelled anew has another one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEY", "hashes_of", "joined", "read_hashes", "write_hashes"]

KEY = "scan_hashes"  # of the `data` in a bundle's provenance
BYTES = 6  # of a hash: two of 20,000 and 4,000 scans agree by chance with a probability of 1 in 3 million


def hashes_of(scan_counts: NDArray[np.int64]) -> frozenset[bytes]:
    """Hashes of scans from their points by class (S, K + 1), as in `DataSummary.scan_counts`."""
    rows = np.ascontiguousarray(scan_counts, "<i8")
    return frozenset(hashlib.sha256(row.tobytes()).digest()[:BYTES] for row in rows)


def write_hashes(hashes: frozenset[bytes]) -> str:
    """As text: 8 characters a scan.

    Example:
        >>> write_hashes(frozenset([b"street"]))
        'c3RyZWV0'
    """
    return base64.b64encode(b"".join(sorted(hashes))).decode("ascii")


def read_hashes(provenance: Mapping[str, Any]) -> frozenset[bytes] | None:
    """The hashes in a bundle's provenance; None if there are none or they cannot be read."""
    data = provenance.get("data")
    text = data.get(KEY) if isinstance(data, Mapping) else None
    if not isinstance(text, str) or not text:
        return None
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(content) % BYTES:
        return None
    return frozenset(content[start : start + BYTES] for start in range(0, len(content), BYTES))


def joined(now: Mapping[str, Any], earlier: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of a run that continues from an earlier state, with the scans of both.

    If the hashes of either are unknown, the result has none.
    """
    result = dict(now)
    if not isinstance(result.get("data"), Mapping):
        return result
    data = dict(result["data"])
    current, previous = read_hashes(now), read_hashes(earlier)
    data.pop(KEY, None)
    if current is not None and previous is not None:
        data[KEY] = write_hashes(current | previous)
    result["data"] = data
    return result
