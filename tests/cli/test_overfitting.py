"""Each family fits two real scans: what cannot learn these by heart has a fault somewhere between its points and its loss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCANS = ("03/000000", "01/000003")  # a street and a motorway, of which every class shown has hundreds of points
EVERY = 4  # of the points


def thinned(root: Path, target: Path) -> None:
    """The two scans as sequence 00 of a data set of their own, with every fourth point."""
    for folder in ("velodyne", "labels"):
        (target / "sequences" / "00" / folder).mkdir(parents=True)
    for number, name in enumerate(SCANS):
        sequence, frame = name.split("/")
        source, copy = root / "sequences" / sequence, target / "sequences" / "00"
        points = np.fromfile(source / "velodyne" / f"{frame}.bin", np.float32).reshape(-1, 4)[::EVERY]
        points.tofile(copy / "velodyne" / f"{number:06d}.bin")
        np.fromfile(source / "labels" / f"{frame}.label", np.uint32)[::EVERY].tofile(
            copy / "labels" / f"{number:06d}.label"
        )


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        (
            "kitti_frnet_small",
            ["optimizer.lr=0.01", "trainer.ema_decay=null", "model.width=256", "trainer.max_epochs=220"],
        ),
        ("kitti_waffleiron_small", ["optimizer.lr=0.005", "trainer.max_epochs=150", "data.paste.probability=0"]),
    ],
)
def test_two_real_scans_are_learnt_by_heart(real_root: Path, tmp_path: Path, recipe: str, settings: list[str]) -> None:
    thinned(real_root, tmp_path / "two")
    plain = [
        f"data.root={tmp_path / 'two'}",
        "data.split={train: ['00'], val: ['00'], test: null}",
        "data.points=131072",
        "data.trained.count=0",
        "data.polarmix.swap=0",
        "data.polarmix.paste=0",
        "data.lasermix.probability=0",
        "data.augmentation={yaw: 0, flip_y: 0, scale: 0, jitter: 0}",
        "optimizer.weight_decay=0",
        "trainer.check_val_every_n_epoch=1000",
        "tracking=off",
        "hydra.run.dir=run",
    ]
    command = [sys.executable, "-m", "pointseg.train", f"+experiment={recipe}", *plain, *settings]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800, env=dict(os.environ))
    assert done.returncode == 0, done.stderr[-3000:]
    scores = json.loads((tmp_path / "run/metrics.json").read_text())
    assert scores["classes_present"] >= 10
    assert scores["miou_present"] >= 0.95
