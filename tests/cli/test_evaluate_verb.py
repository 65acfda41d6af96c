"""`python -m pointseg.evaluate`: one score, whatever names the checkpoint."""

from __future__ import annotations

import json
import math
import pickle
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from verbs import KITTI_SPLIT, SMALL, kitti_folder, run, succeed, trained_run

from pointseg.core.labels import LabelMap

THREE = {
    "name": "three",
    "classes": [[40, 44, 48, 49, 60], [50, 51, 52], [70, 71, 72]],
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory)


def scores(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return content


def write_three_classes(path: Path, shipped: LabelMap) -> Path:
    used = {raw for group in THREE["classes"] for raw in group}  # type: ignore[union-attr]
    labels = {raw: [name, list(color)] for raw, (name, color) in shipped.labels.items()}
    path.write_text(yaml.safe_dump({**THREE, "labels": labels, "ignored": sorted(set(labels) - used)}))
    return path


def test_the_runs_own_metrics_have_the_contracted_keys(run_folder: Path, kitti_map: LabelMap) -> None:
    found = scores(run_folder)
    assert {"miou", "miou_present", "classes_present", "accuracy", "iou", "support", "points", "scans"} <= set(found)
    assert list(found["iou"]) == list(kitti_map.class_names)
    assert list(found["support"]) == list(kitti_map.class_names)
    assert sum(found["support"].values()) == found["points"]
    present = sum(1 for value in found["support"].values() if value)
    assert found["classes_present"] >= present > 3
    assert math.isclose(found["miou"], sum(found["iou"].values()) / len(found["iou"]), abs_tol=1e-9)
    assert 0 <= found["accuracy"] <= 1
    assert found["scans"] == 1


@pytest.mark.parametrize("named", ["", "checkpoints/best.ckpt", "bundle"])
def test_run_folder_checkpoint_and_bundle_score_the_same(named: str, run_folder: Path, tmp_path: Path) -> None:
    done = succeed(run("evaluate", f"checkpoint={run_folder / named}", "output=scores", cwd=tmp_path))
    assert scores(tmp_path / "scores") == scores(run_folder)
    assert str(tmp_path / "scores" / "metrics.json") in done.out or "scores/metrics.json" in done.out
    assert "mIoU" in done.out
    assert {path.name for path in (tmp_path / "scores" / "figures").iterdir()} == {
        path.name for path in (run_folder / "figures").iterdir()
    }


def test_the_last_checkpoint_can_be_scored(run_folder: Path, tmp_path: Path) -> None:
    succeed(run("evaluate", f"checkpoint={run_folder}/checkpoints/last.ckpt", "output=scores", cwd=tmp_path))
    assert scores(tmp_path / "scores")["points"] == scores(run_folder)["points"]


def test_another_split_is_other_data(run_folder: Path, tmp_path: Path) -> None:
    succeed(run("evaluate", f"checkpoint={run_folder}", "split=test", "output=scores", cwd=tmp_path))
    assert scores(tmp_path / "scores")["points"] != scores(run_folder)["points"]


def test_a_synthetic_model_is_scored_on_a_data_set(
    run_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kitti = kitti_folder(tmp_path_factory)
    words = [f"checkpoint={run_folder}", "data=semantickitti", f"data.root={kitti}", KITTI_SPLIT[1], "output=scores"]
    done = succeed(run("evaluate", *words, cwd=tmp_path))
    labels = (kitti / "sequences" / "08" / "labels" / "000000.label").stat().st_size // 4
    assert 0 < scores(tmp_path / "scores")["points"] <= labels
    assert str(kitti) in done.out


def test_a_checkpoint_named_from_within_its_folder_brings_the_runs_data(run_folder: Path, tmp_path: Path) -> None:
    words = ["checkpoint=best.ckpt", f"output={tmp_path}", f"hydra.run.dir={tmp_path}"]
    succeed(run("evaluate", *words, cwd=run_folder / "checkpoints"))
    assert scores(tmp_path) == scores(run_folder)


def test_a_job_that_is_given_a_run_folder_scores_the_runs_data(run_folder: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={run_folder}", "compute=aml_cpu", "compute.dry_run=true", "hydra.run.dir=sent"]
    succeed(run("evaluate", *words, cwd=tmp_path))
    command = yaml.safe_load((tmp_path / "sent/job/job.yaml").read_text(encoding="utf-8"))["command"]
    places = {"${{inputs.checkpoint}}": str(run_folder), "${{outputs.run}}": "ran", "dir . ": "dir sent/job/code "}
    for name, place in places.items():
        command = command.replace(name, place)
    succeed(run("evaluate", *shlex.split(command)[3:], cwd=tmp_path))
    assert scores(tmp_path / "ran") == scores(run_folder)


def test_data_that_are_named_are_those_of_the_name_alone(
    run_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A run of the same kind of data keeps its split and its scale of remission to itself."""
    kitti = kitti_folder(tmp_path_factory)
    own = Path(shutil.copytree(run_folder, tmp_path / "run"))
    config = yaml.safe_load((own / "config.yaml").read_text(encoding="utf-8"))
    shipped = Path(__file__).parents[2] / "configs" / "data" / "semantickitti.yaml"
    config["data"] = {
        **yaml.safe_load(shipped.read_text(encoding="utf-8")),
        "root": str(kitti),
        "remission_scale": 255.0,
    }
    config["data"]["split"] = {"train": ["08"], "val": ["00"], "test": []}
    (own / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    named = ["data=semantickitti", f"data.root={kitti}"]
    for words, output in (
        (["checkpoint=run"], "own"),
        (["checkpoint=run", *named], "named"),
        ([f"checkpoint={shutil.copytree(run_folder / 'bundle', tmp_path / 'alone')}", *named], "alone"),
    ):
        succeed(run("evaluate", *words, f"output={output}", cwd=tmp_path))
    assert scores(tmp_path / "named") == scores(tmp_path / "alone")
    assert scores(tmp_path / "own")["support"] != scores(tmp_path / "named")["support"]


def test_own_classes_from_training_to_scores(tmp_path: Path, kitti_map: LabelMap) -> None:
    write_three_classes(tmp_path / "three.yaml", kitti_map)
    words = [*SMALL, "tracking=off", "data.labels=three.yaml", "trainer.max_epochs=1", "hydra.run.dir=run"]
    succeed(run("train", *words, cwd=tmp_path))
    succeed(run("evaluate", "checkpoint=run", "output=scores", cwd=tmp_path))
    assert list(scores(tmp_path / "scores")["iou"]) == ["road", "building", "vegetation"]
    assert scores(tmp_path / "scores") == scores(tmp_path / "run")
    # other classes than the data's
    message = run("evaluate", "checkpoint=run", "data.labels=semantickitti", "output=other", cwd=tmp_path).message
    assert "three" in message
    assert "semantickitti" in message
    assert not (tmp_path / "other" / "metrics.json").exists()


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_a_checkpoint_that_brings_code_is_refused_and_does_not_run(kind: str, tmp_path: Path) -> None:
    bomb = {"pointseg": Malicious(tmp_path / "ran"), "state_dict": {}}
    if kind == "torch":
        torch.save(bomb, tmp_path / "bad.ckpt")
    else:
        (tmp_path / "bad.ckpt").write_bytes(pickle.dumps(bomb))
    message = run("evaluate", "checkpoint=bad.ckpt", cwd=tmp_path).message
    assert "bad.ckpt" in message
    assert not (tmp_path / "ran").exists()


def test_views_say_what_they_bring_and_cost(run_folder: Path, tmp_path: Path) -> None:
    done = succeed(run("evaluate", f"checkpoint={run_folder}", "views.count=3", "output=seen", cwd=tmp_path))
    plain = succeed(run("evaluate", f"checkpoint={run_folder}", "output=plain", cwd=tmp_path))
    assert "3 views: mIoU" in done.out
    assert "3 views" not in plain.out
    seen, before = (100 * scores(tmp_path / name)["miou"] for name in ("seen", "plain"))
    assert f"mIoU {seen:.2f} % instead of {before:.2f} % ({seen - before:+.2f})" in done.out


@pytest.mark.parametrize(("word", "key"), [("views.count=0", "views.count"), ("views.scale=2", "views.scale")])
def test_views_that_cannot_be_are_refused(word: str, key: str, run_folder: Path, tmp_path: Path) -> None:
    assert key in run("evaluate", f"checkpoint={run_folder}", word, cwd=tmp_path).message
