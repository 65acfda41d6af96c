"""What `resume=` and `rerun=` keep, change and refuse."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from verbs import (
    KITTI_SPLIT,
    SMALL,
    SMALL_TRAINING,
    empty_database,
    kitti_folder,
    run,
    spawn,
    succeed,
    trained_run,
)

from pointseg.core.errors import CheckpointError
from pointseg.core.package import FOLDER
from pointseg.engine.training.run_folder import RunFolder, code_differences, code_state


@pytest.fixture
def run_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run of two epochs."""
    return Path(shutil.copytree(trained_run(tmp_path_factory), tmp_path / "run"))


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".log"
    }


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = checkpoint(one)["state_dict"], checkpoint(other)["state_dict"]
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_run_folder_holds_what_it_promises(run_folder: Path) -> None:
    names = {str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if path.is_file()}
    assert {
        "config.yaml",
        "run.json",
        "train.log",
        "metrics.json",
        "bundle/model.yaml",
        "bundle/weights.safetensors",
    } <= names
    assert {name for name in names if name.startswith("checkpoints/")} == {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
    }
    assert sum(name.startswith("figures/") for name in names) == 2
    described = RunFolder(run_folder).describe()
    assert described["verb"] == "train"
    assert described["code"]["files"]


def test_last_is_the_last_epoch_and_best_one_of_them(run_folder: Path) -> None:
    assert checkpoint(run_folder)["epoch"] == 1
    assert checkpoint(run_folder, "best")["epoch"] in (0, 1)


def test_more_epochs_go_on_from_the_last(run_folder: Path, tmp_path: Path) -> None:
    done = succeed(run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path))
    assert "epoch 3/3" in done.out
    assert "epoch 2/3" not in done.out
    assert checkpoint(run_folder)["epoch"] == 2
    assert "max_epochs: 3" in (run_folder / "config.yaml").read_text()


def test_a_finished_run_that_is_resumed_stays_what_it_is(run_folder: Path, tmp_path: Path) -> None:
    before = checkpoint(run_folder), (run_folder / "metrics.json").read_bytes()
    succeed(run("train", "resume=run", cwd=tmp_path))
    assert checkpoint(run_folder)["global_step"] == before[0]["global_step"]
    assert (run_folder / "metrics.json").read_bytes() == before[1]


def test_auto_begins_a_run_and_goes_on_with_it(tmp_path: Path) -> None:
    words = ("+experiment=quick", *SMALL, "tracking=off", "hydra.run.dir=run", "resume=auto")
    began = succeed(run("train", *words, cwd=tmp_path))
    assert "epoch 1/2" in began.out
    again = succeed(run("train", *words, "trainer.max_epochs=3", cwd=tmp_path))
    assert "Going on with the run in" in again.out
    assert "epoch 3/3" in again.out
    assert "epoch 2/3" not in again.out


def test_auto_needs_a_folder(run_folder: Path, tmp_path: Path) -> None:
    assert "hydra.run.dir=DIR" in run("train", *SMALL, "resume=auto", cwd=tmp_path).message


@pytest.mark.slow
def test_auto_leaves_a_checkpoint_that_was_cut_off(run_folder: Path, tmp_path: Path) -> None:
    words = (*SMALL, "tracking=off", "hydra.run.dir=run", "resume=auto", "trainer.max_epochs=3")
    last = run_folder / "checkpoints/last.ckpt"
    last.write_bytes(last.read_bytes()[:2000])
    done = succeed(run("train", *words, cwd=tmp_path))
    assert "last.ckpt" in done.out
    assert "resuming from best.ckpt" in done.out
    assert checkpoint(run_folder)["epoch"] == 2
    for name in ("best", "last"):
        (run_folder / f"checkpoints/{name}.ckpt").write_bytes(b"PK cut off")
    assert "last.ckpt" in run("train", *words, cwd=tmp_path).message


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["model.head_widths=[8,8]"], "head_widths"),
        (["features.use=[x,y,z]"], "features"),
        (["data.labels=other.yaml"], "label map"),
        (["+experiment=quick"], "experiment"),
        (["data=semantickitti", "data.root=nowhere"], "nowhere"),
        (["trainer.max_epochs=0"], "trainer.max_epochs"),
        (["optimizer.lr=0.5"], "optimizer.lr=0.5"),
        (["optimizer.weight_decay=0.5"], "keeps the value of its checkpoint"),
        (["hydra.run.dir=elsewhere"], "hydra.run.dir"),
        (["-m"], "-m"),
        (["tracking.uri=http://127.0.0.1:9"], "127.0.0.1"),
    ],
)
def test_a_resume_that_is_refused_changes_nothing(
    words: list[str], named: str, run_folder: Path, tmp_path: Path
) -> None:
    shipped = (FOLDER / "core" / "label_maps" / "semantickitti.yaml").read_text()
    (tmp_path / "other.yaml").write_text(shipped.replace("[car, ", "[auto, "))
    before = hashes(run_folder)
    message = run("train", "resume=run", *words, cwd=tmp_path, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0").message
    assert named in message
    assert hashes(run_folder) == before


def test_the_configuration_is_not_replaced_before_the_first_new_checkpoint(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pointseg.engine.segmentation_module import SegmentationModule

    def out_of_memory(*_: Any) -> None:
        raise torch.OutOfMemoryError("cannot allocate")

    monkeypatch.setattr(SegmentationModule, "training_step", out_of_memory)
    before = hashes(run_folder)
    message = run("train", "resume=run", "trainer.max_epochs=3", "optimizer.gradient_clip=0.5", cwd=tmp_path).message
    assert "data.batch_size" in message
    assert "data.points" in message
    assert hashes(run_folder) == before


def test_a_folder_without_last_checkpoint_is_refused(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "checkpoints" / "last.ckpt").unlink()
    message = run("train", "resume=run", cwd=tmp_path).message
    assert "last.ckpt" in message
    assert "rerun=run" in message
    with pytest.raises(CheckpointError, match="rerun="):
        RunFolder.existing(run_folder, "resume", resumable=True)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


@pytest.mark.parametrize("damage", ["a bit", "cut off", "empty", "zeros"])
def test_a_damaged_last_checkpoint_is_named_and_the_one_before_taken(
    damage: str, run_folder: Path, tmp_path: Path
) -> None:
    last = run_folder / "checkpoints" / "last.ckpt"
    size = last.stat().st_size
    if damage == "a bit":
        flip_a_bit(last)
    else:
        last.write_bytes({"cut off": last.read_bytes()[: size // 2], "empty": b"", "zeros": bytes(size)}[damage])
    done = succeed(run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path))
    said = done.out + done.err
    assert "last.ckpt" in said
    assert "resuming from best.ckpt" in said
    assert checkpoint(run_folder)["epoch"] == 2


def test_without_a_whole_checkpoint_nothing_begins(run_folder: Path, tmp_path: Path) -> None:
    for name in ("last", "best"):
        flip_a_bit(run_folder / "checkpoints" / f"{name}.ckpt")
    before = hashes(run_folder)
    message = run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path).message
    assert "damaged" in message
    assert hashes(run_folder) == before


def test_last_checkpoint_that_brings_code_is_refused(run_folder: Path, tmp_path: Path) -> None:
    class Malicious:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({**checkpoint(run_folder), "bomb": Malicious()}, run_folder / "checkpoints" / "last.ckpt")
    message = run("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path).message
    assert "last.ckpt" in message
    assert not (tmp_path / "ran").exists()


def test_rerun_gives_the_same_weights_and_tells_changed_code(run_folder: Path, tmp_path: Path) -> None:
    done = succeed(run("train", "rerun=run", "hydra.run.dir=again", cwd=tmp_path))
    assert "the code is the same" in done.out
    assert_same_weights(run_folder, tmp_path / "again")
    assert (run_folder / "config.yaml").read_text() == (tmp_path / "again" / "config.yaml").read_text()

    record = json.loads((run_folder / "run.json").read_text())
    record["code"]["files"]["train.py"] = "0"
    (run_folder / "run.json").write_text(json.dumps(record))
    done = succeed(run("train", "rerun=run", "trainer.max_epochs=1", cwd=tmp_path))
    assert "not the same" in done.out
    assert "1 source files differ: train.py" in done.out


def test_a_second_run_into_the_same_folder_is_refused(run_folder: Path, tmp_path: Path) -> None:
    before = hashes(run_folder)
    message = run("train", *SMALL, "tracking=off", "hydra.run.dir=run", cwd=tmp_path).message
    assert "hydra.run.dir" in message
    assert "resume=" in message
    assert hashes(run_folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["quick", "kitti"])
def test_every_experiment_resumes_without_running_code(
    experiment: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = [f"+experiment={experiment}", *SMALL_TRAINING, "tracking=off", "hydra.run.dir=run", "trainer.max_epochs=1"]
    if experiment == "kitti":
        words += [f"data.root={kitti_folder(tmp_path_factory)}", *KITTI_SPLIT]
    else:
        words += ["data.azimuth_steps=64"]
    succeed(run("train", *words, cwd=tmp_path))
    for name in ("best", "last"):
        assert checkpoint(tmp_path / "run", name)["pointseg"]["format"] == 1  # read with weights_only
    succeed(run("train", "resume=run", "trainer.max_epochs=2", cwd=tmp_path))
    assert checkpoint(tmp_path / "run")["epoch"] == 1


def test_a_resumed_run_is_the_same_tracked_run_with_its_changes_as_tags(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "mlruns.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    words = [*SMALL, "trainer.max_epochs=1", "tracking.system_metrics=false", "hydra.run.dir=run"]
    succeed(run("train", *words, cwd=tmp_path))
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    first = RunFolder(tmp_path / "run").describe()["tracking"]["run_id"]
    assert "uri: auto" in (tmp_path / "run" / "config.yaml").read_text()

    elsewhere = tmp_path / "elsewhere"  # the database is the run's, not one in the folder of this command
    elsewhere.mkdir()
    succeed(run("train", "resume=../run", "trainer.max_epochs=2", "optimizer.gradient_clip=2.5", cwd=elsewhere))
    found = client.get_run(first)
    assert found.info.status == "FINISHED"
    assert found.data.tags["param_changed.trainer.gradient_clip_val"] == "2.5"
    assert found.data.tags["param_changed.trainer.max_epochs"] == "2"
    assert not [tag for tag in found.data.tags if tag.startswith("param_changed.resume")]
    assert found.data.params["trainer.max_epochs"] == "1"
    experiment = client.get_experiment_by_name("pointnet-semseg")
    assert [each.info.run_id for each in client.search_runs([experiment.experiment_id])] == [first]
    assert len(client.get_metric_history(first, "val/miou")) == 2
    assert not (elsewhere / "mlruns.db").exists()
    artifacts = {file.path for file in client.list_artifacts(first)}
    assert {"config.yaml", "metrics.json", "figures", "bundle", "checkpoints"} <= artifacts
    assert {"val/miou", "val/iou/road", "train/loss", "train/lr", "train/points_per_s"} <= set(found.data.metrics)
    assert "git_commit" in found.data.tags


def test_code_states_are_compared_by_file() -> None:
    now = code_state()
    assert code_differences(now, now) == []
    files = {**now["files"], "new.py": "1"}
    (line,) = code_differences({**now, "files": files}, now)
    assert line == "1 source files differ: new.py"


@pytest.mark.slow
def test_a_real_process_resumes(run_folder: Path, tmp_path: Path) -> None:
    succeed(spawn("train", "resume=run", "trainer.max_epochs=3", cwd=tmp_path))
    assert checkpoint(run_folder)["epoch"] == 2


# ---- who else uses it ----------------------------------------------------------------------------------------------


def test_two_trainings_in_one_folder_are_refused(run_folder: Path) -> None:
    before = hashes(run_folder)
    with RunFolder(run_folder).claimed():
        done = run("train", f"resume={run_folder}", "trainer.max_epochs=3", cwd=run_folder.parent)
    assert f"another training runs in this folder: hydra.run.dir={run_folder}" in done.message
    assert hashes(run_folder) == before


def test_a_folder_is_free_after_a_training_that_failed(run_folder: Path) -> None:
    folder = RunFolder(run_folder)
    with pytest.raises(ZeroDivisionError), folder.claimed():
        raise ZeroDivisionError
    with folder.claimed():
        pass
    assert not [path for path in run_folder.iterdir() if path.name.startswith(".")]


def test_what_a_killed_run_left_half_written_is_removed(run_folder: Path) -> None:
    left = run_folder / "checkpoints" / ".last.ckpt.0123abcd.tmp", run_folder / ".bundle.0123abcd.tmp"
    left[0].write_bytes(bytes(100))
    left[1].mkdir()
    succeed(run("train", f"resume={run_folder}", "trainer.max_epochs=3", cwd=run_folder.parent))
    assert not [path for path in left if path.exists()]
