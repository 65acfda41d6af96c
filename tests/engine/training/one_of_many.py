"""A small training that one process or several share: `python -m one_of_many FOLDER BATCH_SIZE`; run by test_ranks.py.

Each process writes the losses of its steps and, at the end, the scores of its module.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pointseg.core.errors import PointsegError
from pointseg.data import Augmentation, SyntheticDataModule
from pointseg.data.features import FeatureSpec
from pointseg.engine.segmentation_module import SegmentationModule
from pointseg.engine.training.fit import fit
from pointseg.engine.training.run_folder import RunFolder
from pointseg.engine.training.trainer_settings import TrainerSettings
from pointseg.models import PointNetSeg

KILLED_AFTER = int(os.environ.get("KILLED_AFTER", "-1"))  # steps, of the last process


class Told(SegmentationModule):
    """Keeps the loss of each step."""

    losses: list[float]

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        if self.global_step == KILLED_AFTER and os.environ.get("RANK") == "3":
            os.kill(os.getpid(), 9)
        out = super().training_step(batch, batch_idx)
        self.losses.append(float(out["loss"]))
        return out


FEATURES = FeatureSpec(use=("x", "y", "z", "remission", "height"))


def make_data(batch_size: int) -> SyntheticDataModule:
    return SyntheticDataModule(
        scans={"train": 6, "val": 3, "test": 1},
        beams=16,
        azimuth_steps=80,
        points=(60, 120),
        clouds_per_scan=8,
        batch_size=batch_size,
        augmentation=Augmentation(dropout=0.5),  # clouds of unequal size
        features=FEATURES,
    )


def main(folder: Path, batch_size: int) -> None:
    torch.set_num_threads(1)
    data, features = make_data(batch_size), FEATURES
    torch.manual_seed(3)
    widths = {"local_widths": (8, 8), "global_widths": (8, 16), "head_widths": (16, 8)}
    model = PointNetSeg(
        len(features), 19, **widths, input_transform=False, feature_transform=True, dropout=0.3, sync_batchnorm=True
    )
    weights = torch.linspace(0.5, 2.0, 19)
    module = Told(model, data.label_map, features, class_weights=weights, lovasz=0.3, lr=0.002, points_per_pass=100)
    module.losses = []
    rank = int(os.environ.get("RANK", "0"))
    fit(module, data, RunFolder(folder), TrainerSettings(max_epochs=2, accelerator="cpu", monitor=None))
    assert module.scores is not None
    told = {"losses": module.losses, "confusion": module.scores.confusion.tolist()}
    (folder / f"told-{rank}.json").write_text(json.dumps(told), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), int(sys.argv[2]))
    except PointsegError as error:
        print(error, file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
