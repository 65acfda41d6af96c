"""Scores against a slow, plain implementation of SemanticKITTI's official rule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointseg.engine.metrics import Scores, confusion_matrix, score

CLASSES = 4
Pairs = list[tuple[int, int]]


def official_iou(pairs: Pairs) -> list[float]:
    """IoU of each class by counting, point by point; points whose truth is 0 are left out."""
    scored = [(truth, prediction) for truth, prediction in pairs if truth != 0]
    result = []
    for k in range(1, CLASSES + 1):
        hits = sum(t == k and p == k for t, p in scored)
        false_positives = sum(t != k and p == k for t, p in scored)
        false_negatives = sum(t == k and p != k for t, p in scored)
        result.append(hits / (hits + false_positives + false_negatives + 1e-15))
    return result


def scores_of(pairs: Pairs) -> Scores:
    truth = torch.tensor([t for t, _ in pairs], dtype=torch.int64)
    prediction = torch.tensor([p for _, p in pairs], dtype=torch.int64)
    return score(confusion_matrix(truth, prediction, CLASSES))


ids = st.integers(0, CLASSES)
# all pairs; absent classes and much that is ignored; a truth that is all ignored; predictions that are all 0
any_pairs = st.one_of(
    st.lists(st.tuples(ids, ids), max_size=60),
    st.lists(st.tuples(st.sampled_from([0, 2]), st.sampled_from([0, 2, 3])), max_size=60),
    st.lists(st.tuples(st.just(0), ids), max_size=20),
    st.lists(st.tuples(ids, st.just(0)), max_size=20),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(any_pairs)
def test_iou_follows_the_official_rule(pairs: Pairs) -> None:
    assert scores_of(pairs).iou.tolist() == pytest.approx(official_iou(pairs), rel=1e-14, abs=1e-14)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(any_pairs)
def test_miou_is_the_mean_over_all_classes(pairs: Pairs) -> None:
    assert scores_of(pairs).miou == pytest.approx(sum(official_iou(pairs)) / CLASSES, rel=1e-14, abs=1e-14)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(any_pairs)
def test_miou_present_is_the_mean_over_classes_of_the_truth(pairs: Pairs) -> None:
    present = {truth for truth, _ in pairs} - {0}
    iou = official_iou(pairs)
    expected = sum(iou[k - 1] for k in present) / len(present) if present else 0.0
    scores = scores_of(pairs)
    assert (scores.miou_present, scores.classes_present) == (pytest.approx(expected, abs=1e-14), len(present))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(any_pairs)
def test_accuracy_counts_a_predicted_0_as_wrong(pairs: Pairs) -> None:
    scored = [(t, p) for t, p in pairs if t != 0]
    expected = sum(t == p for t, p in scored) / len(scored) if scored else 0.0
    assert scores_of(pairs).accuracy == pytest.approx(expected, abs=1e-14)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(any_pairs)
def test_confusion_matrix_counts_truth_in_rows(pairs: Pairs) -> None:
    matrix = scores_of(pairs).confusion
    assert all(matrix[t, p] == pairs.count((t, p)) for t in range(CLASSES + 1) for p in range(CLASSES + 1))


def test_class_absent_from_truth_and_prediction_counts_zero() -> None:
    assert scores_of([(1, 1), (2, 2)]).miou == pytest.approx(0.5)


def test_prediction_on_an_ignored_point_is_no_false_positive() -> None:
    assert scores_of([(1, 1), (0, 1), (0, 1)]).iou[0] == pytest.approx(1.0)


def test_support_counts_the_labelled_points() -> None:
    scores = scores_of([(0, 1), (1, 0), (1, 1), (3, 2)])
    assert (scores.support.tolist(), scores.points) == ([2, 0, 1, 0], 3)


def test_confusion_matrices_of_scans_add_up() -> None:
    generator = torch.Generator().manual_seed(0)
    truth, prediction = torch.randint(0, 5, (2, 500), generator=generator)
    parts = [confusion_matrix(t, p, 4) for t, p in zip(truth.split(170), prediction.split(170), strict=True)]
    assert torch.equal(sum(parts), confusion_matrix(truth, prediction, 4))  # type: ignore[arg-type]


def test_small_integers_do_not_overflow() -> None:
    ids = torch.full((300,), 19, dtype=torch.uint8)
    assert int(confusion_matrix(ids, ids, 19)[19, 19]) == 300


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="labels and"):
        confusion_matrix(torch.ones(3, dtype=torch.int64), torch.ones(4, dtype=torch.int64), 4)


@pytest.mark.parametrize(("truth", "prediction"), [(5, 1), (1, 5), (-1, 1), (1, -1)])
def test_id_out_of_range_is_refused(truth: int, prediction: int) -> None:
    with pytest.raises(ValueError, match="not between 0 and 4"):
        confusion_matrix(torch.tensor([truth]), torch.tensor([prediction]), 4)


def test_dictionary_names_the_classes() -> None:
    content = scores_of([(1, 1), (2, 1)]).to_dict(("a", "b", "c", "d"), scans=1)
    assert content["iou"] == pytest.approx({"a": 0.5, "b": 0.0, "c": 0.0, "d": 0.0})
