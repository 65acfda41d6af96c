"""What a set of scans looks like to a model: distributions of its input, by sequence. `pointseg.drift` compares two sets.

    >>> from pointseg.data.statistics import measure
    >>> training = measure(SemanticKITTIScans(root, range(8)))
    >>> training.quantities["remission"].mean.shape, training.sequences
    ((40,), 8)

Frames of one drive are nearly alike, so the unit is the sequence: scans are averaged to sequences, and what the sequences
of a set differ by is kept beside their mean. Every quantity is a vector with a norm: two sets are as far
apart as the norm of the difference of their means says (see `QuantityKind`).

Legend: N points of a scan, B bins of a quantity, S sequences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointseg.data.exploration_counts import sequence_of, spread
from pointseg.data.input_quantities import QUANTITIES, QuantityKind, class_kind, class_shares, scan_quantities
from pointseg.data.sources import Progress, ScanSource
from pointseg.errors import DataError

__all__ = ["FORMAT", "InputStatistics", "Quantity", "measure", "measure_vectors"]

FORMAT = 1
SCANS, SEQUENCES = 8, 40  # of each sequence, and sequences, that are looked at
DECIMALS = 5  # of shares and of logarithms of counts, far below any spread

Floats = NDArray[np.float64]


class Classifier(Protocol):
    """What predicts classes: a `Predictor`, or anything with these two."""

    @property
    def label_map(self) -> Any: ...

    def train_ids(self, points: NDArray[np.float32]) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Quantity:
    """One quantity of a set.

    Attributes:
        kind: what its bins are and how two of them are compared.
        mean: (B,) mean of the sequences' vectors.
        low, high: (B,) the least and most of any sequence.
        spread: how far a sequence lies from the mean of its kind, root mean square, in the unit of the quantity, from the
            distances of each sequence to the mean of the others; NaN for one sequence.
        sequences: how many it was measured in.
        vectors: (S, B) of each sequence; (0, B) where they were not kept, as in a bundle.
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

        Leaving one of S sequences out, its distance to the mean of the others has an expected square of
        spread**2 * (1 + 1 / (S - 1)), where the sequences are draws of one kind.
        """
        count = len(vectors_SB)
        mean = vectors_SB.mean(axis=0)
        found = np.nan
        if count > 1:
            others_SB = (vectors_SB.sum(axis=0) - vectors_SB) / (count - 1)
            left_out = [kind.distance(own, rest) for own, rest in zip(vectors_SB, others_SB, strict=True)]
            found = float(np.sqrt(np.mean(np.square(left_out)) / (1 + 1 / (count - 1))))
        return cls(kind, mean, vectors_SB.min(axis=0), vectors_SB.max(axis=0), found, count, vectors_SB)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, rounded to five decimals."""
        arrays = {name: _rounded(getattr(self, name)) for name in ("mean", "low", "high")}
        known = None if np.isnan(self.spread) else _rounded([self.spread])[0]
        return {**arrays, "spread": known, "sequences": self.sequences}

    @classmethod
    def from_dict(cls, kind: QuantityKind, values: Mapping[str, Any]) -> Quantity:
        """What `to_dict` gave.

        Raises:
            ValueError: if it does not fit the quantity.
        """
        mean, low, high = (np.array(values[name], np.float64) for name in ("mean", "low", "high"))
        if any(array.shape != (kind.bins,) or not np.isfinite(array).all() for array in (mean, low, high)):
            raise ValueError(f"{kind.name} must have {kind.bins} bins")
        found, count = _spread_and_count(values)
        return cls(kind, mean, low, high, found, count, np.empty((0, kind.bins)))


@dataclass(frozen=True)
class InputStatistics:
    """What `measure` found.

    Attributes:
        quantities: by name; those that a set does not have (remission, clear beams) are left out.
        sequences, scans: how many were looked at.
    """

    quantities: Mapping[str, Quantity]
    sequences: int
    scans: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, about 14 kB: what a bundle keeps under `input_statistics`."""
        named = {name: quantity.to_dict() for name, quantity in self.quantities.items() if name in QUANTITIES}
        return {"format": FORMAT, "sequences": self.sequences, "scans": self.scans, "quantities": named}

    @classmethod
    def from_dict(cls, values: Any, where: object) -> InputStatistics:
        """What `to_dict` gave; quantities that this version does not know are left out.

        Raises:
            DataError: if it is of another format or damaged.
        """
        try:
            if values["format"] != FORMAT:
                raise DataError(
                    f"input statistics of format {values['format']!r}, and this version reads {FORMAT}",
                    where=where,
                    remedy="Train again, or name the packed training set: against=PACKED_STORE.",
                )
            known = {name: v for name, v in values["quantities"].items() if name in QUANTITIES}
            quantities = {name: Quantity.from_dict(QUANTITIES[name], v) for name, v in known.items()}
            return cls(quantities, int(values["sequences"]), int(values["scans"]))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"the input statistics are damaged ({' '.join(str(error).split())[:200]})",
                where=where,
                remedy="Train again, or name the packed training set: against=PACKED_STORE.",
            ) from error


def measure(
    source: ScanSource,
    *,
    scans: int = SCANS,
    sequences: int = SEQUENCES,
    predictor: Classifier | None = None,
    unreadable: Callable[[DataError], None] | None = None,
    progress: Progress | None = None,
) -> InputStatistics:
    """Look at scans that are evenly spread over each sequence, and at sequences evenly spread over the set.

    Args:
        source: scans named "SEQUENCE/FRAME".
        scans: at most so many of each sequence; a scan of 120,000 points takes about 30 ms.
        sequences: at most so many.
        predictor: where given, the shares of the classes that it predicts are a quantity as well.
        unreadable: told of each scan that cannot be read, which is left out then; None: it is raised.

    Raises:
        DataError: if there is no scan with points, or a file cannot be read and nobody is told.

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
            points = source[number].points
        except DataError as error:
            if unreadable is None:
                raise
            unreadable(error)
            left_out += 1
            return {}
        found = scan_quantities(points)
        if predictor is not None and len(points):
            found["predicted classes"] = class_shares(predictor.train_ids(points), predictor.label_map)
        return found

    found = measure_vectors(source.names, vectors_of, kinds, scans=scans, sequences=sequences, progress=progress)
    return replace(found, scans=found.scans - left_out)


def measure_vectors(
    names: Sequence[str],
    vectors_of: Callable[[int], Mapping[str, Floats]],
    kinds: Mapping[str, QuantityKind],
    *,
    scans: int = SCANS,
    sequences: int = SEQUENCES,
    progress: Progress | None = None,
) -> InputStatistics:
    """`measure`, of scans whose vectors come from elsewhere.

    Args:
        names: "SEQUENCE/FRAME" of each scan.
        vectors_of: the number of a scan -> its vectors by the name of the quantity; {} for a scan without points.
        kinds: the quantities.

    Raises:
        DataError: if no scan has points.
    """
    chosen = _chosen(names, scans, sequences)
    total, done = sum(map(len, chosen)), 0
    vectors: dict[str, list[Floats]] = {name: [] for name in kinds}
    for members in chosen:
        found: dict[str, list[Floats]] = {name: [] for name in kinds}
        for number in members:
            for name, vector in vectors_of(number).items():
                found[name].append(vector)
            done += 1
            if progress:
                progress(done, total)
        for name, of_scans in found.items():
            if of_scans:
                vectors[name].append(np.mean(of_scans, axis=0))
    if not vectors["range"]:
        raise DataError("there is no scan with points", where="the scans", remedy="Name a folder with scans.")
    measured = len(vectors["range"])
    # a quantity that most sequences lack, such as beams that cannot be told apart, says nothing of the set
    enough = {name: rows for name, rows in vectors.items() if 2 * len(rows) > measured}
    quantities = {name: Quantity.of(kinds[name], np.stack(rows)) for name, rows in enough.items()}
    return InputStatistics(quantities, measured, total)


def _chosen(names: Sequence[str], scans: int, sequences: int) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(sequence_of(name), []).append(number)
    members = list(groups.values())
    kept = [members[place] for place in spread(len(members), sequences)]
    return [[numbers[place] for place in spread(len(numbers), scans)] for numbers in kept]


def _spread_and_count(values: Mapping[str, Any]) -> tuple[float, int]:
    spread, count = values["spread"], int(values["sequences"])
    if count < 1 or (spread is None) != (count == 1) or (spread is not None and not 0 <= float(spread) < np.inf):
        raise ValueError(f"a spread of {spread} between {count} sequences")
    return np.nan if spread is None else float(spread), count


def _rounded(values: Any) -> list[float]:
    return [round(float(value), DECIMALS) for value in values]
