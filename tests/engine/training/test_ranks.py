"""Two machines of two processes train as one process with the whole batch does; one that is killed ends the others."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_of_many import make_data

from pointseg.core.errors import ConfigError, JobFailed
from pointseg.core.ranks import Ranks, ranks_of_environment
from pointseg.engine.bundle import load_checkpoint
from pointseg.engine.evaluation import scored_scans
from pointseg.engine.predictor import Predictor
from pointseg.jobs import JobSpec, run_locally

HERE = Path(__file__).parent
BATCH = 8


def trained(folder: Path, nodes: int, processes: int, **variables: str) -> list[Any]:
    """What each process told."""
    folder.mkdir(exist_ok=True)
    size = str(BATCH // (nodes * processes))
    here = {"PYTHONPATH": str(HERE), **variables}
    spec = JobSpec("one_of_many", (str(folder), size), nodes=nodes, processes=processes, variables=here)
    assert run_locally(spec, folder / "ranks", threads=1) == 0
    return [json.loads((folder / f"told-{rank}.json").read_text()) for rank in range(spec.world)]


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The folder of two by two processes, and what each told."""
    folder = tmp_path_factory.mktemp("ranks") / "four"
    return folder, trained(folder, 2, 2)


@pytest.mark.slow
def test_two_by_two_processes_train_as_one(four: tuple[Path, list[Any]], tmp_path: Path) -> None:
    [alone] = trained(tmp_path / "one", 1, 1)
    together = four[1]
    assert len(alone["losses"]) == 12
    for told in together:
        # float32 rounds sums over 4 parts otherwise, which training amplifies from step to step
        np.testing.assert_allclose(told["losses"][:5], alone["losses"][:5], rtol=0, atol=1e-5)
        np.testing.assert_allclose(told["losses"], alone["losses"], rtol=0, atol=1e-3)
        assert told["losses"] == together[0]["losses"]


@pytest.mark.slow
def test_scores_of_many_processes_are_those_of_one(four: tuple[Path, list[Any]]) -> None:
    """Of 3 scans, so that one of the 4 processes has none."""
    folder, together = four
    predictor = Predictor(load_checkpoint(folder / "checkpoints/last.ckpt"))
    data = make_data(2)
    expected = sum(scan.confusion.numpy() for scan in scored_scans(predictor, data.source("val")))
    for told in together:
        assert np.array_equal(told["confusion"], expected)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_a_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    with pytest.raises(JobFailed, match=r"process 3 of the job ended by SIGKILL, and the 3 others were stopped"):
        trained(tmp_path / "run", 2, 2, KILLED_AFTER="8")
    assert time.monotonic() - began < 90
    assert (tmp_path / "run/checkpoints/last.ckpt").is_file()


def test_places_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert ranks_of_environment() == Ranks(0, 1, 0, 1)
    monkeypatch.setenv("RANK", "5")
    monkeypatch.setenv("WORLD_SIZE", "6")
    assert ranks_of_environment() == Ranks(5, 6, 5, 6)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert ranks_of_environment() == Ranks(5, 6, 1, 2)
    assert ranks_of_environment().nodes == 3


@pytest.mark.parametrize(
    "given",
    [
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "-1", "WORLD_SIZE": "2"},
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"},
        {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2"},
    ],
)
def test_places_that_contradict_each_other(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="contradict each other"):
        ranks_of_environment()


@pytest.mark.parametrize("key", ["nodes", "processes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_a_job_of_no_process(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"compute\.{key}"):
        JobSpec("pointseg.train", **{key: value})
