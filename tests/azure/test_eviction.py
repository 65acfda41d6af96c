"""Machines that are taken away: the job begins again on another one, and its training goes on."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from azure_helpers import wait_for
from verbs import run, succeed

from pointseg.engine.bundle import load

pytestmark = [pytest.mark.azure, pytest.mark.slow]

SMALL = ("+experiment=quick", "trainer.max_epochs=3")


def weights(folder: Path) -> dict[str, Any]:
    return load(folder / "checkpoints/last.ckpt").model.state_dict()


def words_of(job: Any) -> str:
    return (job.folder / "artifacts/user_logs/std_log.txt").read_text()


def steps_of(tracked: dict[str, Any]) -> list[int]:
    """At which a run in the workspace was told a validation's score."""
    return [int(metric["step"]) for metric in tracked["metrics"] if metric["key"] == "val/miou"]


def test_a_training_goes_on_where_its_machine_was_taken_away(azure: Any, cluster: str, here: Path) -> None:
    succeed(run("train", *SMALL, "tracking=off", "hydra.run.dir=whole", cwd=here))
    executor = azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = (
        "compute=aml_spot",
        f"compute.cluster={cluster}",
        "compute.vm_size=null",
        "compute.spot=false",
        "compute.gpu=false",
    )
    words += ("compute.run=street", "compute.wait=true", "hydra.run.dir=run")

    def take_away() -> None:
        wait_for(lambda: bool(executor.runs), 120)
        (job,) = executor.runs.values()
        wait_for((job.folder / "outputs/run/checkpoints/last.ckpt").is_file, 120)
        executor.evict(job.name)

    thread = threading.Thread(target=take_away)
    thread.start()
    done = run("train", *SMALL, *words, cwd=here)
    thread.join()
    assert done.code == 0, done.err
    (job,) = executor.runs.values()
    assert job.evictions == 1
    assert "Going on with the run in" in words_of(job)
    one, other = weights(here / "whole"), weights(here / "run")
    assert all(np.array_equal(one[name], other[name]) for name in one)
    rows = (here / "run/history.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["1", "2", "3"]

    again = run("train", *SMALL, *words, "trainer.max_epochs=4", "hydra.run.dir=again", cwd=here)
    assert again.code == 0, again.err
    assert len(weights(here / "again")) == len(other)
    _, job = executor.runs.values()
    assert "epoch 4/4" in words_of(job)
    assert "epoch 3/4" not in words_of(job)
    first, second = executor.runs  # each tracked as a run of its own
    assert azure.tracking.runs[second]["tags"]["resumed_from"] == first
    assert json.loads((here / "again/run.json").read_text())["tracking"]["run_id"] == second
    assert max(steps_of(azure.tracking.runs[first])) < min(steps_of(azure.tracking.runs[second]))
