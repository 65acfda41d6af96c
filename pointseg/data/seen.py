"""Which scans a model was trained on: a short hash of each, which tells later whether a scan was among them.

A scan is known by its points of each class, which are the same in raw files and in a packed store. So a copy under
another name is found; the same scan cut, thinned or labelled anew is another one.
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
BYTES = 6  # of a hash: among 20,000 and 4,000 scans, two agree by chance once in 3 million times


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
    """What `write_hashes` wrote into a bundle's provenance; None where it says nothing or nothing readable."""
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
    """The provenance of a run that goes on from another state: it has seen the scans of both.

    Where the earlier one does not say which, nobody can, and the hashes are left out.
    """
    result = dict(now)
    if not isinstance(result.get("data"), Mapping):
        return result
    data = dict(result["data"])
    ours, theirs = read_hashes(now), read_hashes(earlier)
    data.pop(KEY, None)
    if ours is not None and theirs is not None:
        data[KEY] = write_hashes(ours | theirs)
    result["data"] = data
    return result
