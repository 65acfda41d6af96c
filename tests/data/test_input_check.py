"""What is unusual about a scan is said, and refused where prediction is strict; how memory is shared changes no label."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import scan_points
from numpy.typing import NDArray

from pointseg.core import memory
from pointseg.core.errors import DataError
from pointseg.core.memory import free_memory
from pointseg.data.checks.input_check import InputWarning, Note, look_at_points
from pointseg.engine import inference
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.inference import cloud_classes, cloud_logits, points_at_once
from pointseg.engine.predictor import Predictor

Scan = NDArray[np.float32]


def kinds(points: Scan) -> list[str]:
    return [note.kind for note in look_at_points(points.astype(np.float32), 15.0)]


def test_a_usual_scan_is_not_remarked(scan: Scan) -> None:
    assert kinds(scan) == []
    assert kinds(scan[:, :3]) == []


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        ([1, 1, 1, 255], ["remission"]),
        ([1, 1, 1, -1], ["remission"]),
        ([1000, 1000, 1000, 1], ["georeferenced"]),
        ([200, 200, 200, 1], ["far", "range"]),
        ([0.01, 0.01, 0.01, 1], ["range"]),
        ([4, 4, 4, 1], ["far", "range"]),
    ],
)
def test_other_units_are_told(scan: Scan, factor: list[float], said: list[str]) -> None:
    assert kinds(scan * np.array(factor)) == said


def test_a_few_far_reflections_are_nothing(scan: Scan) -> None:
    points = scan.copy()
    points[:10, 0] = 500.0
    assert kinds(points) == []


def test_a_map_is_told_on_either_side(scan: Scan) -> None:
    for offset in (400_000.0, -400_000.0):
        assert kinds(scan + np.array([0, offset, 0, 0])) == ["georeferenced"]


@pytest.mark.parametrize(
    ("change", "match"), [(lambda p: p[:, :3], "no remission"), (lambda p: p * [1, 1, 1, 255], "0 to 1")]
)
def test_a_doubt_is_a_warning_or_refused(trained: TrainedModel, scan: Scan, change: object, match: str) -> None:
    points = np.asarray(change(scan), np.float32)  # type: ignore[operator]
    with pytest.warns(InputWarning, match=match):
        Predictor(trained)(points)
    with pytest.raises(DataError, match=rf"{match}.*strict"):
        Predictor(trained, strict=True)(points)


def test_a_usual_scan_passes_the_strict_predictor(trained: TrainedModel, scan: Scan) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(Predictor(trained, strict=True)(scan), Predictor(trained)(scan))


def test_the_warning_points_at_the_users_line(trained: TrainedModel, scan: Scan) -> None:
    with pytest.warns(InputWarning) as caught:
        Predictor(trained)(scan[:, :3])
    assert Path(caught[0].filename) == Path(__file__)


# ---- probabilities ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("votes", [1, 3])
def test_probabilities_come_with_the_labels(trained: TrainedModel, scan: Scan, votes: int) -> None:
    trained.inference["votes"] = votes
    labels, chances = Predictor(trained)(scan, probabilities=True)
    assert (chances.shape, chances.dtype) == ((len(scan), 19), np.float32)
    assert np.allclose(chances.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(labels, Predictor(trained)(scan))
    assert np.array_equal(trained.label_map.to_raw(chances.argmax(axis=1) + 1), labels)


# ---- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 700, 1500, 3000, 1 << 20])
def test_points_at_once_change_no_logit_and_no_class(trained: TrainedModel, at_once: int) -> None:
    points = torch.from_numpy(scan_points(5003, seed=8))
    with torch.inference_mode():
        expected = cloud_logits(trained.model, trained.features, points, points_per_pass=700)
        logits = cloud_logits(trained.model, trained.features, points, points_per_pass=700, at_once=at_once)
        classes = cloud_classes(trained.model, trained.features, points, points_per_pass=700, at_once=at_once)
    assert torch.equal(logits, expected)
    assert torch.equal(classes, expected.argmax(dim=1).to(torch.uint8) + 1)


def test_points_at_once_follow_the_memory_that_is_free(trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for free in (0, 1 << 20, 1 << 28, 1 << 40):
        monkeypatch.setattr(inference, "free_memory", lambda device, free=free: free)
        found.append(points_at_once(trained, torch.device("cpu")))
    assert found[0] == 1
    assert found == sorted(found)
    assert found[2] < found[3] == inference.POINTS_AT_ONCE


def test_little_memory_gives_the_same_labels(
    trained: TrainedModel, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = Predictor(trained)(scan)
    monkeypatch.setattr(inference, "free_memory", lambda device: 0)
    assert np.array_equal(Predictor(trained)(scan), expected)


def test_free_memory_keeps_within_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "CONTROL_GROUP", tmp_path)
    whole = free_memory()
    assert whole > 1 << 20
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory() > 1 << 20
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_memory() == 4000


def test_a_warning_goes_over_to_another_process() -> None:
    warning = InputWarning(Note("far", "the points lie far away", doubt=True))
    there = pickle.loads(pickle.dumps(warning))
    assert (there.note, str(there)) == (warning.note, "the points lie far away")
