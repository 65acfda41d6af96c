"""The kitti recipe on real scans, in a quick setting: from the command line to the official scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pointseg import Predictor
from pointseg.data.semantickitti import SemanticKITTIScans


def run_verb(verb: str, *arguments: str, cwd: Path) -> None:
    command = [sys.executable, "-m", f"pointseg.{verb}", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.real
@pytest.mark.slow
def test_kitti_recipe_trains_evaluates_and_predicts(real_root: Path, tmp_path: Path) -> None:
    quick = ["data.split.train=[0]", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"]
    run = ["+experiment=kitti", f"data.root={real_root}", "tracking=off", "hydra.run.dir=run", *quick]
    run_verb("train", *run, cwd=tmp_path)
    run_verb("evaluate", "checkpoint=run", "output=scores", cwd=tmp_path)
    trained = json.loads((tmp_path / "run/metrics.json").read_text())
    evaluated = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert trained == evaluated
    # the official rule once more, plainly, from raw ids as they would be written to .label files
    predictor, scans = Predictor.load(tmp_path / "run"), SemanticKITTIScans(real_root, ["08"])
    hits, either = np.zeros(20), np.zeros(20)
    for index in range(len(scans)):
        scan = scans[index]
        truth = predictor.label_map.to_train(scan.required_labels)
        guess = predictor.label_map.to_train(predictor(scan.points))
        for k in range(1, 20):
            counted = truth > 0
            hits[k] += np.sum(counted & (truth == k) & (guess == k))
            either[k] += np.sum(counted & ((truth == k) | (guess == k)))
    assert evaluated["miou"] == pytest.approx(np.mean(hits[1:] / (either[1:] + 1e-15)), abs=1e-12)
    assert evaluated["scans"] == len(scans)
