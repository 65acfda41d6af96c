"""A mounted output of an Azure ML job, by Azure's own driver: every task writes there, and a killed training goes on."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mount_of_azure import MountOfAzure
from verbs import SMALL, SMALL_TRAINING, command, own_environment, run, succeed

pytestmark = pytest.mark.slow
OFF = "tracking.uri=off"


def test_the_disk_does_not_say_how_large_it_is(tmp_path: Path) -> None:
    with MountOfAzure(tmp_path) as mount:
        assert shutil.disk_usage(mount.path).total == 0


def test_every_task_writes_there(tmp_path: Path) -> None:
    with MountOfAzure(tmp_path) as mount:
        out, words = mount.path, ["synthetic.scans=2", "synthetic.azimuth_steps=64", "synthetic.beams=16"]
        succeed(run("prepare", *words, f"output={out}/raw", cwd=tmp_path))
        succeed(run("prepare", f"input={out}/raw", f"output={out}/packed", cwd=tmp_path))
        data = ["data=semantickitti", f"data.root={out}/packed", "data.split.train=[0]", "data.split.val=[8]"]
        succeed(run("train", *data, *SMALL_TRAINING, OFF, f"hydra.run.dir={out}/run", cwd=tmp_path))
        for _ in range(2):  # the second finds the files of the first
            labelled = run("predict", f"checkpoint={out}/run", f"input={out}/raw", f"output={out}/labels", cwd=tmp_path)
            succeed(labelled)
        assert "2 files finished before" in labelled.out
        succeed(run("evaluate", f"checkpoint={out}/run", f"hydra.run.dir={out}/scores", cwd=tmp_path))
        succeed(run("report", f"run={out}/run", f"output={out}/report.html", cwd=tmp_path))
    source = mount.source  # written through, though the driver has ended
    assert (source / "report.html").stat().st_size > 10_000
    scan = np.fromfile(source / "raw/sequences/00/velodyne/000000.bin", "<f4").reshape(-1, 4)
    labels = source / "labels/sequences/00/predictions/000000.label"
    assert labels.stat().st_size == 4 * len(scan)
    assert json.loads((source / "scores/metrics.json").read_text())
    assert not [path.name for path in source.rglob("*.tmp")]


def test_a_training_killed_with_its_driver_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    words = [*SMALL, "trainer.max_epochs=12", OFF]
    succeed(run("train", *words, f"hydra.run.dir={tmp_path}/whole", cwd=tmp_path))
    with MountOfAzure(tmp_path / "job") as mount:
        run_folder = mount.path / "run"
        started = command("train", [*words, f"hydra.run.dir={run_folder}"])
        with subprocess.Popen(started, cwd=tmp_path, env=own_environment(), stdout=subprocess.DEVNULL) as training:
            ends = time.monotonic() + 120
            while not (run_folder / "checkpoints/last.ckpt").exists():
                assert training.poll() is None, "ended before its first checkpoint"
                assert time.monotonic() < ends
                time.sleep(0.05)
            training.send_signal(signal.SIGKILL)
            training.wait()
        mount.kill()
    with MountOfAzure(tmp_path / "job") as mount:
        again = succeed(run("train", f"resume={mount.path}/run", cwd=tmp_path))
        assert "Done" in again.out
    weights = [
        torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in (tmp_path / "whole", mount.source / "run")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
