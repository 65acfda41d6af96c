"""A search for settings on this machine, from the command line to the registered model."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from verbs import SMALL, command, empty_database, own_environment, run

from pointseg.cli.overrides import parse
from pointseg.cli.searches import read_space
from pointseg.core.errors import ConfigError, OutOfMemory
from pointseg.jobs.search_space import SearchSpace, SweepSettings
from pointseg.jobs.study import Study
from pointseg.workflows.training import train

pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

LR = "optimizer.lr=tag(log, interval(1e-4,1e-2))"
SEARCH = ("-m", *SMALL, "hydra.sweep.dir=sweep", "tracking.system_metrics=false")


@pytest.fixture(autouse=True)
def database(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fresh tracking databases where the tests look for them; migrating each anew takes seconds."""
    for name in ("mlruns.db", "runs.db"):
        (tmp_path / name).write_bytes(empty_database(tmp_path_factory).read_bytes())


def query(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "mlruns.db") as database:
        return database.execute(sql).fetchall()


def space() -> SearchSpace:
    return read_space(parse([LR, "model=a,b", "data.points=int(interval(64,128))"]))


def scored(study: Study, trials: int) -> list[dict[str, object]]:
    """Values of that many trials more, with made-up scores that a sampler may learn from."""
    for _ in range(trials):
        trial = study.next(space())
        assert trial is not None
        study.complete(trial.number, float(str(trial.values["optimizer.lr"])) * 10)
    return [trial.values for trial in study.trials()]


@pytest.mark.parametrize("sampling", ["tpe", "random"])
def test_the_same_seed_draws_the_same_trials_also_after_an_interruption(sampling: str, tmp_path: Path) -> None:
    settings = SweepSettings("local", 14, sampling, seed=3)
    whole = scored(Study.begin(tmp_path / "whole", space(), settings), 14)
    scored(Study.begin(tmp_path / "parts", space(), settings), 5)
    interrupted = Study(tmp_path / "parts").next(space())
    assert interrupted is not None
    assert Study(tmp_path / "parts").next(space()) == interrupted
    assert scored(Study.begin(tmp_path / "parts", space(), settings), 9) == whole
    assert Study(tmp_path / "parts").next(space()) is None
    assert len({str(values) for values in whole}) == 14
    other = scored(Study.begin(tmp_path / "other", space(), SweepSettings("local", 14, sampling, seed=4)), 1)
    assert other[0] != whole[0]


def test_no_trial_is_ever_kept_without_its_values(tmp_path: Path) -> None:
    """A kill may come after any commit."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    drawn = "select count(*) from trial_params p where p.trial_id = t.trial_id"
    kept: list[int] = []

    def look(session: Session) -> None:
        with sqlite3.connect(tmp_path / "study.db") as database:
            kept.extend(count for (count,) in database.execute(f"select ({drawn}) from trials t"))

    study = Study.begin(tmp_path, space(), SweepSettings("local", 3, "tpe"))
    event.listen(Session, "after_commit", look)
    try:
        scored(study, 3)
    finally:
        event.remove(Session, "after_commit", look)
    assert set(kept) == {3}


def test_more_trials_of_the_same_sweep_but_no_other_sweep_in_its_folder(tmp_path: Path) -> None:
    scored(Study.begin(tmp_path, space(), SweepSettings("local", 1, "tpe")), 1)
    assert Study.begin(tmp_path, space(), SweepSettings("local", 2, "tpe")).next(space()) is not None
    with pytest.raises(ConfigError, match=r"compute\.sweep\.seed"):
        Study.begin(tmp_path, space(), SweepSettings("local", 2, "tpe", seed=1))
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        Study.begin(tmp_path, read_space(parse(["optimizer.lr=interval(1,2)"])), SweepSettings("local", 2, "tpe"))


def test_a_search_is_one_tracked_run_whose_best_is_registered(tmp_path: Path) -> None:
    words = (LR, "data.batch_size=choice(2,4)", "compute.sweep.trials=3", "compute.sweep.register=best-net")
    done = run("train", *SEARCH, *words, cwd=tmp_path)
    assert done.code == 0, done.err
    scores = [json.loads((tmp_path / f"sweep/{n}/metrics.json").read_text())["miou"] for n in range(3)]
    best = scores.index(max(scores))
    first = done.out.split("The sweep, best first:")[1].splitlines()[1]
    assert first.endswith(f"sweep/{best}")
    assert f"mIoU {100 * scores[best]:5.2f} %" in first
    parents = {value for (value,) in query(tmp_path, "select value from tags where key = 'mlflow.parentRunId'")}
    assert len(parents) == 1
    tags = dict(query(tmp_path, f"select key, value from tags where run_uuid = '{parents.pop()}'"))
    run_id = json.loads((tmp_path / f"sweep/{best}/run.json").read_text())["tracking"]["run_id"]
    assert tags["best_run_id"] == run_id
    assert f"optimizer.lr={tags['sweep.best.optimizer.lr']}" in first
    version = dict(query(tmp_path, "select key, value from model_version_tags where name = 'best-net' and version = 1"))
    assert version["sweep.trials"] == "3"
    assert float(version["sweep.best_miou"]) == pytest.approx(scores[best], abs=1e-6)
    assert query(tmp_path, "select run_id from model_versions") == [(run_id,)]


def test_a_sweep_that_was_killed_goes_on(tmp_path: Path) -> None:
    words = [*SEARCH, "tracking=off", LR, "compute.sweep.trials=2", "trainer.max_epochs=40"]
    words.remove("tracking.system_metrics=false")
    process = subprocess.Popen(command("train", words), cwd=tmp_path, env=own_environment(), stdout=subprocess.DEVNULL)
    last = tmp_path / "sweep/1/checkpoints/last.ckpt"
    for _ in range(2000):
        if last.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert last.exists()
    assert not (tmp_path / "sweep/1/metrics.json").exists()
    earlier = (tmp_path / "sweep/0/metrics.json").stat().st_mtime_ns
    values = [trial.values for trial in Study(tmp_path / "sweep").trials()]
    done = run("train", *words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "1 of 2 trials have been run" in done.out
    assert (tmp_path / "sweep/0/metrics.json").stat().st_mtime_ns == earlier
    assert [trial.values for trial in Study(tmp_path / "sweep").trials()] == values
    rows = (tmp_path / "sweep/1/history.csv").read_text().splitlines()
    assert [float(row.split(",")[0]) for row in rows[1:]] == [float(epoch) for epoch in range(1, 41)]
    again = run("train", *words, cwd=tmp_path)
    assert again.code == 0, again.err
    assert "epoch" not in again.out.split("The sweep, best first:")[0]


@pytest.mark.parametrize("place", ["local", "local_ddp"])
def test_a_trial_that_falls_behind_ends_early(place: str, tmp_path: Path) -> None:
    words = ["optimizer.lr=0.02,1e-9", "trainer.max_epochs=5", "trainer.ema_decay=null", "data.clouds_per_scan=16"]
    words += [f"compute={place}", "model.sync_batchnorm=true"]
    words += ["compute.sweep.trials=2", "compute.sweep.sampling=random", "compute.sweep.seed=0"]
    words += ["compute.sweep.early_termination=median", "compute.sweep.spared=1", "compute.sweep.delay=0"]
    done = run("train", *SEARCH, *words, cwd=tmp_path)
    assert done.code == 0, done.err
    good, bad = Study(tmp_path / "sweep").trials()
    assert (good.values["optimizer.lr"], good.state) == ("0.02", "complete")
    assert (bad.values["optimizer.lr"], bad.state) == ("1e-09", "pruned")
    assert (tmp_path / "sweep/1/checkpoints/last.ckpt").is_file()
    assert (tmp_path / "sweep/1/bundle").is_dir()
    assert len((tmp_path / "sweep/1/history.csv").read_text().splitlines()) < 6
    assert "(ended after validation" in done.out.split("best first:")[1].splitlines()[2]
    marked = query(tmp_path, "select value from tags where key = 'pointseg.pruned'")
    assert len(marked) == 1
    assert marked[0][0].startswith("after validation ")


def test_a_trial_that_fails_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, calls = train.fit, []

    def sometimes(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise OutOfMemory("training does not fit into memory")
        return fit(*arguments, **named)

    monkeypatch.setattr(train, "fit", sometimes)
    done = run("train", *SEARCH, LR, "compute.sweep.trials=2", cwd=tmp_path)
    assert done.code == 1
    assert "1 of 2 trials failed (0)" in done.err
    assert "failed: training does not fit into memory" in done.out.split("best first:")[1].splitlines()[2]
    assert [trial.state for trial in Study(tmp_path / "sweep").trials()] == ["failed", "complete"]
    assert sorted(status for (status,) in query(tmp_path, "select status from runs")) == [
        "FAILED",
        "FAILED",
        "FINISHED",
    ]


def test_a_mistake_of_the_user_ends_the_search(tmp_path: Path) -> None:
    done = run("train", *SEARCH, "optimizer.lr=interval(-2,-1)", "compute.sweep.trials=3", cwd=tmp_path)
    assert "optimizer" in done.message
    assert not (tmp_path / "sweep/1").exists()


def test_optuna_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    message = run("train", *SEARCH, LR, "compute.sweep.trials=3", cwd=tmp_path).message
    assert "-c environments/constraints.txt -e '.[sweep]'" in message


def test_a_grid_says_its_best_as_well(tmp_path: Path) -> None:
    done = run("train", *SEARCH, "optimizer.lr=1e-3,1e-2", "compute.sweep.register=net", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Registered net version 1" in done.out
    assert {key for (key,) in query(tmp_path, "select key from tags")} >= {"best_run_id", "sweep.best.optimizer.lr"}


def test_the_best_run_is_registered_once_and_a_grid_keeps_off(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    words = (*SMALL, "trainer.max_epochs=1", "tracking.uri=sqlite:///runs.db", "hydra.sweep.dir=sweep")
    search = ("compute.sweep.trials=2", "compute.sweep.register=street", "optimizer.lr=interval(0.001,0.01)")
    for _ in range(2):
        done = run("train", "-m", *words, *search, cwd=tmp_path)
        assert done.code == 0, done.err
    assert "The best run is street version 1 already" in done.out
    client = MlflowClient(f"sqlite:///{tmp_path}/runs.db")
    assert len(client.search_model_versions("name='street'")) == 1
    message = run("train", "-m", *words, "optimizer.lr=0.1,0.2", cwd=tmp_path).message
    assert "the folder holds a search" in message
