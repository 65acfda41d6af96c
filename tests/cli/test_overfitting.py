"""Each family of networks can learn two real scans by heart: nothing between scan and logits withholds what it needs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from verbs import run, succeed

pytestmark = pytest.mark.slow

SEQUENCE, FRAMES = "00", ("000000", "000009")
WORDS = [
    "data.split={train: ['00'], val: ['00'], test: null}",
    "data.points=131072",  # whole scans, always the same
    "data.trained.count=0",
    "data.polarmix={swap: 0, paste: 0}",
    "data.paste.probability=0",
    "data.augmentation={yaw: 0, flip_x: 0, flip_y: 0, scale: 0, jitter: 0}",
    "data.sampling.voxel=0",
    "scheduler.warmup_steps=10",
    "optimizer={lr: 0.01, weight_decay: 0}",
    "trainer.ema_decay=null",
    "tracking=off",
    "hydra.run.dir=run",
]
FAMILIES = {
    "kitti_frnet_small": ["data.lasermix.probability=0", "trainer.max_epochs=160"],
    "kitti_waffleiron_small": ["model.drop_path=0", "trainer.max_epochs=160"],
}


@pytest.mark.parametrize("recipe", sorted(FAMILIES))
def test_two_real_scans_are_learned_by_heart(recipe: str, real_root: Path, tmp_path: Path) -> None:
    for kind, suffix in (("velodyne", "bin"), ("labels", "label")):
        folder = tmp_path / "scans" / "sequences" / SEQUENCE / kind
        folder.mkdir(parents=True)
        for frame in FRAMES:
            shutil.copy(real_root / "sequences" / SEQUENCE / kind / f"{frame}.{suffix}", folder)
    words = [f"+experiment={recipe}", "data.root=scans", *WORDS, *FAMILIES[recipe]]
    succeed(run("train", *words, cwd=tmp_path))
    scores = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert scores["miou_present"] > 0.95
