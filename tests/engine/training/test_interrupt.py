"""Ctrl-C in a real process: exit code 130, a last.ckpt, and a command to go on that works."""

from __future__ import annotations

import shlex
import signal
import subprocess
import threading
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
