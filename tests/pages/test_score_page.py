"""The page says what was counted, holds all it needs, and takes hostile names for what they are: text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import scan_points
from made_up import Page, make_assessment
from PIL import Image

from pointseg.core.labels import LabelMap
from pointseg.engine.evaluation import PredictedScan
from pointseg.engine.metrics import score
from pointseg.pages.figures import birds_eye, paletted
from pointseg.pages.html import TEMPLATES
from pointseg.pages.score_page import Subject, write_report
from pointseg.pages.viewer import viewer_data
from pointseg.quality.assessment import Assessment

HISTORY = [{"epoch": 1.0, "train/loss": 2.0, "val/miou": 0.1}, {"epoch": 2.0, "train/loss": 1.5}]


def decoded(text: str, kind: str) -> Any:
    import base64

    return np.frombuffer(base64.b64decode(text), kind)


@pytest.fixture(scope="module")
def assessment() -> Assessment:
    return make_assessment()


@pytest.fixture(scope="module")
def text(assessment: Assessment, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    subject = Subject("<i>run</i>", assessment, HISTORY, {"model": "</dl><script>"})
    other = Subject("the {{ other }}", make_assessment(right=0.5, show=0, worst=0))
    return write_report(path, subject, against=other, data="made-up scans", draws=100).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_is_asked_of_the_network(text: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert re.match(r"data:|#", attributes.get(name) or "#"), (tag, name)
        assert tag not in {"link", "iframe", "object", "base"}
    assert not re.search(r"url\(|@import", "".join(page.styles))
    policy = [attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policy and policy[0].startswith("default-src 'none';")


def test_hostile_names_are_text(page: Page, assessment: Assessment, text: str) -> None:
    names = assessment.label_map.class_names
    assert len(page.scripts) == 3  # the data, what draws, and what is drawn
    assert page.viewer["names"][1:] == list(names)
    assert {tag for tag, _ in page.tags}.isdisjoint({"i", "dl2"})
    assert all(name in page.text for name in ("<i>run</i>", "</dl><script>", "the {{ other }}"))
    assert [row[0] for row in page.rows if row and row[0] in names]
    images = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(images) == 7 and all(src.startswith("data:image/") for src in images)
    assert not [a for _, attributes in page.tags for a in attributes if a.startswith("on")]


def test_what_is_put_into_the_page_as_it_is_ends_no_script() -> None:
    for name in ("points.js", "stage.js", "viewer.js"):
        assert "</script" not in (TEMPLATES / name).read_text(encoding="utf-8").lower()


def test_scores_in_the_page_are_those_of_the_matrices(page: Page, assessment: Assessment) -> None:
    scores = score(assessment.confusions.sum(axis=0))
    for k, name in enumerate(assessment.label_map.class_names[:3]):
        row = page.row(name, "class IoU")
        assert row[1] == f"{100 * scores.iou[k]:.1f}"
        assert row[6] == f"{scores.support[k]:,}"
    assert f"{100 * scores.miou:.1f} %" in page.text and f"{100 * scores.miou_present:.1f} %" in page.text
    for sequence, rows in (("08", slice(0, 4)), ("10", slice(4, 8))):
        part = score(assessment.confusions[rows].sum(axis=0))
        row = page.row(sequence, "sequence")
        assert row[1:4] == ["4", f"{part.points:,}", f"{100 * part.miou:.1f}"]
        assert row[5] == f"{100 * part.miou_present:.1f}" and row[8] == f"{100 * part.accuracy:.1f}"


def test_range_bands_with_supports(page: Page, assessment: Assessment) -> None:
    name = assessment.label_map.class_names[0]
    bands = [score(matrix) for matrix in assessment.by_range]
    row = page.row(name, "class 0-10 m")
    assert [cell.split()[0] for cell in row[1:]] == [f"{100 * b.iou[0]:.1f}" for b in bands[:4]] + ["–"]
    assert all(len(cell.split()) > 1 for cell in row[1:5])  # the support


def test_the_absent_class_is_said_and_not_scored(page: Page, assessment: Assessment) -> None:
    row = page.row(assessment.label_map.class_names[3], "class IoU")
    assert row[1] == "–" and row[2].startswith("absent")
    assert "Absent from these scans" in page.text


def test_calibration_error(page: Page, assessment: Assessment) -> None:
    bin_10 = assessment.reliability
    gap = abs(bin_10.right[10] / bin_10.points[10] - 0.7)
    assert f"{100 * gap:.1f} % calibration error" in page.text.replace(" %calibration", " % calibration")


def test_comparison_with_verdicts(page: Page) -> None:
    assert "Compared with the {{ other }}" in page.text
    row = page.row("mIoU, official", "score")
    assert row[5] == "better" and row[3].startswith("+")
    assert "3 got better and 0 worse" in page.text or "2 got better and 0 worse" in page.text


def test_intervals_are_explained(page: Page) -> None:
    assert "too narrow" in page.text and "100 resamples" in page.text
    assert "no more than a hint" in page.text  # four scans a sequence


def test_a_model_without_history_or_scans_to_show(tmp_path: Path) -> None:
    path = write_report(tmp_path / "plain.html", Subject("bare", make_assessment(scans=1, show=0, worst=0)), draws=100)
    page = Page(path.read_text(encoding="utf-8"))
    assert "No curve is known" in page.text and "There is one scan" in page.text
    assert not page.scripts and "Compared" not in page.text and "WorstScan scans" not in page.text


def test_the_page_is_the_same_each_time(assessment: Assessment, tmp_path: Path) -> None:
    texts = [write_report(tmp_path / f"{i}.html", Subject("x", assessment), draws=100).read_bytes() for i in range(2)]
    assert texts[0] == texts[1]


def test_a_picture_keeps_the_colour_of_a_class_with_few_points(kitti_map: LabelMap) -> None:
    points, ids = scan_points(3000, seed=2), np.full(3000, 9, np.uint8)  # road
    points[0, :2], ids[0] = 0, 1  # one car
    with Image.open(paletted(birds_eye(points, ids, ids, kitti_map), kitti_map)) as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(maxcolors=1 << 16)}
    assert {tuple(kitti_map.colors[9].tolist()), tuple(kitti_map.colors[1].tolist())} <= colors


# ---- the viewer's data -----------------------------------------------------------------------------------------------


def test_points_come_back_to_the_centimetre_with_their_labels(assessment: Assessment) -> None:
    scan = assessment.shown[0]
    data = viewer_data([scan], assessment.label_map)["scans"][0]
    xyz = decoded(data["xyz"], "<i2").reshape(-1, 3) * data["step"]
    both = np.stack([decoded(data[key], "u1") for key in ("truth", "prediction")], axis=1)
    found = np.column_stack([xyz, both])
    given = np.column_stack([scan.points[:, :3], scan.truth, scan.prediction])
    order = [np.lexsort(np.rint(table[:, :3] * 100).T) for table in (found, given)]
    np.testing.assert_allclose(found[order[0]], given[order[1]], atol=0.00501)
    assert data["wrong"] == np.count_nonzero((scan.truth > 0) & (scan.truth != scan.prediction))


def test_far_points_are_not_clipped(kitti_map: LabelMap) -> None:
    points = scan_points(50, seed=0)
    points[0, 0] = 1500.0
    data = viewer_data([PredictedScan("a/b", points, np.ones(50, np.uint8), np.ones(50, np.uint8))], kitti_map)[
        "scans"
    ][0]
    assert abs(decoded(data["xyz"], "<i2").max() * data["step"] - 1500) < 0.05


@pytest.mark.parametrize(
    ("scans", "points", "kept"), [(3, 125_000, 125_000), (8, 125_000, 50_000), (1, 400_000, 130_000)]
)
def test_many_points_are_thinned_to_what_a_page_holds(scans: int, points: int, kept: int, kitti_map: LabelMap) -> None:
    ids = np.ones(points, np.uint8)
    shown = PredictedScan("a/b", scan_points(points, seed=1), ids, ids)
    data = viewer_data([shown] * scans, kitti_map)
    assert {scan["points"] for scan in data["scans"]} == {kept}
    assert {scan["of"] for scan in data["scans"]} == {points}
    size = sum(len(scan[key]) for scan in data["scans"] for key in ("xyz", "truth", "prediction"))
    assert size < 4.5e6


@pytest.mark.slow
def test_the_largest_page_stays_under_15_mb(tmp_path: Path) -> None:
    assessment = make_assessment(scans=8, points=125_000, show=8, worst=8)
    path = write_report(tmp_path / "large.html", Subject("large", assessment, HISTORY), draws=100)
    assert path.stat().st_size < 15e6
