"""`workflows.pipeline`: a chain by one typed call, checked as a whole, run here or written as one job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_sweep_workflows import BASE

from pointseg import workflows
from pointseg.azure.backend import AzureML
from pointseg.core.errors import ConfigError, ProcessFailed
from pointseg.core.targets import target
from pointseg.jobs.local import LocalProcesses
from pointseg.workflows import (
    EvaluateConfig,
    GateConfig,
    PipelineConfig,
    PrepareConfig,
    RegisterConfig,
    SyntheticConfig,
    TrackingConfig,
    TrainConfig,
)
from pointseg.workflows.pipelines.chain import build_pipeline
from pointseg.workflows.pipelines.record import Record

WORLD = PrepareConfig(synthetic=SyntheticConfig(scans=11, beams=16, azimuth_steps=64))
# the data are those that prepare makes
TRAIN = replace(BASE, data={"points": 64, "clouds_per_scan": 4, "batch_size": 4}, tracking=TrackingConfig())
CHAIN = PipelineConfig(prepare=WORLD, train=TRAIN, tracking=TrackingConfig(uri="sqlite:///runs.db"))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": ["prepair"]}, "Did you mean 'prepare'"),
        ({"steps": ["evaluate"]}, "no step makes a model"),
        ({"checkpoint": "run"}, "the model comes from the step train"),
        ({"steps": ["prepare"], "gate": GateConfig(miou=0.5)}, "a gate stands before register"),
        ({"gate": GateConfig(miou=50.0)}, r"register: .*gate\.miou"),
        ({"prepare": PrepareConfig(output="x")}, "prepare: the pipeline sets this itself: output"),
        ({"train": TrainConfig(optimizer={"lrr": 1.0})}, r"train: unknown key optimizer\.lrr"),
        ({"evaluate": EvaluateConfig(split="training")}, "evaluate: there is no split 'training'"),
        ({"register": RegisterConfig(name="a b")}, "register: .*'a b'"),
        ({"input": "azureml:kitti:1", "prepare": PrepareConfig()}, "an address in Azure is read by a job there"),
        ({"publish": "nightly"}, "publish is of pipelines in Azure"),
    ],
)
def test_the_whole_chain_is_checked_before_it_begins(settings: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        workflows.pipeline(replace(CHAIN, **settings), folder=tmp_path / "chain")
    assert not (tmp_path / "chain").exists()


def test_each_step_reads_what_an_earlier_one_writes() -> None:
    steps = {step.name: step for step in build_pipeline(CHAIN).steps}
    assert {name: sorted(step.wires) for name, step in steps.items()} == {
        "prepare": [],
        "train": ["data_root"],
        "evaluate": ["checkpoint", "data_root"],
        "register": ["run", "scores"],
    }
    told = {name: step.spec.config or {} for name, step in steps.items()}
    assert told["prepare"]["format"] == "packed"
    assert told["train"]["data"]["_target_"] == "pointseg.data.SemanticKITTIDataModule"
    assert (told["train"]["data"]["points"], told["train"]["data"]["root"]) == (64, None)
    assert {told[name]["tracking"]["uri"] for name in ("train", "evaluate", "register")} == {"sqlite:///runs.db"}


def test_a_step_may_be_tracked_elsewhere() -> None:
    other = replace(CHAIN, evaluate=EvaluateConfig(tracking=TrackingConfig(uri="http://tracked")))
    told = {step.name: (step.spec.config or {})["tracking"]["uri"] for step in build_pipeline(other).steps[1:]}
    assert told == {"train": "sqlite:///runs.db", "evaluate": "http://tracked", "register": "sqlite:///runs.db"}


def test_the_training_takes_the_processes_of_its_place() -> None:
    pipeline = build_pipeline(CHAIN, LocalProcesses(processes=3))
    assert {step.name: step.spec.world for step in pipeline.steps} == {
        "prepare": 1,
        "train": 3,
        "evaluate": 1,
        "register": 1,
    }


def test_a_pipeline_is_written_as_one_job(tmp_path: Path) -> None:
    compute = target(AzureML, cluster="gpu-cluster", dry_run=True)
    config = replace(
        CHAIN, compute=compute, tracking=TrackingConfig(), gate=GateConfig(miou=0.25), light_cluster="cpu-cluster"
    )
    done = workflows.pipeline(config, folder=tmp_path / "chain")
    assert (done.steps, done.job) == ((), None)
    content = yaml.safe_load((tmp_path / "chain/pipeline/pipeline.yaml").read_text())
    assert content["inputs"] == {"gate_miou": 0.25}
    assert content["jobs"]["register"]["inputs"]["scores"] == "${{parent.jobs.evaluate.outputs.run}}"
    assert content["jobs"]["evaluate"]["compute"] == "azureml:cpu-cluster"


@pytest.mark.slow
def test_a_chain_runs_is_stopped_by_the_gate_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is a process of its own, which takes seconds to start."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProcessFailed) as held:
        workflows.pipeline(replace(CHAIN, gate=GateConfig(miou=0.99)), folder="chain")
    assert held.value.exit_code == 3
    done = workflows.pipeline(CHAIN, folder="chain")
    assert [(step.name, step.state) for step in done.steps] == [
        ("prepare", "kept"),
        ("train", "kept"),
        ("evaluate", "kept"),
        ("register", "done"),
    ]
    assert (done.steps[3].folder / "registration.json").is_file()
    assert Record(tmp_path / "chain", "local").content["steps"]["train"]["state"] == "done"
