"""The numbers of a report against plain counting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_up import make_assessment

from pointseg.core.errors import CheckpointError
from pointseg.core.labels import LabelMap
from pointseg.engine.metrics import score
from pointseg.pages.comparison import changes
from pointseg.pages.report_content import Content


@pytest.fixture(scope="module")
def content() -> Content:
    return Content(make_assessment(), draws=300)


def test_classes_come_by_their_points_with_recall_and_precision(content: Content) -> None:
    matrix = content.assessment.confusions.sum(axis=0)
    assert [row.support for row in content.classes] == sorted((row.support for row in content.classes), reverse=True)
    for row in content.classes[:3]:
        k = row.train_id
        hits, support, predicted = matrix[k, k], matrix[k].sum(), matrix[1:, k].sum()
        assert (row.support, row.predicted) == (support, predicted)
        assert row.iou.value == pytest.approx(hits / (support + predicted - hits))
        assert row.recall == hits / support and row.precision == hits / predicted
        assert row.share == support / matrix[1:].sum()
        assert row.iou.interval and row.iou.interval.low <= row.iou.value <= row.iou.interval.high
    last = content.classes[-1]
    assert (last.support, last.recall, last.precision, last.iou.interval) == (0, None, None, None)
    assert content.absent == [last.name]


def test_sequences_are_scored_by_themselves(content: Content) -> None:
    assert [(part.name, part.scans) for part in content.sequences] == [("08", 4), ("10", 4)]
    first = score(content.assessment.confusions[:4].sum(axis=0))
    assert content.sequences[0].miou.value == first.miou
    assert content.sequences[0].miou_present.value == first.miou_present
    found = content.sequences[0].miou.interval
    each = [score(matrix).miou for matrix in content.assessment.confusions[:4]]
    assert found and min(each) - 1e-9 <= found.low < found.high <= max(each) + 0.01


def test_one_scan_has_no_interval() -> None:
    content = Content(make_assessment(scans=1), draws=100)
    assert content.draws is None
    assert content.overall.miou.interval is None and content.classes[0].iou.interval is None
    assert all(part.miou.interval is None for part in content.sequences)


def test_groups_by_frequency() -> None:
    assessment = make_assessment(scans=2)
    matrices = np.zeros((2, 5, 5), np.int64)
    for k, points in ((1, 9500), (2, 480), (3, 20)):  # 95 %, 4.8 %, 0.2 %
        matrices[:, k, k], matrices[:, k, 1 if k > 1 else 2] = points // 2, points - points // 2
    content = Content(replace(assessment, confusions=matrices), draws=100)
    names = content.label_map.class_names
    assert [(g.name.partition(":")[0], g.classes) for g in content.groups] == [
        ("common", (names[0],)), ("middle", (names[1],)), ("rare", (names[2],))
    ]  # fmt: skip
    assert [g.iou.value for g in content.groups] == [pytest.approx(content.scores.iou[k]) for k in range(3)]
    assert sum(g.points for g in content.groups) == 20000


# ---- two models ------------------------------------------------------------------------------------------------------


def test_a_better_model_is_said_to_be_better_and_the_other_worse() -> None:
    good, bad = (Content(make_assessment(right=right), draws=300) for right in (0.85, 0.6))
    means, classes = changes(good, bad)
    assert [change.verdict for change in means] == ["better", "better"]
    assert [change.difference for change in classes] == sorted((c.difference for c in classes), reverse=True)
    assert classes[0].verdict == "better" and len(classes) == 3
    assert [change.verdict for change in changes(bad, good)[0]] == ["worse", "worse"]
    assert means[0].difference == pytest.approx(good.scores.miou - bad.scores.miou)


def test_a_model_is_no_better_than_itself() -> None:
    content = Content(make_assessment(), draws=100)
    means, classes = changes(content, content)
    assert {change.verdict for change in [*means, *classes]} == {"not certain"}
    assert {change.difference for change in classes} == {0.0}


def test_the_difference_draws_the_same_scans_for_both() -> None:
    now, before = (Content(make_assessment(right=right), draws=200, seed=5) for right in (0.8, 0.78))
    draws = []
    for counts in now.counts:
        pair = [score(np.einsum("s,sij->ij", counts, c.assessment.confusions)).miou for c in (now, before)]
        draws.append(pair[0] - pair[1])
    found = changes(now, before)[0][0].interval
    assert found and (found.low, found.high) == pytest.approx(tuple(np.percentile(draws, [2.5, 97.5])), abs=1e-12)


def test_few_scans_give_no_verdict() -> None:
    for scans in (1, 2, 5):
        pair = [Content(make_assessment(scans=scans, right=right), draws=100) for right in (0.9, 0.3)]
        means, classes = changes(*pair)
        assert {change.verdict for change in [*means, *classes]} == {"too few scans"}


def test_other_classes_or_scans_are_refused(small_map: LabelMap) -> None:
    one = Content(make_assessment(), draws=100)
    with pytest.raises(CheckpointError, match="small"):
        changes(one, Content(replace(make_assessment(), label_map=small_map), draws=100))
    with pytest.raises(CheckpointError, match="other scans"):
        changes(one, Content(make_assessment(scans=6), draws=100))
