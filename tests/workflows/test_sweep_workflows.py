"""`workflows.sweep` and `workflows.search`: several trainings by one call, compared, gone on with, the best one registered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from recording_cluster import RecordingCluster

from pointseg import workflows
from pointseg.azure.backend import AzureML
from pointseg.core.errors import ConfigError, JobFailed
from pointseg.core.targets import target
from pointseg.jobs.study import Study
from pointseg.workflows import Choice, Real, SearchConfig, SweepConfig, TrackingConfig, TrainConfig, TrainerSettings

DATA: dict[str, Any] = {
    "scans": {"train": 2, "val": 1, "test": 1},
    "beams": 16,
    "azimuth_steps": 64,
    "points": 64,
    "clouds_per_scan": 16,
    "batch_size": 4,
}
MODEL = {"local_widths": [8, 8], "global_widths": [8, 16], "head_widths": [16, 8]}
BASE = TrainConfig(
    data=DATA,
    model=MODEL,
    trainer=TrainerSettings(max_epochs=3, accelerator="cpu", ema_decay=None),
    scheduler={"warmup_steps": 2},
    tracking=TrackingConfig(uri="off"),
)


def _config(folder: Path, file: str = "config.yaml") -> dict[str, Any]:
    return dict(yaml.safe_load((folder / file).read_text()))


def test_a_grid_is_trained_and_compared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    losses = [{"lovasz": 1.0}, {"cross_entropy": {"class_weighting": "none"}}]
    config = SweepConfig(BASE, grid={"loss": losses, "optimizer.lr": [0.02]}, folder=str(tmp_path / "sweep"))
    with caplog.at_level("INFO"):
        done = workflows.sweep(config)
    assert [_config(one.folder)["loss"] for one in done.outcomes] == losses
    assert [_config(one.folder)["optimizer"]["lr"] for one in done.outcomes] == [0.02, 0.02]
    scores = [json.loads((one.folder / "metrics.json").read_text())["miou"] for one in done.outcomes]
    assert [one.miou for one in done.outcomes] == scores
    assert done.best is not None
    assert done.best.miou == max(scores)
    assert set(done.best.values) == {"loss"}  # what all runs have in common does not set it apart
    table = caplog.text.split("The sweep, best first:")[1].splitlines()
    assert str(done.best.folder) in table[1]


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        ({}, "nothing to compare"),
        ({"seed": 3}, r"not a list of values: grid\.seed"),
        ({"sed": [1, 2]}, r"Did you mean seed\?"),
        ({"optimizer.lrr": [1, 2]}, r"Did you mean optimizer\.lr\?"),
        ({"optimizer.lr": [0.1, -1.0]}, r"-1\.0 is not positive: optimizer\.lr"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_first_run(
    grid: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=says):
        workflows.sweep(SweepConfig(BASE, grid=grid, folder=str(tmp_path / "sweep")))
    assert not (tmp_path / "sweep").exists()


def test_the_best_model_needs_a_registry() -> None:
    with pytest.raises(ConfigError, match="tracking is off"):
        workflows.sweep(SweepConfig(BASE, grid={"seed": [0, 1]}, register="street"))


def test_runs_go_to_the_place_that_compute_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Path]] = []

    def run(self: RecordingCluster, job: Any, folder: Path) -> int:
        asked.append((job.module, folder))
        assert (job.config["seed"], job.sweep.number) == (int(folder.name), int(folder.name))
        return 0 if folder.name == "0" else 4

    monkeypatch.setattr(RecordingCluster, "run", run)
    config = SweepConfig(BASE, grid={"seed": [0, 1]}, folder=str(tmp_path), compute=target(RecordingCluster))
    with pytest.raises(JobFailed, match="the training did not end well"):
        workflows.sweep(config)
    assert asked == [("pointseg.train", tmp_path / "0"), ("pointseg.train", tmp_path / "1")]


def test_each_run_of_a_grid_is_a_job_in_azure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    compute = target(AzureML, cluster="gpu-cluster", dry_run=True)
    with caplog.at_level("INFO"):
        done = workflows.sweep(
            SweepConfig(BASE, grid={"seed": [0, 1]}, folder=str(tmp_path / "night"), compute=compute)
        )
    assert (done.outcomes, done.best) == ((), None)
    assert caplog.text.count("az ml job create -f") == 2
    assert [_config(tmp_path / f"night/{number}/job/code")["seed"] for number in (0, 1)] == [0, 1]


# ---- a search ------------------------------------------------------------------------------------------------------


def test_a_search_goes_on_in_its_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("optuna")
    space = [Real("optimizer.lr", 1e-4, 1e-2, log=True), Choice("data.batch_size", (2, 4))]
    folder = str(tmp_path / "search")
    first = workflows.search(SearchConfig(BASE, space=space, trials=1, folder=folder, seed=3))
    kept = (tmp_path / "search/0/metrics.json").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        done = workflows.search(SearchConfig(BASE, space=space, trials=2, folder=folder, seed=3))
    assert "1 of 2 trials have been run" in caplog.text
    assert (tmp_path / "search/0/metrics.json").stat().st_mtime_ns == kept
    assert done.trials[0] == first.trials[0]
    for number, trial in enumerate(done.trials):
        config = _config(tmp_path / f"search/{number}")
        assert config["data"]["batch_size"] == trial.values["data.batch_size"]
        assert config["optimizer"]["lr"] == pytest.approx(trial.values["optimizer.lr"])
    assert done.best is not None
    assert done.best.miou == max(trial.miou or 0.0 for trial in done.trials)
    with pytest.raises(ConfigError, match=r"a sweep with other settings \(seed\)"):
        workflows.search(SearchConfig(workflows.TrainConfig(**{**vars(BASE), "seed": 1}), space, 3, folder, seed=3))
    with pytest.raises(ConfigError, match="the folder holds a search"):
        workflows.sweep(SweepConfig(BASE, grid={"seed": [0, 1]}, folder=folder))


def test_what_fails_before_a_trial_has_begun_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(RecordingCluster, "run", lambda self, job, folder: 4)
    search = SearchConfig(BASE, [Choice("seed", (0, 1))], 2, str(tmp_path), compute=target(RecordingCluster))
    with pytest.raises(JobFailed, match="the training did not end well"):
        workflows.search(search)
    assert [trial.state for trial in Study(tmp_path).trials()] == ["running"]


def test_a_trial_that_fails_is_noted_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")

    def run(self: RecordingCluster, job: Any, folder: Path) -> int:
        folder.mkdir()
        (folder / "config.yaml").write_text("seed: 0")
        return 4

    monkeypatch.setattr(RecordingCluster, "run", run)
    search = SearchConfig(BASE, [Choice("seed", (0, 1))], 2, str(tmp_path), compute=target(RecordingCluster))
    with pytest.raises(JobFailed, match=r"2 of 2 trials failed \(0, 1\)"):
        workflows.search(search)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"space": []}, "nothing to search"),
        ({"space": [Choice("sed", (1, 2))]}, r"Did you mean seed\?"),
        ({"trials": 9}, "9 trials of only 2 combinations"),
        ({"sampling": "bayesian"}, r"known to compute=aml_\* only"),
        ({"trials": 0}, r"compute\.sweep\.trials"),
    ],
)
def test_what_cannot_be_searched(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    plain = {"space": [Choice("seed", (0, 1))], "trials": 2, "folder": str(tmp_path / "search")}
    with pytest.raises(ConfigError, match=says):
        workflows.search(SearchConfig(BASE, **{**plain, **settings}))
    assert not (tmp_path / "search").exists()


def test_a_search_is_one_job_in_azure(tmp_path: Path) -> None:
    space = [Real("optimizer.lr", 1e-4, 1e-2, log=True), Choice("data.batch_size", (2, 4))]
    compute = target(AzureML, cluster="gpu-cluster", dry_run=True)
    done = workflows.search(
        SearchConfig(BASE, space=space, trials=4, folder=str(tmp_path), compute=compute, parallel=2)
    )
    job = _config(tmp_path, "job/job.yaml")
    assert done.best is None
    assert job["type"] == "sweep"
    assert job["sampling_algorithm"] == {"type": "random", "rule": "random", "seed": 0}
    assert job["search_space"]["data_batch_size"] == {"type": "choice", "values": ["2", "4"]}
    assert '"data.batch_size=${{search_space.data_batch_size}}"' in job["trial"]["command"]
    assert job["limits"] == {"max_total_trials": 4, "max_concurrent_trials": 2}
