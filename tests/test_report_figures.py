"""Figures show what they are given: looked at once by a person, checked here for content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pointseg.labels import LabelMap
from pointseg.metrics import confusion_matrix, score
from pointseg.report import figures

KITTI = LabelMap.load("semantickitti")


def labels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 12, 5000).astype(np.uint8)


def test_the_confusion_matrix_names_every_class_and_leaves_absent_ones_blank() -> None:
    truth = torch.from_numpy(labels(0))
    figure = figures.confusion(score(confusion_matrix(truth, truth, 19)), KITTI)
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(KITTI.class_names)
    shown = np.ma.filled(axes.images[0].get_array(), np.nan)
    np.testing.assert_allclose(np.diag(shown)[:11], 100.0)
    assert np.isnan(shown[12:]).all()


def test_birds_eye_colours_by_class_and_counts_errors() -> None:
    points = np.random.default_rng(0).uniform(-40, 40, (5000, 4)).astype(np.float32)
    truth, prediction = labels(0), np.maximum(labels(1), 1)
    figure = figures.birds_eye(points, truth, prediction, KITTI, title="08/000000")
    wrong = 100 * ((truth != prediction) & (truth > 0)).sum() / (truth > 0).sum()
    assert figure.axes[2].get_title() == f"wrong: {wrong:.1f} % of the labelled points"
    order = np.argsort(points[:, 2], kind="stable")
    drawn = figure.axes[1].collections[0].get_facecolor()[:, :3]
    np.testing.assert_allclose(drawn, KITTI.colors[prediction[order]] / 255)


@pytest.mark.parametrize("kind", ["confusion", "birds_eye"])
def test_a_figure_is_written_as_png(kind: str, tmp_path: Path) -> None:
    ids = labels(0)
    points = np.zeros((5000, 4), np.float32)
    figure = (
        figures.confusion(score(confusion_matrix(torch.from_numpy(ids), torch.from_numpy(ids), 19)), KITTI)
        if kind == "confusion"
        else figures.birds_eye(points, ids, ids, KITTI)
    )
    figure.savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
