"""Where a model lies in a container, what it is called, and which cores are its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointseg.core.errors import CheckpointError
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.prediction.output import model_identity
from pointseg.serving.azure_model import available_cores, find_bundle, model_of, threads_of_worker


@pytest.mark.parametrize("place", ["", "bundle", "run/bundle", "model/artifacts/bundle", "street/3/run/bundle"])
def test_a_bundle_is_found_within_the_folders(place: str, trained: TrainedModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "mounted" / place, trained)
    (tmp_path / "mounted" / "other").mkdir()
    assert find_bundle(tmp_path / "mounted") == tmp_path / "mounted" / place


@pytest.mark.parametrize(
    ("made", "named", "said"),
    [
        (["a", "b/c"], "", r"2 bundles \(a, b/c\)"),
        (["a/b/c/d/e"], "", "there is no bundle"),
        ([], "nowhere", "does not exist"),
    ],
)
def test_none_or_two_are_refused(made: list[str], named: str, said: str, trained: TrainedModel, tmp_path: Path) -> None:
    for place in made:
        save_bundle(tmp_path / place, trained)
    with pytest.raises(CheckpointError, match=said):
        find_bundle(tmp_path / named)


def test_no_folder_named() -> None:
    with pytest.raises(CheckpointError, match="AZUREML_MODEL_DIR"):
        find_bundle("")


def test_a_registered_model_has_its_name_and_version(trained: TrainedModel) -> None:
    identity = model_identity(trained)
    mounted = model_of(Path("/var/azureml-app/azureml-models/street/3/bundle"), trained)
    assert mounted == {"name": "street", "version": "3", "sha256": identity}
    assert model_of(Path("/models/street"), trained) == {
        "name": "PointNetSeg",
        "version": identity[:12],
        "sha256": identity,
    }


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({"cpu.max": "150000 100000"}, 1),
        ({"cpu.max": "300000 100000"}, 3),
        ({"cpu.max": "max 100000"}, 4),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 4),
    ],
)
def test_cores_within_a_container(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert available_cores(tmp_path) == cores


def test_threads_are_shared_between_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pointseg.serving.azure_model.available_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for workers, threads in (("1", 6), ("2", 3), ("9", 1)):
        monkeypatch.setenv("WORKER_COUNT", workers)
        assert threads_of_worker(99) == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert threads_of_worker(5) == 5
