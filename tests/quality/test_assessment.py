"""One pass gives what `evaluate` gives, and every break-down of it, checked against plain loops over the points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pointseg.core.errors import DataError
from pointseg.core.labels import LabelMap
from pointseg.data.scan import Scan
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.evaluation import evaluate_model, evenly_spaced
from pointseg.engine.metrics import confusion_matrix, score
from pointseg.engine.predictor import Predictor
from pointseg.quality.assessment import RANGE_BANDS, Assessment, assess, band_names
from pointseg.quality.bootstrap import Draws, draw_scans, interval, resampled

RAW_IDS = np.array([0, 10, 40, 48, 50, 70], np.uint32)
NAMES = ("08/000000", "08/000005", "10/000000", "10/000001", "10/000002")


class Scans:
    """Random scans in memory."""

    def __init__(self, names: Sequence[str] = NAMES) -> None:
        self.names = list(names)

    @property
    def expected_points(self) -> int:
        return 400 * len(self)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Scan:
        random = np.random.default_rng(index)
        points = random.uniform([-60, -60, -2, 0], [60, 60, 3, 1], (400, 4)).astype(np.float32)
        return Scan(points, random.choice(RAW_IDS[: 3 + index], 400), self.names[index])


@pytest.fixture(scope="module")
def scans() -> Scans:
    return Scans()


@pytest.fixture
def predictor(trained: TrainedModel) -> Predictor:
    return Predictor(trained)


@pytest.fixture
def assessment(predictor: Predictor, scans: Scans) -> Assessment:
    return assess(predictor, scans, show=2, worst=2)


def pairs(predictor: Predictor, scans: Scans, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    scan = scans[index]
    return predictor.label_map.to_train(scan.required_labels), predictor.train_ids(scan.points)


def test_evaluate_scores_as_a_plain_loop_does(predictor: Predictor, scans: Scans) -> None:
    confusion = torch.zeros(20, 20, dtype=torch.int64)
    for index in range(len(scans)):
        truth, prediction = pairs(predictor, scans, index)
        for t, p in zip(truth.tolist(), prediction.tolist(), strict=True):
            confusion[t, p] += 1
    names = predictor.label_map.class_names
    expected = score(confusion).to_dict(names, len(scans))
    assert evaluate_model(predictor, scans).scores.to_dict(names, len(scans)) == expected
    assert assess(predictor, scans).scores.to_dict(names, len(scans)) == expected


def test_a_matrix_for_each_scan(assessment: Assessment, predictor: Predictor, scans: Scans) -> None:
    for index in range(len(scans)):
        truth, prediction = map(torch.from_numpy, pairs(predictor, scans, index))
        assert np.array_equal(assessment.confusions[index], confusion_matrix(truth, prediction, 19).numpy())
    assert {name: rows.tolist() for name, rows in assessment.sequences.items()} == {"08": [0, 1], "10": [2, 3, 4]}


def test_range_bands(assessment: Assessment, predictor: Predictor, scans: Scans) -> None:
    expected = np.zeros_like(assessment.by_range)
    for index in range(len(scans)):
        truth, prediction = pairs(predictor, scans, index)
        for (x, y, z, _), t, p in zip(scans[index].points.astype(np.float64), truth, prediction, strict=True):
            distance = (x * x + y * y + z * z) ** 0.5
            expected[sum(distance >= edge for edge in RANGE_BANDS), t, p] += 1
    assert np.array_equal(assessment.by_range, expected)
    assert np.array_equal(assessment.by_range.sum(axis=0), assessment.confusions.sum(axis=0))
    assert (assessment.by_range.sum(axis=(1, 2)) > 0).all()
    assert band_names() == ["0-10 m", "10-20 m", "20-30 m", "30-50 m", "50+ m"]


def test_reliability_and_calibration_error(assessment: Assessment, predictor: Predictor, scans: Scans) -> None:
    sure, right = [], []
    for index in range(len(scans)):
        truth, prediction = pairs(predictor, scans, index)
        probabilities = torch.softmax(predictor.logits(scans[index].points), dim=1).amax(dim=1).numpy()
        sure += probabilities[truth > 0].tolist()
        right += (truth == prediction)[truth > 0].tolist()
    gap = 0.0
    for number in range(15):
        inside = [i for i, p in enumerate(sure) if number / 15 < p <= (number + 1) / 15]
        assert assessment.reliability.points[number] == len(inside)
        gap += abs(sum(sure[i] for i in inside) - sum(right[i] for i in inside))
    assert assessment.reliability.error == pytest.approx(gap / len(sure), abs=1e-9)
    assert assessment.reliability.points.sum() == assessment.scores.points


def test_the_worst_scans_come_first(assessment: Assessment) -> None:
    ranked = sorted(
        (score(matrix).miou_present, name) for matrix, name in zip(assessment.confusions, NAMES, strict=True)
    )
    assert [(entry.miou_present, entry.scan.name) for entry in assessment.worst] == ranked[:2]


def test_scans_to_look_at_are_spread(assessment: Assessment) -> None:
    assert [scan.name for scan in assessment.shown] == [NAMES[0], NAMES[4]]
    assert evenly_spaced(3, 5) == {0, 2, 4} and evenly_spaced(9, 2) == {0, 1} and evenly_spaced(0, 5) == set()


def test_a_scan_without_labelled_points_is_not_the_worst(predictor: Predictor, kitti_map: LabelMap) -> None:
    class Unlabelled(Scans):
        def __getitem__(self, index: int) -> Scan:
            scan = super().__getitem__(index)
            return Scan(scan.points, np.zeros(400, np.uint32), scan.path) if index == 0 else scan

    found = assess(predictor, Unlabelled(), label_map=kitti_map, worst=9)
    assert len(found.worst) == 4 and NAMES[0] not in {entry.scan.name for entry in found.worst}


def test_no_scan_is_refused(predictor: Predictor) -> None:
    with pytest.raises(DataError, match="no scan"):
        assess(predictor, Scans([]))


# ---- bootstrap -------------------------------------------------------------------------------------------------------


def brute_force(confusions: NDArray[np.int64], counts: NDArray[np.int64]) -> Draws:
    rows = [score(sum(int(n) * matrix for n, matrix in zip(draw, confusions, strict=True))) for draw in counts]  # type: ignore[arg-type]
    return Draws(
        np.array([row.iou for row in rows]),
        np.array([row.miou for row in rows]),
        np.array([row.miou_present for row in rows]),
    )


def test_resamples_are_scored_as_their_scans_together(assessment: Assessment) -> None:
    counts = draw_scans(len(NAMES), 200, seed=3)
    fast, slow = resampled(assessment.confusions, counts), brute_force(assessment.confusions, counts)
    for name in ("iou", "miou", "miou_present"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=0, atol=1e-12)
    low, high = np.sort(slow.miou)[[4, 195]]
    assert interval(fast.miou).low == pytest.approx(low, abs=0.01)
    assert interval(fast.miou).high == pytest.approx(high, abs=0.01)


def test_draws_are_repeatable_and_fair() -> None:
    counts = draw_scans(50, 4000, seed=1)
    assert np.array_equal(counts, draw_scans(50, 4000, seed=1))
    assert not np.array_equal(counts, draw_scans(50, 4000, seed=2))
    assert (counts.sum(axis=1) == 50).all()
    assert np.abs(counts.mean(axis=0) - 1).max() < 0.1
    assert counts.var(axis=0).mean() == pytest.approx(1 - 1 / 50, abs=0.03)  # binomial (50, 1 / 50)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Accuracy-like IoU of one class over scans whose quality varies: 95 % intervals hold the true IoU 88 to 98 times in 100."""
    random = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        matrices = np.zeros((40, 2, 2), np.int64)
        matrices[:, 1, 1] = random.binomial(1000, random.beta(8, 2, 40))
        matrices[:, 1, 0] = 1000 - matrices[:, 1, 1]
        found = interval(resampled(matrices, draw_scans(40, 300, seed=trial)).miou)
        held += found.low <= 0.8 <= found.high
    assert 176 <= held <= 196
