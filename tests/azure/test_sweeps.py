"""Sweeps in Azure ML: one sweep job for a search, a job for each run of a grid, submitted by the real SDK and really run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from azure_helpers import press_ctrl_c
from verbs import SMALL_MODEL, run

from pointseg.engine.bundle import load
from pointseg.jobs.spec import JobSpec
from pointseg.workflows.sweeps.runs import Submissions

pytestmark = [pytest.mark.azure, pytest.mark.slow]

QUICK = ("-m", "+experiment=quick", "compute=aml_cpu", *SMALL_MODEL)
LR = "optimizer.lr=tag(log, interval(1e-4,1e-2))"


def test_a_search_is_one_sweep_job(azure: Any, cluster: str, here: Path) -> None:
    words = (LR, "data.points=int(interval(64,512))", "seed=1,2", "scheduler.warmup_steps=range(1,9,2)")
    more = (
        "compute.sweep.trials=20",
        "compute.sweep.early_termination=bandit",
        "compute.seconds=7200",
        "compute.shm=4g",
    )
    done = run("train", *QUICK, *words, *more, cwd=here)
    assert done.code == 0, done.err
    assert "https://ml.azure.com/runs/" in done.out
    body = azure.calls.body("PUT jobs/.*")
    assert body["jobType"] == "Sweep"
    assert body["objective"] == {"goal": "maximize", "primaryMetric": "val/miou"}
    assert body["limits"] == {
        "jobLimitsType": "Sweep",
        "maxTotalTrials": 20,
        "maxConcurrentTrials": 4,
        "timeout": "PT2H",
    }
    looks = {"delayEvaluation": 5, "evaluationInterval": 1}
    assert body["earlyTermination"].items() >= {"policyType": "Bandit", "slackFactor": 0.1, **looks}.items()
    space = body["searchSpace"]
    assert space["seed"] == ["choice", [["1", "2"]]]
    assert space["scheduler_warmup_steps"] == ["choice", [["1", "3", "5", "7"]]]
    assert space["data_points"] == ["quniform", [64, 512, 1]]
    assert space["optimizer_lr"][0] == "loguniform"
    assert space["optimizer_lr"][1] == pytest.approx([-9.2103, -4.6052], abs=1e-3)
    assert '"optimizer.lr=${{search_space.optimizer_lr}}"' in body["trial"]["command"]
    assert body["trial"]["resources"]["shmSize"] == "4g"
    assert body["computeId"].endswith(f"/computes/{cluster}")


@pytest.mark.parametrize(("sampling", "kind"), [("bayesian", "Bayesian"), ("grid", "Grid"), ("sobol", "Random")])
def test_every_sampling_is_taken(azure: Any, cluster: str, here: Path, sampling: str, kind: str) -> None:
    words = ("optimizer.lr=1e-3,1e-2", "compute.sweep.trials=2", f"compute.sweep.sampling={sampling}")
    assert run("train", *QUICK, *words, cwd=here).code == 0
    assert azure.calls.body("PUT jobs/.*")["samplingAlgorithm"]["samplingAlgorithmType"] == kind


@pytest.mark.parametrize(("policy", "kind"), [("median", "MedianStopping"), ("truncation", "TruncationSelection")])
def test_every_early_termination_is_taken(azure: Any, cluster: str, here: Path, policy: str, kind: str) -> None:
    words = ("optimizer.lr=1e-3,1e-2", "compute.sweep.trials=2", f"compute.sweep.early_termination={policy}")
    assert run("train", *QUICK, *words, cwd=here).code == 0
    assert azure.calls.body("PUT jobs/.*")["earlyTermination"]["policyType"] == kind


def test_trials_run_there_and_the_best_comes_back(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = (LR, "data.points=int(interval(64,128))", "compute.sweep.trials=2", "compute.sweep.register=best-net")
    words += ("azure.auth=cli",)
    done = run("train", *QUICK, *words, "compute.wait=true", "hydra.sweep.dir=sweep", cwd=here)
    assert done.code == 0, done.err
    name = azure.calls.one("PUT jobs/.*").path.rsplit("/", 1)[-1]
    runs = [azure.tracking.runs[f"{name}_{number}"] for number in range(2)]
    scores = [max(m["value"] for m in one["metrics"] if m["key"] == "val/miou") for one in runs]
    best = scores.index(max(scores))
    assert f"The best of 2 trials is {name}_{best}:" in done.out
    assert "Registered best-net version 1" in done.out
    tracked = runs[best]["params"]
    assert load(here / "sweep").provenance["seed"] == 0
    miou = json.loads((here / "sweep/metrics.json").read_text())["miou"]
    assert miou == pytest.approx(scores[best], abs=1e-6)
    assert f"optimizer.lr={tracked['optimizer.lr']}" in done.out
    assert len({one["params"]["optimizer.lr"] for one in runs}) == 2
    assert 64 <= int(tracked["data.points"]) <= 128


def test_no_trial_comes_to_a_score(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = ("data.azimuth_steps=1,2", "compute.sweep.trials=1", "compute.wait=true", "hydra.sweep.dir=sweep")
    assert "no trial of the sweep has come to a score" in run("train", *QUICK, *words, cwd=here).message


def test_the_jobs_of_a_grid_are_grouped_and_named(azure: Any, cluster: str, here: Path) -> None:
    done = run("train", *QUICK, "seed=0,1", "hydra.sweep.dir=night", "compute.tags.team=perception", cwd=here)
    assert done.code == 0, done.err
    calls = azure.calls.matching("PUT jobs/.*")
    bodies = [call.body["properties"] for call in calls]
    assert [body["displayName"] for body in bodies] == ["night-0", "night-1"]
    assert [body["tags"] for body in bodies] == [
        {"team": "perception", "pointseg.sweep": "night", "pointseg.sweep_number": str(number)} for number in range(2)
    ]
    said = done.out.split("The jobs of this sweep:")[1]
    assert all(call.path.rsplit("/", 1)[-1] in said for call in calls)


def test_a_password_is_not_said_with_the_jobs(caplog: pytest.LogCaptureFixture) -> None:
    given = [{"seed": "0", "x": "https://me:open-sesame@host"}, {"seed": "1", "x": "https://me:open-sesame@elsewhere"}]
    job = JobSpec("pointseg.train")
    with caplog.at_level("INFO"):
        Submissions([(f"job{number}", job, values, Path("night")) for number, values in enumerate(given)]).say()
    said = caplog.text
    assert "job1  seed=1 x=https://***@elsewhere" in said
    assert "open-sesame" not in said


def test_what_was_submitted_is_said_when_a_later_one_is_refused(azure: Any, cluster: str, here: Path) -> None:
    first = run("train", *QUICK, "seed=0,1", "hydra.sweep.dir=first", cwd=here)
    assert first.code == 0
    azure.calls.clear()
    azure.faults.add("PUT jobs/.*", 403, after=1)
    done = run("train", *QUICK, "seed=0,1", "hydra.sweep.dir=second", cwd=here)
    assert done.code == 1
    assert "AzureML Data Scientist" in done.err
    assert (
        azure.calls.matching("PUT jobs/.*")[0].path.rsplit("/", 1)[-1] in done.out.split("The jobs of this sweep:")[1]
    )


def test_a_grid_is_submitted_whole_and_then_waited_for(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = ("data.azimuth_steps=1,64", "compute.wait=true", "hydra.sweep.dir=night")
    done = run("train", *QUICK, *words, cwd=here)
    assert done.code == 1
    assert "1 of 2 jobs did not end well" in done.err
    assert (here / "night/1/bundle").is_dir()
    table = done.out.split("The sweep, best first:")[1].splitlines()
    assert "data.azimuth_steps=64" in table[1]
    assert "(failed)" in table[2]


def test_ctrl_c_while_a_grid_is_waited_for_cancels_what_can_be_cancelled(
    azure: Any, cluster: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    azure.jobs.script("*", *["Running"] * 50)
    azure.faults.add("POST jobs/.*/cancel", 409, times=1)
    press_ctrl_c(monkeypatch)
    monkeypatch.setattr(
        "pointseg.cli.console._answer", lambda question: "y" if "the 2 jobs that were not" in question else ""
    )
    done = run("train", *QUICK, "seed=0,1", "compute.wait=true", "hydra.sweep.dir=stopped", cwd=here)
    assert done.code == 130, done.err
    assert done.out.count("Following ") == 1
    assert "cancelling the job: Azure answered 409" in done.out + done.err
    assert "The others are cancelled." in done.out
    assert len(azure.calls.matching("POST jobs/.*/cancel")) == 2
