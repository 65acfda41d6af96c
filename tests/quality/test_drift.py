"""Drift: known shifts are named, unshifted sequences are not, and the score is what it is said to be."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from drift_draws import DRAWN, SHIFTS, Sequences, draw, reference, shifted

from pointseg.core.errors import DataError
from pointseg.quality.drift import DRIFT_LIMIT, PRIOR, compare_statistics, expected_spread
from pointseg.quality.input_quantities import QUANTITIES
from pointseg.quality.input_statistics import InputStatistics, Quantity, measure


def drift_rates(draws: range) -> dict[str, int]:
    """Kind of shift -> draws in which it was named: of "none", draws that were said to have drifted."""
    found = dict.fromkeys(SHIFTS, 0)
    for number in draws:
        for kind, wanted in SHIFTS.items():
            drift = draw(number, kind)
            found[kind] += drift.drifted and set(drift.named) >= wanted
    return found


def test_a_few_draws_are_judged_right() -> None:
    assert drift_rates(range(100, 103)) == {kind: 3 * (kind != "none") for kind in SHIFTS}


@pytest.mark.slow
def test_shifts_are_named_in_48_of_50_draws_and_none_in_at_most_2() -> None:
    found = drift_rates(range(50))
    print(found)
    assert found.pop("none") <= 2
    assert all(count >= 48 for count in found.values()), found


def test_the_verdict_says_what_is_different() -> None:
    assert draw(100, "none").verdict == "like the training data"
    beams = draw(100, "32 beams")
    assert re.search(
        "beams: about 3[12] distinct elevation rings instead of 64", beams.verdict
    )  # one ring may see the sky
    remission = draw(100, "remission")
    assert remission.verdict.startswith("drifted: remission is 0.") and remission.named == ["remission"]
    assert json.loads(json.dumps(remission.to_dict()))["named"] == ["remission"]


def numbers(*values: float) -> InputStatistics:
    """A set whose sequences have these logarithms of density."""
    quantity = Quantity.of(QUANTITIES["density"], np.array(values)[:, None])
    return InputStatistics({"density": quantity}, len(values), len(values))


def test_the_score_is_the_distance_over_what_is_expected() -> None:
    training, new = numbers(9.9, 10.0, 10.2, 10.3), numbers(11.0, 11.0)
    (difference,) = compare_statistics(new, training).differences
    variance = np.var([9.9, 10.0, 10.2, 10.3], ddof=1)  # of one bin, leaving one out gives the usual estimate
    spread = np.sqrt((3 * variance + PRIOR * QUANTITIES["density"].usual ** 2) / (3 + PRIOR))
    assert training.quantities["density"].spread == pytest.approx(np.sqrt(variance))
    assert difference.score == pytest.approx((11.0 - 10.1) / (spread * np.sqrt(1 / 2 + 1 / 4)))


def test_one_odd_sequence_is_no_drift() -> None:
    training = numbers(*np.linspace(9.9, 10.1, 12))
    assert compare_statistics(numbers(10.0, 10.0, 10.0, 14.0), training).verdict == "like the training data"
    assert compare_statistics(numbers(14.0, 14.0, 10.0, 14.0), training).drifted
    assert compare_statistics(numbers(14.0, 14.0, 14.0), training).score > DRIFT_LIMIT


def test_frames_do_not_count_as_sequences() -> None:
    scans = shifted(100, "none")
    repeated = measure(Sequences([[scan for scan in sequence for _ in range(3)] for sequence in scans]), scans=6)
    once = measure(Sequences(scans))
    assert repeated.sequences == once.sequences == DRAWN
    assert compare_statistics(repeated, reference(10)).score == pytest.approx(
        compare_statistics(once, reference(10)).score
    )


def test_few_training_sequences_are_said_and_use_the_usual_spread() -> None:
    scans = shifted(100, "none")
    one = measure(Sequences(scans[:1]))
    assert expected_spread(one.quantities["range"]) == QUANTITIES["range"].usual
    drift = compare_statistics(measure(Sequences(scans[1:3])), one)
    assert any("one sequence: the spread between them is hardly known" in note for note in drift.notes)
    assert any("one odd street" in note for note in drift.notes)


def test_without_remission_it_is_not_compared() -> None:
    bare = measure(Sequences([[points[:, :3] for points in scans] for scans in shifted(100, "none")]))
    drift = compare_statistics(bare, reference(10))
    assert drift.missing == ["remission"]
    assert "remission is not compared: the new scans have none that can be determined" in drift.notes


def test_nothing_in_common_is_refused() -> None:
    empty = dataclasses.replace(numbers(1.0), quantities={})
    with pytest.raises(DataError, match="no quantity in common"):
        compare_statistics(empty, numbers(1.0))
