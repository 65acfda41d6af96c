"""The opponent on the same features and scans: gradient-boosted trees, each point alone (scikit-learn).

    python tests/benchmarks/gradient_boosting.py RUN_FOLDER [--points 240000] [--split test]

Reads RUN_FOLDER's configuration, trains the trees on points drawn from its training scans with the features its model
sees, and scores both on the whole scans of a split by the official rule.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.data.sources import ScanSource
from pointseg.engine.evaluation import evaluate_model
from pointseg.engine.losses import class_weights
from pointseg.engine.metrics import Scores, confusion_matrix, score
from pointseg.engine.predictor import Predictor
from pointseg.engine.training.run_folder import RunFolder
from pointseg.workflows.default_sections import with_default_sections
from pointseg.workflows.settings.train import TrainConfig
from pointseg.workflows.training.earlier_run import earlier_configuration
from pointseg.workflows.training.parts import build_features, build_training_data


def features_and_labels(
    source: ScanSource, spec: FeatureSpec, label_map: LabelMap, index: int
) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) features and (N,) training ids of one scan."""
    scan = source[index]
    features = spec(spec.measure(torch.from_numpy(scan.points))).numpy()
    return features, label_map.to_train(scan.required_labels)


def trees(
    source: ScanSource, spec: FeatureSpec, label_map: LabelMap, points: int, weighting: str
) -> HistGradientBoostingClassifier:
    """Trees on `points` labelled points drawn evenly from all training scans."""
    draws = np.random.default_rng(0)
    columns, ids = [], []
    for index in range(len(source)):
        features, labels = features_and_labels(source, spec, label_map, index)
        chosen = draws.choice(np.flatnonzero(labels > 0), points // len(source), replace=False)
        columns.append(features[chosen])
        ids.append(labels[chosen])
    x, y = np.concatenate(columns), np.concatenate(ids)
    weights = class_weights(np.bincount(y, minlength=label_map.num_classes + 1)[1:], weighting)[y - 1]
    # without a penalty on large leaves, weights of rare classes let the trees diverge
    model = HistGradientBoostingClassifier(max_iter=100, early_stopping=False, l2_regularization=10.0, random_state=0)
    return model.fit(x, y, sample_weight=weights)


def score_trees(
    model: HistGradientBoostingClassifier, source: ScanSource, spec: FeatureSpec, label_map: LabelMap
) -> Scores:
    """Official scores of the trees on whole scans."""
    size = label_map.num_classes + 1
    confusion = torch.zeros(size, size, dtype=torch.int64)
    for index in range(len(source)):
        features, labels = features_and_labels(source, spec, label_map, index)
        prediction = model.predict(features)
        confusion += confusion_matrix(torch.from_numpy(labels), torch.from_numpy(prediction), label_map.num_classes)
    return score(confusion)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--points", type=int, default=240_000)
    parser.add_argument("--split", default="test")
    arguments = parser.parse_args()
    config = with_default_sections(earlier_configuration(TrainConfig(), RunFolder(arguments.run)))
    # Trees find thresholds themselves: the columns between knots, monotone in their feature, can tell them nothing more.
    spec = replace(build_features(config.features), knots=())
    data = build_training_data(config, spec)
    train, held_out = data.source("train"), data.source(arguments.split)
    print(f"{len(train)} training scans, {len(held_out)} {arguments.split} scans; features {', '.join(spec.use)}")
    print(f"threads {torch.get_num_threads()}, load {os.getloadavg()[0]:.1f}")
    for weighting in ("none", "sqrt_inverse"):
        began = time.perf_counter()
        model = trees(train, spec, data.label_map, arguments.points, weighting)
        seconds = time.perf_counter() - began
        show(f"trees, weights {weighting} ({seconds:.0f} s)", score_trees(model, held_out, spec, data.label_map))
    predictor = Predictor.load(arguments.run)
    show("this run's model", evaluate_model(predictor, held_out, label_map=data.label_map, show=0).scores)


def show(name: str, scores: Scores) -> None:
    print(f"{name:<36} mIoU {scores.miou:.3f}  present {scores.miou_present:.3f}  accuracy {scores.accuracy:.3f}")


if __name__ == "__main__":
    main()
