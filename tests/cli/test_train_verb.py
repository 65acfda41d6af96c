"""`python -m pointseg.train`: what a person sees, and what lies in the folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from verbs import KITTI_SPLIT, SMALL, SMALL_TRAINING, kitti_folder, own_environment, run, spawn, succeed

from pointseg.core import files


def test_what_a_run_says(tmp_path: Path) -> None:
    done = succeed(run("train", *SMALL, "tracking=off", cwd=tmp_path))
    assert not done.err
    lines = done.out.splitlines()
    estimate = next(i for i, line in enumerate(lines) if line.startswith("Estimate: "))
    first = next(i for i, line in enumerate(lines) if line.startswith("epoch 1/2"))
    assert estimate < first
    for word in ("memory", "on disk", "2 epochs"):
        assert word in lines[estimate]
    for word in ("loss", "mIoU", "left"):
        assert word in lines[first]
    assert any(line.startswith("road ") for line in lines)
    assert "official rule" in done.out
    for name in ("metrics.json", "figures", "checkpoints/best.ckpt", "bundle"):
        assert name in done.out
    (folder,) = (tmp_path / "outputs").glob("*/*")
    assert str(folder) in done.out
    assert not list(tmp_path.glob("mlruns*"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["trainer"]["max_epochs"] == 2
    assert "resume" not in config
    assert "${" not in (folder / "config.yaml").read_text()


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files.time, "strftime", lambda _: "now")
    assert [files.new_run_folder().relative_to(tmp_path) for _ in range(2)] == [
        Path("outputs/now/now"),
        Path("outputs/now/now-2"),
    ]


def test_best_is_the_last_epoch_without_a_monitor(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Also where no epoch is validated, as in a short run of the kitti recipe."""
    root = kitti_folder(tmp_path_factory)
    words = ["+experiment=kitti", *SMALL_TRAINING, f"data.root={root}", *KITTI_SPLIT, "tracking=off"]
    words += ["trainer.max_epochs=3", "trainer.check_val_every_n_epoch=2", "hydra.run.dir=run"]
    succeed(run("train", *words, cwd=tmp_path))
    import torch

    for name in ("best", "last"):
        content = torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert content["epoch"] == 2
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["scans"] == 1


def test_a_run_that_never_validates_has_a_best_checkpoint(tmp_path: Path) -> None:
    words = [*SMALL, "tracking=off", "trainer.max_epochs=1", "trainer.check_val_every_n_epoch=2", "hydra.run.dir=run"]
    succeed(run("train", *words, cwd=tmp_path))
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
def test_the_quick_experiment_in_a_real_process(tmp_path: Path) -> None:
    done = succeed(spawn("train", "+experiment=quick", cwd=tmp_path))
    assert (tmp_path / "mlruns.db").is_file()
    assert "mlflow ui" in done.out
    assert "alembic" not in done.out + done.err
    assert "Traceback" not in done.out + done.err
    assert not done.err.strip()


def test_importing_pointseg_is_quick() -> None:
    code = "import sys, pointseg; print([n for n in ('torch', 'mlflow', 'pytorch_lightning', 'hydra') if n in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=own_environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
