"""Pictures have content, also where classes have no points."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from pointseg.core.labels import LabelMap
from pointseg.engine.metrics import score
from pointseg.pages.figures import birds_eye, confusion


def drawn(figure: Figure) -> NDArray[np.float32]:
    """(height, width, 3) in [0, 1]."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=60)
    file.seek(0)
    return np.asarray(imread(file, format="png"))[..., :3]


@pytest.fixture
def counts() -> torch.Tensor:
    """(4, 4): the third class is absent."""
    return torch.tensor([[0, 5, 5, 0], [0, 90, 10, 0], [0, 30, 70, 0], [0, 0, 0, 0]])


def test_confusion_shows_shares_of_the_present_classes(counts: torch.Tensor, small_map: LabelMap) -> None:
    figure = confusion(score(counts), small_map)
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["90", "10", "30", "70"]
    assert [label.get_text() for label in axes.get_xticklabels()] == list(small_map.class_names)
    assert drawn(figure).std() > 0.05


def test_confusion_of_nothing_is_drawn(small_map: LabelMap) -> None:
    figure = confusion(score(torch.zeros(4, 4, dtype=torch.int64)), small_map)
    assert not figure.axes[0].texts
    assert drawn(figure).std() > 0.01


def test_birds_eye_shows_truth_prediction_and_errors(scan: NDArray[np.float32], small_map: LabelMap) -> None:
    truth = np.ones(len(scan), np.uint8)
    prediction = truth.copy()
    prediction[: len(scan) // 4] = 2
    figure = birds_eye(scan, truth, prediction, small_map, title="08/000000")
    titles = [axes.get_title() for axes in figure.axes]
    assert "08/000000" in titles[0]
    assert "25.0 %" in titles[2]
    picture = drawn(figure)
    third = picture.shape[1] // 3
    panels = [picture[:, i * third : (i + 1) * third] for i in range(3)]
    assert all(panel.std() > 0.02 for panel in panels)
    assert not np.array_equal(panels[0], panels[1])


@pytest.mark.parametrize("value", [0, 3])
def test_birds_eye_of_unlabelled_points_and_absent_classes(
    value: int, scan: NDArray[np.float32], small_map: LabelMap
) -> None:
    truth = np.full(len(scan), value, np.uint8)
    assert drawn(birds_eye(scan, truth, np.full_like(truth, 3), small_map)).std() > 0.02
