"""A place of the user's own where jobs run: a class and an option of the group compute, nothing of ours changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from verbs import SMALL, run, succeed

OPTION = """
_target_: recording_cluster.RecordingCluster
name: cluster
partition: short
nodes: 1
processes: 1
"""


@pytest.fixture
def conf(tmp_path: Path) -> list[str]:
    """The words by which the option is found."""
    (tmp_path / "conf/compute").mkdir(parents=True)
    (tmp_path / "conf/compute/cluster.yaml").write_text(OPTION)
    return ["--config-dir", str(tmp_path / "conf"), "compute=cluster"]


def test_a_training_runs_there_and_leaves_its_folder_here(conf: list[str], tmp_path: Path) -> None:
    words = [*conf, "compute.partition=long", *SMALL, "tracking=off", "hydra.run.dir=run", "seed=4"]
    succeed(run("train", *words, cwd=tmp_path, PYTHONPATH=_paths()))
    call = (tmp_path / "calls.txt").read_text()
    assert "-m pointseg.train --config-dir" in call
    assert "seed" not in call  # it is in the file that goes along
    recorded = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (recorded["seed"], recorded["compute"]["partition"]) == (4, "long")
    assert json.loads((tmp_path / "run/metrics.json").read_text())["scans"] == 1


def test_the_steps_of_a_pipeline_run_there_too(conf: list[str], tmp_path: Path) -> None:
    words = [*conf, "steps=[prepare]", "synthetic.scans=1", "synthetic.beams=16", "synthetic.azimuth_steps=64"]
    succeed(run("pipeline", *words, "hydra.run.dir=chain", cwd=tmp_path, PYTHONPATH=_paths()))
    assert "-m pointseg.prepare --config-dir" in (tmp_path / "calls.txt").read_text()
    assert (tmp_path / "chain/prepare/store/store.json").is_file()


def test_its_exit_code_is_the_commands(conf: list[str], tmp_path: Path) -> None:
    done = run("evaluate", *conf, "checkpoint=nowhere", cwd=tmp_path, PYTHONPATH=_paths())
    assert done.code == 1
    assert (tmp_path / "calls.txt").is_file()


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("compute.partitoin=x", "Did you mean compute.partition?"),
        ("compute._target_=json.JSONDecoder", "is no place where jobs run"),
        ("compute._target_=recording_cluster.Recording", "has no Recording"),
    ],
)
def test_what_is_refused(conf: list[str], word: str, says: str, tmp_path: Path) -> None:
    assert says in run("train", *conf, *SMALL, word, cwd=tmp_path).message


def _paths() -> str:
    support = Path(__file__).parents[1] / "support"
    return f"{support.parents[1]}:{support}"
