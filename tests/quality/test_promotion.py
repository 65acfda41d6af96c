"""Who may be champion: the rule, by matrices made by hand, and which scans are fair."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score

from pointseg.core.errors import ConfigError
from pointseg.data.scan_hashes import KEY, hashes_of, write_hashes
from pointseg.quality.promotion import Judgement, PromotionRule, judge, why_not_fair

NAMES = ("car", "road", "building")
SCANS, POINTS = 4, 4000


def labels(seed: int) -> NDArray[np.int64]:
    """(S, N) training ids 0..3; cars are rare."""
    return np.random.default_rng(seed).choice(4, (SCANS, POINTS), p=[0.1, 0.02, 0.5, 0.38])


def guesses(truth: NDArray[np.int64], errors: dict[int, float], seed: int) -> NDArray[np.int64]:
    """The truth, with a share of cars and buildings taken for road, and of road for buildings."""
    random = np.random.default_rng(seed)
    found = np.where(truth == 0, 2, truth)
    for train_id, share in errors.items():
        wrong = (truth == train_id) & (random.random(truth.shape) < share)
        found[wrong] = 3 if train_id == 2 else 2
    return found


def matrices(truth: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    pairs = [np.bincount(t * 4 + f, minlength=16).reshape(4, 4) for t, f in zip(truth, found, strict=True)]
    return np.stack(pairs).astype(np.int64)


def compare(before: dict[int, float], now: dict[int, float], rule: PromotionRule | None = None) -> Judgement:
    truth = labels(0)
    old, new = (matrices(truth, guesses(truth, errors, seed)) for seed, errors in ((1, before), (2, now)))
    return judge(old, new, NAMES, rule or PromotionRule(), draws=200)


def test_a_better_model_is_accepted() -> None:
    found = compare({2: 0.3, 3: 0.3}, {2: 0.1, 3: 0.1})
    assert found.reasons == ()
    assert found.overall.difference > 0.1
    assert found.spread is not None and found.spread.low > 0


def test_a_worse_model_is_refused_overall() -> None:
    found = compare({2: 0.1}, {2: 0.12}, PromotionRule(class_margin=1.0))
    assert [reason.partition(":")[0] for reason in found.reasons] == ["mIoU"]


def test_the_same_model_is_accepted() -> None:
    confusions = matrices(labels(0), guesses(labels(0), {2: 0.2}, 1))
    found = judge(confusions, confusions, NAMES, PromotionRule(0.0, 0.0, 0))
    assert found.reasons == ()
    assert {row.verdict for row in found.classes} == {"the same"}


def test_what_the_margin_allows_is_accepted() -> None:
    rule = PromotionRule(margin=0.05, class_margin=1.0)
    assert compare({2: 0.1}, {2: 0.12}, rule).reasons == ()
    assert compare({2: 0.1}, {2: 0.4}, rule).reasons != ()


def test_a_class_that_loses_too_much_is_named_though_the_mean_is_better() -> None:
    found = compare({1: 0.9, 3: 0.1}, {1: 0.1, 3: 0.35})
    assert found.overall.difference > 0
    assert {reason.partition(":")[0] for reason in found.reasons} >= {"building"}
    assert found.classes[0].name == "building"
    assert "worse by more than 5 points" in found.table()


def test_a_class_of_few_points_does_not_decide() -> None:
    few = compare({1: 0.1, 2: 0.3, 3: 0.3}, {1: 0.4, 2: 0.0, 3: 0.0}, PromotionRule(class_points=1000))
    assert few.reasons == ()
    assert "car" in few.table() and "too few points to count" in few.table()
    many = compare({1: 0.1, 2: 0.3, 3: 0.3}, {1: 0.4, 2: 0.0, 3: 0.0}, PromotionRule(class_points=100))
    assert [reason.partition(":")[0] for reason in many.reasons] == ["car"]


def test_scores_are_those_of_scikit_learn() -> None:
    truth = labels(3)
    found = guesses(truth, {1: 0.5, 2: 0.2, 3: 0.1}, 4)
    judged = judge(matrices(truth, truth.clip(1)), matrices(truth, found), NAMES, PromotionRule())
    scored = truth > 0
    expected = jaccard_score(truth[scored], found[scored], labels=[1, 2, 3], average=None)
    assert judged.overall.candidate == pytest.approx(expected.mean())
    assert {row.name: row.candidate for row in judged.classes} == pytest.approx(dict(zip(NAMES, expected, strict=True)))


def test_models_scored_on_other_scans_are_not_compared() -> None:
    one, other = (matrices(labels(seed), labels(seed).clip(1)) for seed in (0, 1))
    for wrong in (other, one[:2]):
        with pytest.raises(ConfigError, match="different scans"):
            judge(one, wrong, NAMES, PromotionRule())


def test_one_scan_has_no_spread() -> None:
    confusions = matrices(labels(0), labels(0).clip(1))[:1]
    assert judge(confusions, confusions, NAMES, PromotionRule()).spread is None


@pytest.mark.parametrize("values", [{"margin": -0.1}, {"class_margin": 1.5}, {"class_points": -1}])
def test_a_rule_that_makes_no_sense_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        PromotionRule(**values)  # type: ignore[arg-type]


# ---- fair scans ----------------------------------------------------------------------------------------------------


COUNTS = np.arange(80, dtype=np.int64).reshape(4, 20)


def trained_on(rows: slice) -> dict[str, object]:
    return {"data": {KEY: write_hashes(hashes_of(COUNTS[rows]))}}


def test_scans_that_were_not_trained_on_are_fair() -> None:
    assert why_not_fair("it", trained_on(slice(0, 2)), hashes_of(COUNTS[2:])) is None


def test_one_scan_in_common_is_not() -> None:
    assert why_not_fair("it", trained_on(slice(0, 3)), hashes_of(COUNTS[2:])) == "it was trained on 1 of these 2 scans"


def test_a_model_that_does_not_say_is_not() -> None:
    said = why_not_fair("version 3", {"data": {"sha256": "ab" * 32}}, hashes_of(COUNTS))
    assert said == "version 3 does not say which scans it was trained on"
