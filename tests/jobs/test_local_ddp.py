"""`compute=local_ddp` on the verbs: the word alone makes one command several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from conftest import scan_points
from verbs import empty_database, run

from pointseg.engine.bundle import TrainedModel, load, save_bundle
from pointseg.engine.predictor import Predictor

QUICK = ("+experiment=quick", "compute=local_ddp", "tracking=off")


@pytest.mark.parametrize("place", ["local_ddp", "aml_multinode"])
def test_a_verb_of_one_process_refuses(place: str, tmp_path: Path) -> None:
    message = run("evaluate", "checkpoint=x", f"compute={place}", cwd=tmp_path).message
    assert f"evaluate is the work of one process: compute={place}" in message


@pytest.mark.parametrize("word", ["compute.processes=0", "compute.nodes=-1"])
def test_no_process(word: str, tmp_path: Path) -> None:
    words = ("checkpoint=x", "input=y", "output=z", "compute=local_ddp", word)
    assert word.partition("=")[0] in run("predict", *words, cwd=tmp_path).message


def test_a_job_within_a_job_is_refused(tmp_path: Path) -> None:
    message = run("train", *QUICK, cwd=tmp_path, RANK="0", WORLD_SIZE="2").message
    assert "one of a job already: compute=local_ddp" in message


@pytest.mark.slow
def test_files_are_shared(trained: TrainedModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", trained)
    (tmp_path / "in").mkdir()
    for number in range(5):
        scan_points(300, seed=number).tofile(tmp_path / f"in/{number}.bin")
    (tmp_path / "in/00.bin").write_bytes(b"x" * 17)  # the second, so that of the second process
    words = ("checkpoint=bundle", "input=in", "output=out", "compute=local_ddp")
    done = subprocess.run(command("predict", *words), cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 2
    assert "in/00.bin" in done.stderr
    assert "of which 3 files here" in done.stdout
    for number in range(5):
        labels = np.fromfile(tmp_path / f"out/{number}.label", "<u4")
        assert np.array_equal(labels, Predictor(trained).predict(scan_points(300, seed=number)).raw_ids)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two processes that nobody has disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    said = succeed("train", *QUICK, "trainer.max_epochs=3", "hydra.run.dir=run", cwd=folder.parent)
    (folder / "said").write_text(said)
    return folder


@pytest.mark.slow
def test_a_training_is_shared(whole: Path) -> None:
    said = (whole / "said").read_text()
    assert "process 1 of 2" in said
    assert said.count("Results in") == 1
    assert "3 epochs of 2 steps" in said
    recorded = yaml.safe_load((whole / "config.yaml").read_text())["compute"]
    assert (recorded["name"], recorded["processes"]) == ("local_ddp", 2)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stopped", "one is killed"])
def test_a_training_that_ended_early_goes_on_as_if_it_had_not(how: str, whole: Path, tmp_path: Path) -> None:
    stopped = subprocess.Popen(
        command("train", *QUICK, "trainer.max_epochs=3", "hydra.run.dir=parts"), cwd=tmp_path, env=environment()
    )
    end = time.monotonic() + 300
    while not (tmp_path / "parts/checkpoints/last.ckpt").exists():
        assert time.monotonic() < end
        assert stopped.poll() is None
        time.sleep(0.01)
    if how == "stopped":
        stopped.send_signal(signal.SIGINT)
    else:
        for process in psutil.Process(stopped.pid).children():
            if process.environ()["RANK"] == "1":
                process.kill()
    ended = stopped.wait(300)
    assert ended in (0, 130 if how == "stopped" else 1)
    if ended:  # else it had ended before the signal came
        done = run("train", "resume=parts", cwd=tmp_path)
        assert done.code == 0, done.err
        assert "With 2 processes, as the run was" in done.out
    one, other = (load(path / "checkpoints/last.ckpt").model.state_dict() for path in (whole, tmp_path / "parts"))
    assert all(np.array_equal(one[name], other[name]) for name in one)
    for path in (whole, tmp_path / "parts"):
        rows = (path / "history.csv").read_text().splitlines()[1:]
        assert [row.split(",")[:2] for row in rows] == [["1", "2"], ["2", "4"], ["3", "6"]]


@pytest.mark.slow
def test_a_sweep_of_jobs(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    words = ("+experiment=quick", "compute=local_ddp", "tracking.uri=sqlite:///runs.db", "hydra.sweep.dir=sweep")
    (tmp_path / "runs.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    done = run("train", "-m", *words, "seed=0,1", "trainer.max_epochs=1", cwd=tmp_path)
    assert done.code == 0, done.err
    table = done.out.partition("The sweep, best first:")[2]
    assert all(word in table for word in ("seed=0", "seed=1"))
    scores = [json.loads((tmp_path / f"sweep/{number}/metrics.json").read_text())["miou"] for number in range(2)]
    assert f"{100 * max(scores):5.2f}" in table
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    parents = {found.data.tags.get("mlflow.parentRunId") for found in runs}
    assert (len(runs), len(parents - {None})) == (3, 1)
    assert {found.info.status for found in runs} == {"FINISHED"}


def command(verb: str, *words: str) -> list[str]:
    return [sys.executable, "-m", f"pointseg.{verb}", *words]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def succeed(verb: str, *words: str, cwd: Path) -> str:
    """What a verb says, in a process of its own."""
    done = subprocess.run(
        command(verb, *words), cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
