"""Scores of `evaluate_model` against the official rule, written here from its text, on the files alone that `predict` writes.

The rule: ground truth and prediction hold raw ids, both go through the learning map; points whose truth is 0 are left out;
IoU = TP / (TP + FP + FN + 1e-15); mIoU is the mean over all training ids but 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from verbs import KITTI_SPLIT, kitti_folder, run, succeed, trained_run

from pointseg.core.labels import LabelMap
from pointseg.engine.evaluation import evaluate_model
from pointseg.engine.predictor import Predictor

# raw id -> training id, typed from the benchmark's configuration and not read from ours
LEARNING_MAP = {
    0: 0, 1: 0, 10: 1, 11: 2, 13: 5, 15: 3, 16: 5, 18: 4, 20: 5, 30: 6, 31: 7, 32: 8, 40: 9, 44: 10, 48: 11, 49: 12, 50: 13,
    51: 14, 52: 0, 60: 9, 70: 15, 71: 16, 72: 17, 80: 18, 81: 19, 99: 0, 252: 1, 253: 7, 254: 6, 255: 8, 256: 5, 257: 5,
    258: 4, 259: 5,
}  # fmt: skip


def official_ious(pairs: list[tuple[Path, Path]]) -> NDArray[np.float64]:
    """IoU of training ids 1..19 from label files of truth and prediction."""
    hits, wrong, missed = np.zeros(20, np.int64), np.zeros(20, np.int64), np.zeros(20, np.int64)
    for truth_file, prediction_file in pairs:
        truth, prediction = (
            np.array([LEARNING_MAP[raw & 0xFFFF] for raw in np.fromfile(file, "<u4").tolist()])
            for file in (truth_file, prediction_file)
        )
        truth, prediction = truth[truth != 0], prediction[truth != 0]
        for number in range(20):
            hits[number] += np.sum((truth == number) & (prediction == number))
            wrong[number] += np.sum((truth != number) & (prediction == number))
            missed[number] += np.sum((truth == number) & (prediction != number))
    return (hits / (hits + wrong + missed + 1e-15))[1:]


@pytest.fixture(scope="module")
def predicted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run folder, a small data set, and the labels that `predict` wrote for it."""
    folder, kitti = trained_run(tmp_path_factory), kitti_folder(tmp_path_factory)
    output = tmp_path_factory.mktemp("predicted")
    succeed(run("predict", f"checkpoint={folder}", f"input={kitti}", f"output={output}", cwd=output))
    return folder, kitti, output


def pairs_of(kitti: Path, output: Path, sequences: set[str]) -> list[tuple[Path, Path]]:
    labels = [f for f in sorted(kitti.glob("sequences/*/labels/*.label")) if f.parts[-3] in sequences]
    return [(f, output / "sequences" / f.parts[-3] / "predictions" / f.name) for f in labels]


def test_evaluate_is_the_official_rule_on_the_files(predicted: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, kitti, output = predicted
    words = [f"checkpoint={folder}", "data=semantickitti", f"data.root={kitti}", *KITTI_SPLIT, "output=scores"]
    succeed(run("evaluate", *words, cwd=tmp_path))
    scores = json.loads((tmp_path / "scores/metrics.json").read_text(encoding="utf-8"))
    sequences = {path.parts[-3] for path, _ in pairs_of(kitti, output, {"08"})}
    assert sequences == {"08"}
    pairs = pairs_of(kitti, output, sequences)
    ious = official_ious(pairs)
    assert np.abs(np.array(list(scores["iou"].values())) - ious).max() <= 1e-12
    assert scores["miou"] == pytest.approx(ious.mean(), abs=1e-12)
    ignored = [np.isin(np.fromfile(truth, "<u4") & 0xFFFF, [0, 1, 52, 99]) for truth, _ in pairs]
    assert any(mask.any() for mask in ignored)  # predictions for ignored points are there, and count for nothing
    assert np.count_nonzero(ious == 0) > 0  # classes that are absent count 0


@pytest.mark.real
def test_real_scans_score_as_the_rule_says(predicted: tuple[Path, Path, Path], tmp_path: Path, real_root: Path) -> None:
    from pointseg.data.semantickitti import SemanticKITTIScans
    from pointseg.engine.prediction import find_items, predict_files

    predictor = Predictor.load(predicted[0])
    items = [item for item in find_items(real_root, tmp_path) if item.source.parts[-3] == "08"]
    predict_files(predictor, items, tmp_path)
    ious = official_ious(pairs_of(real_root, tmp_path, {"08"}))
    found = evaluate_model(predictor, SemanticKITTIScans(real_root, ["08"]), show=0).scores
    assert np.abs(np.asarray(found.iou) - ious).max() <= 1e-12


def test_the_map_typed_here_is_the_shipped_one() -> None:
    shipped = LabelMap.load("semantickitti")
    raw = np.array(sorted(LEARNING_MAP), np.uint32)
    assert shipped.to_train(raw).tolist() == [LEARNING_MAP[int(number)] for number in raw]
