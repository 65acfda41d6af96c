"""The quantities by which scans are compared, measured in one scan. Needs NumPy only.

Each is a vector with a norm. Histograms are compared by the 1-Wasserstein distance (the earth mover's distance of Rubner et
al., "The Earth Mover's Distance as a Metric for Image Retrieval", IJCV 2000), which in one dimension is the area between the
cumulative distributions (Vallender, "Calculation of the Wasserstein Distance Between Probability Distributions on the Line",
1974) and has the unit of the quantity. Unordered shares are compared by the total variation distance, and counts by the mean
absolute difference of their logarithms.

Legend: N points, B bins.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap

__all__ = [
    "QUANTITIES",
    "QuantityKind",
    "class_kind",
    "class_shares",
    "count_beams",
    "quantities_of",
    "scan_counts",
    "scan_quantities",
]

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

DENSITY_BANDS = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0)  # metres where each begins; the last has no end
FEW = 10.0  # points added to each count before its logarithm, so that empty bands stay finite
SECTORS = 36
FINE = 0.02  # degrees, the bins that separate beams
BEAM_SPAN = (-40.0, 40.0)  # degrees
CLEAR = 0.8  # share of the points within a bin of a beam, below which beams cannot be separated


@dataclass(frozen=True)
class QuantityKind:
    """The definition of a quantity.

    Attributes:
        unit: of distances between two sets.
        compare: "wasserstein" for shares of ordered bins, "variation" for unordered shares, "log" for logarithms.
        usual: the usual distance of a sequence from the mean of its kind, in `unit`, measured on streets of the synthetic
            world; used where training sequences are few.
        edges: of ordered bins.
        labels: names of other bins.
    """

    name: str
    unit: str
    compare: Literal["wasserstein", "variation", "log"]
    usual: float
    edges: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def bins(self) -> int:
        """B."""
        return len(self.labels) or len(self.edges) - 1

    def distance(self, first_B: Floats, second_B: Floats) -> float:
        """The distance of two vectors, in `unit`."""
        difference = np.asarray(first_B, np.float64) - second_B
        if self.compare == "wasserstein":
            return float(np.sum(np.abs(np.cumsum(difference)) * np.diff(self.edges)))
        return float(np.abs(difference).sum() / 2 if self.compare == "variation" else np.abs(difference).mean())

    @property
    def centres(self) -> Floats:
        """(B,) centres of the bins."""
        edges = np.array(self.edges)
        return (edges[1:] + edges[:-1]) / 2

    def typical(self, vector_B: Floats) -> float:
        """The mean of a histogram."""
        return float(self.centres @ vector_B / max(vector_B.sum(), 1e-12))


def _steps(first: float, last: float, step: float) -> tuple[float, ...]:
    return tuple(np.linspace(first, last, round((last - first) / step) + 1).tolist())


_BAND_NAMES = (*(f"{near:g}-{far:g} m" for near, far in itertools.pairwise(DENSITY_BANDS)), f"{DENSITY_BANDS[-1]:g}+ m")
_SECTOR_NAMES = tuple(f"{360 * k // SECTORS - 180}°" for k in range(SECTORS))

QUANTITIES: dict[str, QuantityKind] = {
    kind.name: kind
    for kind in (
        QuantityKind("range", "m", "wasserstein", 1.9, _steps(0, 82, 2)),
        QuantityKind("height", "m", "wasserstein", 0.12, _steps(-4, 8, 0.25)),
        QuantityKind("remission", "", "wasserstein", 0.025, _steps(0, 1, 0.025)),
        QuantityKind("vertical angle", "degrees", "wasserstein", 0.15, _steps(-35, 25, 0.5)),
        QuantityKind("azimuth", "share", "variation", 0.02, labels=_SECTOR_NAMES),
        QuantityKind("density", "log points", "log", 0.025, labels=("a scan",)),
        QuantityKind("density by range", "log points", "log", 0.25, labels=_BAND_NAMES),
        QuantityKind("beams", "log beams", "log", 0.05, labels=("a scan",)),
    )
}


def scan_quantities(points: NDArray[np.float32]) -> dict[str, Floats]:
    """The vectors of one scan by quantity; values beyond a histogram count in its outermost bins.

    Args:
        points: (N, 4) float32 x, y, z in metres from the sensor and remission in [0, 1], or (N, 3) without remission. Points
            that are not finite are omitted; an empty scan has no quantities.

    Example:
        >>> scan_quantities(scan.points)["range"].sum()
        1.0
    """
    return quantities_of(scan_counts(points))


def scan_counts(points: NDArray[np.float32]) -> dict[str, Counts]:
    """The counts of points (rings for "beams") behind `scan_quantities`: exact when stored, in about a kilobyte.

    Returns:
        (B,) int64 by quantity; "density" is the number of points. Empty for an empty scan.

    Example:
        >>> scan_counts(scan.points)["density"]
        array([124668])
    """
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return {}
    x, y, z = (points[:, axis].astype(np.float64) for axis in range(3))
    level = np.hypot(x, y)
    range_N, elevation_N = np.hypot(level, z), np.degrees(np.arctan2(z, level))
    values = {"range": range_N, "height": z, "vertical angle": elevation_N}
    if points.shape[1] > 3:
        values["remission"] = points[:, 3].astype(np.float64)
    counts = {name: _histogram(value_N, QUANTITIES[name].edges) for name, value_N in values.items()}
    sector_N = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * SECTORS).astype(np.int64) % SECTORS
    counts["azimuth"] = np.bincount(sector_N, minlength=SECTORS)
    counts["density"] = np.array([len(points)])
    band_N = np.searchsorted(DENSITY_BANDS, range_N, side="right") - 1
    counts["density by range"] = np.bincount(band_N, minlength=len(DENSITY_BANDS))
    beams = count_beams(elevation_N)
    if beams is not None:
        counts["beams"] = np.array([beams])
    return counts


def quantities_of(counts: Mapping[str, Counts]) -> dict[str, Floats]:
    """The vectors of one scan from its `scan_counts`."""
    vectors = {}
    for name, count_B in counts.items():
        if QUANTITIES[name].compare != "log":
            vectors[name] = count_B / int(counts["density"][0])
        else:
            vectors[name] = np.log(count_B + (FEW if name == "density by range" else 0.0))
    return vectors


def _histogram(value_N: Floats, edges: tuple[float, ...]) -> Counts:
    bins = len(edges) - 1
    place_N = np.floor((value_N - edges[0]) * (bins / (edges[-1] - edges[0])))
    return np.bincount(place_N.clip(0, bins - 1).astype(np.int64), minlength=bins)


def count_beams(elevation_N: Floats) -> int | None:
    """How many distinct elevation rings a scan has; None if they cannot be separated, as after motion correction or merging.

    A ring is a bin of 0.02 degrees with more points than the three on either side and than a twentieth of a usual ring.

    Args:
        elevation_N: degrees.

    Example:
        >>> count_beams(np.degrees(Sensor(beams=32).elevations).repeat(100))
        32
    """
    low, high = BEAM_SPAN
    inside = elevation_N[(elevation_N > low) & (elevation_N < high)]
    if not len(inside):
        return None
    count = np.bincount(((inside - low) / FINE).astype(np.int64), minlength=round((high - low) / FINE) + 1)
    padded = np.pad(count, 3).astype(np.float64)
    padded += np.arange(len(padded)) * 1e-9  # breaks ties between equal neighbours
    windows = np.lib.stride_tricks.sliding_window_view(padded, 7)
    peak = (windows[:, 3] == windows.max(axis=1)) & (count > 0)
    near = np.convolve(count, np.ones(3), mode="same")
    usual = float(np.median(near[peak]))
    peak &= near > usual / 20
    if near[peak].sum() < CLEAR * len(inside) or peak.sum() < 2:
        return None
    return int(peak.sum())


def class_kind(label_map: LabelMap) -> QuantityKind:
    """The quantity "predicted classes", shares of the classes of a label map."""
    return QuantityKind("predicted classes", "share", "variation", 0.1, labels=tuple(label_map.class_names))


def class_shares(count_K: Counts) -> Floats:
    """(K,) shares from points by class."""
    return np.asarray(count_K / max(count_K.sum(), 1), np.float64)
