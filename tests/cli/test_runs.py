"""Whole runs through the command line: what they leave, track, hide, and how they go on."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import verbs

SECRET = "hunter2hunter2"
TINY = ["+experiment=quick", "data.scans={train: 2, val: 2, test: 1}", "data.beams=16", "data.azimuth_steps=128"]
FILES = ("config.yaml", "run.json", "metrics.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt")

pytestmark = pytest.mark.slow


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")} | {"OMP_NUM_THREADS": "1"}


def succeed(verb: str, *arguments: str, cwd: Path) -> str:
    """What a verb says, in a process of its own."""
    command = [sys.executable, "-m", f"pointseg.{verb}", *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def here(verb: str, *words: str, cwd: Path) -> str:
    """The same in the process of the tests, which is another than that of the run."""
    done = verbs.succeed(verbs.run(verb, *words, cwd=cwd))
    return done.out + done.err


def query(folder: Path, sql: str) -> list[tuple[str, ...]]:
    with sqlite3.connect(folder / "mlruns.db") as database:
        return database.execute(sql).fetchall()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder in which one run was made at `run`, with a secret planted; and what it printed."""
    folder = tmp_path_factory.mktemp("we ird=(a),b ~é")
    said = succeed("train", *TINY, f"tracking.tags.api_token={SECRET}", "hydra.run.dir=run", cwd=folder)
    return folder, said


def test_a_run_leaves_what_it_promises(run: tuple[Path, str]) -> None:
    folder, said = run
    assert all((folder / "run" / name).is_file() for name in FILES)
    assert (folder / "run/bundle/weights.safetensors").is_file()
    assert len(list((folder / "run/figures").glob("*.png"))) == 3
    assert "Estimate: " in said
    assert "official rule" in said


def test_a_run_is_tracked_whole(run: tuple[Path, str]) -> None:
    folder, _ = run
    params = dict(query(folder, "select key, value from params"))
    assert (params["optimizer.lr"], params["model.dropout"], params["tracking.uri"]) == ("0.003", "0.3", "auto")
    metrics = {key for (key,) in query(folder, "select distinct key from metrics")}
    assert {"train/loss", "train/lr", "train/points_per_s", "val/iou/traffic-sign", "best/miou"} <= metrics
    assert any(key.startswith("system/") for key in metrics)
    assert query(folder, "select status from runs") == [("FINISHED",)]
    artifacts = {str(p.relative_to(folder)).split("/artifacts/")[-1] for p in (folder / "mlartifacts").rglob("*.*")}
    assert {"config.yaml", "metrics.json", "checkpoints/best.ckpt", "data_summary.json"} <= artifacts


def test_a_secret_is_nowhere(run: tuple[Path, str]) -> None:
    folder, said = run
    assert SECRET not in said
    holders = [p for p in folder.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert holders == []
    assert "api_token" in (folder / "run/config.yaml").read_text()


@pytest.mark.parametrize("checkpoint", ["run", "run/checkpoints/best.ckpt", "run/bundle"])
def test_evaluate_equals_the_runs_own_scores(run: tuple[Path, str], checkpoint: str) -> None:
    folder, _ = run
    output = f"scores of {checkpoint.replace('/', ',')}"
    here("evaluate", f"checkpoint={checkpoint}", f"output={output}", cwd=folder)
    own = json.loads((folder / "run/metrics.json").read_text())
    assert json.loads((folder / output / "metrics.json").read_text()) == own
    assert {"miou", "miou_present", "classes_present", "accuracy", "iou", "support", "points", "scans"} == set(own)


def test_a_synthetic_model_is_scored_on_other_data(run: tuple[Path, str]) -> None:
    folder, _ = run
    sensor = ["synthetic.scans=4", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
    here("prepare", "output=stre ets,(1)", *sensor, cwd=folder)
    here("evaluate", "checkpoint=run", "data=semantickitti", "data.root=stre ets,(1)", "output=other", cwd=folder)
    assert json.loads((folder / "other/metrics.json").read_text())["scans"] >= 1


def test_resume_goes_on_in_the_same_tracked_run_and_tags_changes(tmp_path: Path) -> None:
    here("train", *TINY, "hydra.run.dir=run", cwd=tmp_path)
    before = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"]
    succeed("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path)
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"] == before + 1
    assert query(tmp_path, "select status from runs") == [("FINISHED",)]
    changed = query(tmp_path, "select value from tags where key = 'param_changed.trainer.max_epochs'")
    assert changed == [("3",)]
    assert "max_epochs: 3" in (tmp_path / "run/config.yaml").read_text()


@pytest.mark.parametrize("override", ["model.head_widths=[64,32]", "features.use=[x,y,z]"])
def test_resume_refuses_another_model_and_changes_nothing(run: tuple[Path, str], override: str) -> None:
    folder, _ = run
    files = {p: p.read_bytes() for p in (folder / "run").rglob("*") if p.is_file() and p.suffix != ".log"}
    done = verbs.run("train", "resume=run", override, "tracking=off", cwd=folder)
    assert "error: the checkpoint has another " in done.message
    assert {p: p.read_bytes() for p in files} == files


def test_rerun_gives_the_same_weights_in_a_new_folder(run: tuple[Path, str]) -> None:
    folder, _ = run
    said = here("train", "rerun=run", "hydra.run.dir=again", "tracking=off", cwd=folder)
    assert "the code is the same" in said
    one, two = (torch.load(folder / name / "checkpoints/last.ckpt", weights_only=True) for name in ("run", "again"))
    assert all(torch.equal(one["state_dict"][name], two["state_dict"][name]) for name in one["state_dict"])


def test_a_folder_with_another_run_is_left_alone(run: tuple[Path, str]) -> None:
    folder, _ = run
    assert "holds another run" in verbs.run("train", *TINY, "hydra.run.dir=run", cwd=folder).message


def test_ctrl_c_leaves_a_run_to_go_on_with(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pointseg.train", *TINY, "tracking=off", "hydra.run.dir=run"]
    more = ["trainer.max_epochs=500"]
    process = subprocess.Popen([*command, *more], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "run/checkpoints/last.ckpt").exists():
            break
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "resume=" in errors
    epoch = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"]
    here("train", "resume=run", f"trainer.max_epochs={epoch + 2}", cwd=tmp_path)


def test_a_sweep_is_one_tracked_run_with_children(tmp_path: Path) -> None:
    grid = ["optimizer.lr=0.001,0.003", "seed=0,1", "hydra.sweep.dir=sweep"]
    here("train", "-m", *TINY, *grid, cwd=tmp_path)
    runs = dict(query(tmp_path, "select run_uuid, status from runs"))
    parents = [value for (value,) in query(tmp_path, "select value from tags where key = 'mlflow.parentRunId'")]
    assert set(runs.values()) == {"FINISHED"}
    assert len(runs) == 5
    assert len(parents) == 4
    assert len(set(parents)) == 1
    assert all((tmp_path / "sweep" / str(number) / "metrics.json").is_file() for number in range(4))


def test_own_classes_are_one_yaml_away(tmp_path: Path) -> None:
    from pointseg import LabelMap

    kitti = LabelMap.load("semantickitti").to_dict()
    ground = [raw for group in kitti["classes"][8:12] for raw in group]
    others = [raw for group in kitti["classes"][:8] + kitti["classes"][12:] for raw in group]
    mine = {**kitti, "name": "ground", "classes": [ground, others]}
    (tmp_path / "mine.yaml").write_text(json.dumps(mine))
    here("train", *TINY, "data.labels=mine.yaml", "hydra.run.dir=run", "tracking=off", cwd=tmp_path)
    assert set(json.loads((tmp_path / "run/metrics.json").read_text())["iou"]) == {"road", "car"}
