"""The official scores as a torchmetric: by the rule, over ranks, in anyone's module, and out of the way of checkpoints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from verbs import own_environment

from pointseg.engine.metrics import confusion_matrix, score
from pointseg.engine.official_iou import OfficialIoU, OfficialMeanIoU

CLASSES = 4


def ids(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Predictions and truth, each of training ids 0..4."""
    generator = torch.Generator().manual_seed(seed)
    prediction, truth = torch.randint(0, CLASSES + 1, (2, count), generator=generator)
    return prediction, truth


def test_scans_add_up_to_the_scores_of_all_points() -> None:
    metric = OfficialIoU(CLASSES)
    for seed in range(3):
        metric.update(*ids(100 + seed, seed))
    prediction, truth = (torch.cat(parts) for parts in zip(*(ids(100 + seed, seed) for seed in range(3)), strict=True))
    expected = score(confusion_matrix(truth, prediction, CLASSES))
    found = metric.compute()
    assert np.array_equal(found.confusion, expected.confusion)
    assert (found.miou, found.accuracy) == (expected.miou, expected.accuracy)
    assert found.summary("val") == {
        "val/miou": expected.miou,
        "val/miou_present": expected.miou_present,
        "val/accuracy": expected.accuracy,
    }


def test_reset_forgets() -> None:
    metric = OfficialIoU(CLASSES)
    metric.update(*ids(50, 0))
    metric.reset()
    metric.update(torch.tensor([1]), torch.tensor([1]))
    assert (metric.compute().points, metric.compute().accuracy) == (1, 1.0)


def test_ids_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="not between 0 and 4"):
        OfficialIoU(CLASSES).update(torch.tensor([5]), torch.tensor([1]))


RANK = """
import sys, torch, torch.distributed as dist
from pointseg.engine.official_iou import OfficialIoU
rank, folder, classes = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
metric = OfficialIoU(classes)
for seed in range(rank, 3, 2):
    metric.update(*torch.load(f"{folder}/ids-{seed}.pt"))
torch.save(torch.from_numpy(metric.compute().confusion), f"{folder}/{rank}.pt")
assert metric.confusion.sum() == 100 * len(range(rank, 3, 2))  # its own again
dist.destroy_process_group()  # ending with Gloo's threads at work may abort the process
"""


def test_two_ranks_are_one(tmp_path: Path) -> None:
    for seed in range(3):
        torch.save(ids(100, seed), tmp_path / f"ids-{seed}.pt")
    words = (str(tmp_path), str(CLASSES))
    ranks = [
        subprocess.Popen([sys.executable, "-W", "ignore", "-c", RANK, str(rank), *words], env=own_environment())
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in ranks] == [0, 0]
    alone = OfficialIoU(CLASSES)
    for seed in range(3):
        alone.update(*ids(100, seed))
    for rank in range(2):
        assert np.array_equal(torch.load(tmp_path / f"{rank}.pt").numpy(), alone.compute().confusion)


class Foreign(pl.LightningModule):
    """Somebody's module that knows nothing of ours but the metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, CLASSES)
        self.iou, self.miou = OfficialIoU(CLASSES), OfficialMeanIoU(CLASSES)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.iou.update(*batch)
        self.miou.update(*batch)
        self.log("val/miou", self.miou)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"own/{name}": value for name, value in self.iou.compute().summary("val").items()})


def test_a_foreign_module_logs_it() -> None:
    module = Foreign()
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, enable_model_summary=False, **quiet)
    scans = [ids(60, 1), ids(80, 2)]
    trainer.validate(module, DataLoader(scans, batch_size=None), verbose=False)  # type: ignore[arg-type]
    prediction, truth = (torch.cat(parts) for parts in zip(*scans, strict=True))
    expected = score(confusion_matrix(truth, prediction, CLASSES)).miou
    assert float(trainer.callback_metrics["val/miou"]) == pytest.approx(expected, rel=1e-6)
    assert float(trainer.callback_metrics["own/val/miou"]) == pytest.approx(expected, rel=1e-6)


def test_it_leaves_checkpoints_and_averaging_alone() -> None:
    """Weight averaging pairs the parameters and buffers of two modules, and copies one to the other."""
    module = Foreign()
    module.iou.update(*ids(50, 0))
    assert set(module.state_dict()) == {"layer.weight", "layer.bias"}
    assert list(module.buffers()) == []
    assert module.double().iou.confusion.dtype == torch.int64
