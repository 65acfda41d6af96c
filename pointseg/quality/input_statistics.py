"""Distributions of a model's input over a set of scans, by sequence, for `quality.drift` to compare.

    >>> from pointseg.quality.input_statistics import measure
    >>> training = measure(SemanticKITTIScans(root, range(8)))
    >>> training.quantities["remission"].mean.shape, training.sequences
    ((40,), 8)

Frames of one drive are nearly alike, so the unit is the sequence: scans are averaged to sequences, and a set keeps the mean
of its sequences and their spread. The distance of two sets is that of their means (see `QuantityKind`).

Legend: N points of a scan, B bins of a quantity, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.progress import Update
from pointseg.data.sources import ScanSource
from pointseg.quality.exploration_counts import part_centres, scans_by_sequence
from pointseg.quality.input_quantities import QUANTITIES, QuantityKind, class_kind, class_shares, scan_quantities

__all__ = ["InputStatistics", "Quantity", "measure", "measure_vectors"]

FORMAT = 1
SCANS, SEQUENCES = 8, 40  # scans of each sequence, and sequences, that are measured
DECIMALS = 5  # of shares and of logarithms of counts: far below any spread

Floats = NDArray[np.float64]


class Classifier(Protocol):
    """Predicts classes: a `Predictor`, or anything with these two members."""

    @property
    def label_map(self) -> Any: ...

    def train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Quantity:
    """One quantity of a set.

    Attributes:
        mean: (B,) mean of the sequences' vectors.
        low, high: (B,) smallest and largest values of any sequence.
        spread: root mean square distance of a sequence to the mean of its kind, estimated from the distance of each sequence
            to the mean of the others; NaN for one sequence.
        sequences: how many it was measured in.
        vectors: (S, B) of each sequence; (0, B) if they were not kept, as in a bundle.
    """

    kind: QuantityKind
    mean: Floats
    low: Floats
    high: Floats
    spread: float
    sequences: int
    vectors: Floats

    @classmethod
    def of(cls, kind: QuantityKind, vectors_SB: Floats) -> Quantity:
        """From one vector a sequence.

        The squared distance of one sequence to the mean of the S - 1 others has the expectation
        spread**2 * (1 + 1 / (S - 1)), if the sequences are draws of one kind.
        """
        count = len(vectors_SB)
        mean = vectors_SB.mean(axis=0)
        spread = np.nan
        if count > 1:
            others_SB = (vectors_SB.sum(axis=0) - vectors_SB) / (count - 1)
            left_out = [kind.distance(own, rest) for own, rest in zip(vectors_SB, others_SB, strict=True)]
            spread = float(np.sqrt(np.mean(np.square(left_out)) / (1 + 1 / (count - 1))))
        return cls(kind, mean, vectors_SB.min(axis=0), vectors_SB.max(axis=0), spread, count, vectors_SB)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, rounded to five decimals."""
        arrays = {name: _rounded(getattr(self, name)) for name in ("mean", "low", "high")}
        known = None if np.isnan(self.spread) else _rounded([self.spread])[0]
        return {**arrays, "spread": known, "sequences": self.sequences}

    @classmethod
    def from_dict(cls, kind: QuantityKind, values: Mapping[str, Any]) -> Quantity:
        """The inverse of `to_dict`.

        Raises:
            ValueError: if the values do not fit the quantity.
        """
        mean, low, high = (np.array(values[name], np.float64) for name in ("mean", "low", "high"))
        if any(array.shape != (kind.bins,) or not np.isfinite(array).all() for array in (mean, low, high)):
            raise ValueError(f"{kind.name} must have {kind.bins} bins")
        spread, count = values["spread"], int(values["sequences"])
        if count < 1 or (spread is None) != (count == 1) or (spread is not None and not 0 <= float(spread) < np.inf):
            raise ValueError(f"a spread of {spread} between {count} sequences")
        spread = np.nan if spread is None else float(spread)
        return cls(kind, mean, low, high, spread, count, np.empty((0, kind.bins)))


@dataclass(frozen=True)
class InputStatistics:
    """The result of `measure`.

    Attributes:
        quantities: by name, without those that a set lacks (remission, clear beams).
        sequences, scans: how many were measured.
    """

    quantities: Mapping[str, Quantity]
    sequences: int
    scans: int

    def to_dict(self) -> dict[str, Any]:
        """What a bundle keeps under `input_statistics`: plain values, about 14 kB."""
        named = {name: quantity.to_dict() for name, quantity in self.quantities.items() if name in QUANTITIES}
        return {"format": FORMAT, "sequences": self.sequences, "scans": self.scans, "quantities": named}

    @classmethod
    def from_dict(cls, values: Any, where: object) -> InputStatistics:
        """The inverse of `to_dict`, without quantities that this version does not know.

        Raises:
            DataError: for another format or damaged values.
        """
        remedy = "Train again, or name the packed training set: against=PACKED_STORE."
        try:
            if values["format"] != FORMAT:
                what = f"the input statistics have format {values['format']!r}, and this version reads {FORMAT}"
                raise DataError(what, where=where, remedy=remedy)
            known = {name: v for name, v in values["quantities"].items() if name in QUANTITIES}
            quantities = {name: Quantity.from_dict(QUANTITIES[name], v) for name, v in known.items()}
            return cls(quantities, int(values["sequences"]), int(values["scans"]))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            what = f"the input statistics are damaged ({' '.join(str(error).split())[:200]})"
            raise DataError(what, where=where, remedy=remedy) from error


def measure(
    source: ScanSource,
    *,
    scans: int = SCANS,
    sequences: int = SEQUENCES,
    predictor: Classifier | None = None,
    unreadable: Callable[[DataError], None] | None = None,
    progress: Update | None = None,
) -> InputStatistics:
    """Measure scans evenly chosen from each sequence, and sequences evenly chosen from the set.

    Args:
        scans: at most so many of each sequence; a scan of 120,000 points takes about 30 ms.
        sequences: at most so many.
        predictor: adds the shares of its predicted classes as a quantity.
        unreadable: called with the error of each unreadable scan, which is then omitted; None raises the error.

    Raises:
        DataError: if no scan has points, or a file cannot be read.

    Example:
        >>> measure(SyntheticScans(scans=20, scans_per_street=2)).sequences
        10
    """
    kinds = dict(QUANTITIES)
    if predictor is not None:
        kinds["predicted classes"] = class_kind(predictor.label_map)

    left_out = 0

    def vectors_of(number: int) -> dict[str, Floats]:
        nonlocal left_out
        try:
            scan = source[number]
            points = scan.with_columns(getattr(predictor, "extra", ()))
        except DataError as error:
            if unreadable is None:
                raise
            unreadable(error)
            left_out += 1
            return {}
        vectors = scan_quantities(scan.points)
        if predictor is not None and len(points):
            counts = np.bincount(predictor.train_ids(points), minlength=predictor.label_map.num_classes + 1)[1:]
            vectors["predicted classes"] = class_shares(counts)
        return vectors

    statistics = measure_vectors(source.names, vectors_of, kinds, scans=scans, sequences=sequences, progress=progress)
    return replace(statistics, scans=statistics.scans - left_out)


def measure_vectors(
    names: Sequence[str],
    vectors_of: Callable[[int], Mapping[str, Floats]],
    kinds: Mapping[str, QuantityKind],
    *,
    scans: int = SCANS,
    sequences: int = SEQUENCES,
    progress: Update | None = None,
) -> InputStatistics:
    """`measure` for scans whose vectors come from elsewhere.

    Args:
        names: "SEQUENCE/FRAME" of each scan.
        vectors_of: index of a scan -> its vectors by quantity; {} for a scan without points.

    Raises:
        DataError: if no scan has points.
    """
    chosen = _chosen(names, scans, sequences)
    total, done = sum(map(len, chosen)), 0
    vectors: dict[str, list[Floats]] = {name: [] for name in kinds}
    for members in chosen:
        of_sequence: dict[str, list[Floats]] = {name: [] for name in kinds}
        for number in members:
            for name, vector in vectors_of(number).items():
                of_sequence[name].append(vector)
            done += 1
            if progress:
                progress(done, total)
        for name, of_scans in of_sequence.items():
            if of_scans:
                vectors[name].append(np.mean(of_scans, axis=0))
    if not vectors["range"]:
        raise DataError("there is no scan with points", where="the scans", remedy="Name a folder with scans.")
    measured = len(vectors["range"])
    # a quantity that most sequences lack, such as clear beams, says nothing about the set
    enough = {name: rows for name, rows in vectors.items() if 2 * len(rows) > measured}
    quantities = {name: Quantity.of(kinds[name], np.stack(rows)) for name, rows in enough.items()}
    return InputStatistics(quantities, measured, total)


def _chosen(names: Sequence[str], scans: int, sequences: int) -> list[list[int]]:
    members = list(scans_by_sequence(names).values())
    kept = [members[place] for place in part_centres(len(members), sequences)]
    return [[numbers[place] for place in part_centres(len(numbers), scans)] for numbers in kept]


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DECIMALS) for value in values]
