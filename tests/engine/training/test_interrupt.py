"""Ctrl-C in a real process: exit code 130, a last.ckpt, and a command to go on that works."""

from __future__ import annotations

import resource
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
import torch
from verbs import SMALL, command, own_environment, run, succeed

EPOCHS = 15


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_leaves_a_run_to_go_on_with(number: signal.Signals, tmp_path: Path) -> None:
    words = [*SMALL, "tracking=off", f"trainer.max_epochs={EPOCHS}", "data.clouds_per_scan=20", "hydra.run.dir=r u'n"]
    process = subprocess.Popen(
        command("train", words),
        cwd=tmp_path,
        env=own_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        seen = []
        for line in process.stdout:
            seen.append(line)
            if line.startswith("epoch 2/"):
                process.send_signal(number)
                break
        out, err = process.communicate()
    finally:
        watchdog.cancel()
        process.kill()
    assert process.returncode == 130, "".join(seen) + out + err
    assert "Traceback" not in out + err
    last = tmp_path / "r u'n" / "checkpoints" / "last.ckpt"
    stopped = torch.load(last, weights_only=True)["global_step"]
    assert 0 < stopped < EPOCHS * 10

    (line,) = [line for line in err.splitlines() if "python -m pointseg.train" in line]
    words = shlex.split(line[line.index("python -m pointseg.train") :].rstrip("."))[3:]
    done = succeed(run("train", *words, f"trainer.max_epochs={EPOCHS}", cwd=tmp_path))
    assert f"epoch {EPOCHS}/{EPOCHS}" in done.out
    assert torch.load(last, weights_only=True)["global_step"] == EPOCHS * 10


@pytest.mark.slow
def test_a_run_that_is_killed_within_an_epoch_goes_on_from_there(tmp_path: Path) -> None:
    words = [*SMALL, "tracking=off", "trainer.max_epochs=2", "data.clouds_per_scan=60"]
    succeed(run("train", *words, "hydra.run.dir=whole", cwd=tmp_path))
    whole = torch.load(tmp_path / "whole/checkpoints/last.ckpt", weights_only=True)
    process = subprocess.Popen(
        command("train", [*words, "trainer.checkpoint_minutes=1e-9", "hydra.run.dir=run"]),
        cwd=tmp_path,
        env=own_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    last, ends = tmp_path / "run/checkpoints/last.ckpt", time.monotonic() + 120
    try:
        while not last.is_file() and time.monotonic() < ends and process.poll() is None:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    steps = torch.load(last, weights_only=True)["global_step"]
    assert 0 < steps < whole["global_step"] / 2  # within the first epoch
    succeed(run("train", "resume=run", "trainer.checkpoint_minutes=null", cwd=tmp_path))
    resumed = torch.load(last, weights_only=True)
    assert resumed["global_step"] == whole["global_step"]
    assert all(torch.equal(tensor, whole["state_dict"][name]) for name, tensor in resumed["state_dict"].items())


@pytest.mark.slow
def test_a_disk_that_takes_no_checkpoint_is_told(tmp_path: Path) -> None:
    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))

    done = subprocess.run(
        command("train", [*SMALL, "tracking=off", "hydra.run.dir=run"]),
        cwd=tmp_path,
        env=own_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=no_large_files,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert "the checkpoint cannot be written; the disk has" in done.stderr
    assert not list((tmp_path / "run/checkpoints").iterdir())
