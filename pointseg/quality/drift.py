"""Detect whether new scans differ from those that a model was trained on, and name what is different.

    >>> from pointseg.quality.input_statistics import measure
    >>> found = compare_statistics(measure(new_scans), measure(training_scans))
    >>> found.verdict
    'drifted: remission is 0.61 times as large'

For each quantity of `pointseg.quality.input_quantities`, the distance of the two sets is divided by its expected size, root
mean square, if the new sequences were of the same kind as the training sequences: spread * sqrt(1 / n + 1 / S) for n new and
S training sequences. A few sequences give a poor estimate of the spread, so it is shrunk towards a usual value that counts as
`PRIOR` further sequences (as Smyth moderates variances, "Linear Models and Empirical Bayes Methods", 2004).

One odd street is no drift: with three or more new sequences, the score is the smallest over leaving any one of them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.text import counted
from pointseg.quality.input_statistics import InputStatistics, Quantity

__all__ = ["DRIFT_LIMIT", "PRIOR", "Difference", "Drift", "compare_statistics"]

DRIFT_LIMIT = 4.0  # score from which a quantity has drifted; chosen on synthetic streets, see docs/drift.md
PRIOR = 3  # the weight of the usual spread, in sequences
FEW = 5  # training sequences; with fewer, the spread between them is hardly known

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """How one quantity differs between two sets.

    Attributes:
        distance: from the training's mean to the new set's, in `unit`.
        expected: root mean square distance of as many sequences of the training's kind.
        score: distance / expected of the new set, or of the new set without one of its sequences if that is smaller.
        drifted: whether the score reaches the limit and the distance exceeds the spread of training sequences.
        words: a description, such as "remission is 0.61 times as large".
    """

    name: str
    distance: float
    unit: str
    expected: float
    score: float
    drifted: bool
    words: str

    def to_dict(self) -> dict[str, Any]:
        numbers = {name: float(f"{getattr(self, name):.4g}") for name in ("distance", "expected", "score")}
        return {"drifted": self.drifted, **numbers, "unit": self.unit, "words": self.words}


@dataclass(frozen=True)
class Drift:
    """The result of `compare_statistics`.

    Attributes:
        differences: the drifted ones first, then by descending score.
        missing: quantities that only one of the two sets has.
        notes: what limits the verdict, as sentences without a full stop.
    """

    new: InputStatistics
    reference: InputStatistics
    differences: Sequence[Difference]
    missing: Sequence[str]
    notes: Sequence[str]

    @property
    def score(self) -> float:
        """The score of the first difference."""
        return self.differences[0].score

    @property
    def named(self) -> list[str]:
        """The drifted quantities, the highest score first."""
        return [difference.name for difference in self.differences if difference.drifted]

    @property
    def drifted(self) -> bool:
        """Whether any quantity has drifted."""
        return bool(self.named)

    @property
    def verdict(self) -> str:
        """One line."""
        drifted = [difference.words for difference in self.differences if difference.drifted]
        return f"drifted: {'; '.join(drifted)}" if drifted else "like the training data"

    def to_dict(self) -> dict[str, Any]:
        """The content of `drift.json`."""
        return {
            "format": 1,
            "verdict": self.verdict,
            "drifted": self.drifted,
            "named": self.named,
            "score": float(f"{self.score:.4g}"),
            "limit": DRIFT_LIMIT,
            "quantities": {difference.name: difference.to_dict() for difference in self.differences},
            "missing": list(self.missing),
            "notes": list(self.notes),
            "new": {"sequences": self.new.sequences, "scans": self.new.scans},
            "reference": {"sequences": self.reference.sequences, "scans": self.reference.scans},
        }


def compare_statistics(new: InputStatistics, reference: InputStatistics) -> Drift:
    """Compare new scans with a training set.

    Args:
        new: from `measure`, which keeps the sequences apart.
        reference: from `measure` or a bundle.

    Raises:
        DataError: if they have no quantity in common.

    Example:
        >>> compare_statistics(measure(SyntheticScans(40, seed=7)), measure(SyntheticScans(100, seed=0))).drifted
        False
    """
    shared = [name for name in reference.quantities if name in new.quantities]
    if not shared:
        raise DataError("the two sets have no quantity in common", where="drift", remedy="Measure both again.")
    pairs = ((new.quantities[name], reference.quantities[name]) for name in shared)
    differences = sorted((_difference(*pair) for pair in pairs), key=lambda d: (not d.drifted, -d.score))
    missing = sorted(set(new.quantities) ^ set(reference.quantities))
    return Drift(new, reference, differences, missing, _notes(new, reference, missing))


def expected_spread(quantity: Quantity) -> float:
    """The spread of a quantity between sequences, shrunk towards the usual one: the fewer sequences, the more."""
    usual, freedom = quantity.kind.usual, quantity.sequences - 1
    known = quantity.spread if freedom else 0.0
    return float(np.sqrt((freedom * known**2 + PRIOR * usual**2) / (freedom + PRIOR)))


def _difference(new: Quantity, reference: Quantity) -> Difference:
    kind, spread, count = reference.kind, expected_spread(reference), new.sequences

    def expected(sequences: int) -> float:
        return spread * float(np.sqrt(1 / sequences + 1 / reference.sequences))

    distance = kind.distance(new.mean, reference.mean)
    scores = [distance / expected(count)]
    if count >= 3 and len(new.vectors):
        others_SB = (new.vectors.sum(axis=0) - new.vectors) / (count - 1)
        scores += [kind.distance(row, reference.mean) / expected(count - 1) for row in others_SB]
    score = min(scores)
    drifted = bool(score >= DRIFT_LIMIT and distance > spread)
    return Difference(kind.name, distance, kind.unit, expected(count), score, drifted, _words(new, reference))


def _notes(new: InputStatistics, reference: InputStatistics, missing: Sequence[str]) -> list[str]:
    notes = []
    if reference.sequences < FEW:
        few = "one sequence" if reference.sequences == 1 else f"{reference.sequences} sequences"
        notes.append(
            f"the training set has {few}: the spread between them is hardly known, and that of synthetic streets mostly "
            "replaces it"
        )
    if new.sequences < 3:
        few = counted(new.sequences, "sequence")
        notes.append(f"the new scans are {few}: one odd street cannot be distinguished from drift")
    for name in missing:
        which = "new scans have" if name in reference.quantities else "training set has"
        notes.append(f"{name} is not compared: the {which} none that can be determined")
    return notes


def _words(new: Quantity, reference: Quantity) -> str:
    kind = reference.kind
    name = kind.name
    if name == "beams":
        rings, usual = (round(float(np.exp(quantity.mean[0]))) for quantity in (new, reference))
        return f"beams: about {rings} distinct elevation rings instead of {usual}"
    if name == "density":
        return f"density: {_times(np.exp(new.mean[0] - reference.mean[0]))} as many points a scan"
    if name == "density by range":
        ratios = np.exp(new.mean - reference.mean)
        place = int(np.abs(new.mean - reference.mean).argmax())
        return f"density by range: {_times(ratios[place])} as many points at {kind.labels[place]}"
    if kind.compare == "variation":
        place = int(np.abs(new.mean - reference.mean).argmax())
        shares = f"{_percent(new.mean[place])} instead of {_percent(reference.mean[place])}"
        of = "around" if name == "azimuth" else "are"
        return f"{name}: {shares} of the points {of} {kind.labels[place]}"
    now, before = kind.typical(new.mean), kind.typical(reference.mean)
    if name == "remission":
        return f"remission is {_times(now / max(before, 1e-9))} as large"
    if name == "range":
        return f"range: {now:.1f} m instead of {before:.1f} m in the mean"
    moved = _percent(float(np.abs(new.mean - reference.mean).sum() / 2))
    unit = {"height": "m", "vertical angle": "degrees"}[name]
    return f"{name}: {now:.2g} instead of {before:.2g} {unit} in the mean, and {moved} of the points lie elsewhere"


def _times(ratio: float) -> str:
    return f"{ratio:.2g} times"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
