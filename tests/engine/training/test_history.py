"""history.csv: a row an epoch, with what that epoch logged and no more, also over a stop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from verbs import run, succeed, trained_run

from pointseg.core.errors import CheckpointError
from pointseg.engine.training.history import KeepHistory, read_history


def epoch(keeper: KeepHistory, number: int, metrics: dict[str, float], *, validated: bool = False) -> None:
    trainer: Any = SimpleNamespace(
        current_epoch=number - 1,
        global_step=10 * number,
        callback_metrics={name: torch.tensor(value) for name, value in metrics.items()},
        is_global_zero=True,
        sanity_checking=False,
    )
    module: Any = None
    if validated:
        keeper.on_validation_end(trainer, module)
    keeper.on_train_epoch_end(trainer, module)


def test_old_validation_figures_are_not_repeated(tmp_path: Path) -> None:
    keeper = KeepHistory(tmp_path / "history.csv", resume=False)
    epoch(keeper, 1, {"train/loss": 2.0, "val/miou": 0.25}, validated=True)
    epoch(keeper, 2, {"train/loss": 1.0, "val/miou": 0.25})
    first, second = read_history(tmp_path / "history.csv")
    assert first == {"epoch": 1, "step": 10, "train/loss": 2.0, "val/miou": 0.25}
    assert second == {"epoch": 2, "step": 20, "train/loss": 1.0}


def test_a_resumed_run_replaces_the_epochs_it_trains_again(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    keeper = KeepHistory(path, resume=False)
    for number in (1, 2, 3):
        epoch(keeper, number, {"train/loss": float(number)})
    epoch(KeepHistory(path, resume=True), 2, {"train/loss": 9.0})
    assert [(row["epoch"], row["train/loss"]) for row in read_history(path)] == [(1, 1), (2, 9)]
    epoch(KeepHistory(path, resume=False), 1, {"train/loss": 5.0})
    assert [row["train/loss"] for row in read_history(path)] == [5]


def test_names_of_classes_may_hold_what_csv_means_something_by(tmp_path: Path) -> None:
    epoch(KeepHistory(tmp_path / "history.csv", resume=False), 1, {'val/iou/a, "b"\nc': 0.5}, validated=True)
    assert read_history(tmp_path / "history.csv")[0]['val/iou/a, "b"\nc'] == 0.5


@pytest.mark.parametrize("content", ["a,b\n1,2\n", "epoch,step\n1,x\n", "epoch,step\n1,2,3\n", "epoch\nnan\n"])
def test_a_damaged_history_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(content)
    with pytest.raises(CheckpointError, match=r"history\.csv"):
        read_history(tmp_path / "history.csv")


def test_no_history_is_empty(tmp_path: Path) -> None:
    assert read_history(tmp_path / "history.csv") == []


def test_a_run_and_its_continuation_leave_a_row_an_epoch(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import json
    import shutil

    folder = Path(shutil.copytree(trained_run(tmp_path_factory), tmp_path / "run"))
    before = read_history(folder / "history.csv")
    assert [row["epoch"] for row in before] == [1, 2]
    assert {"train/loss", "train/lr", "val/miou", "val/iou/road"} <= set(before[0])
    best = json.loads((folder / "metrics.json").read_text())["miou"]
    assert best == pytest.approx(max(row["val/miou"] for row in before), abs=1e-6)
    succeed(run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path))
    after = read_history(folder / "history.csv")
    assert after[:2] == before
    assert [row["epoch"] for row in after] == [1, 2, 3]
