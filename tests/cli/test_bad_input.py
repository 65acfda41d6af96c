"""What a user can get wrong ends with exit code 1 and one line that names it, before any training starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import KittiTree
from verbs import KITTI_SPLIT, SMALL, SMALL_TRAINING, run, spawn, trained_run

KITTI = ["data=semantickitti", *SMALL_TRAINING, "data.split.train=[0]", KITTI_SPLIT[1], "tracking=off"]
FIRST = "00/000000"


def refused(*words: str, cwd: Path, verb: str = "train") -> str:
    """The message of a run that must not have begun."""
    message = run(verb, *words, cwd=cwd).message
    assert not list(cwd.rglob("*.ckpt"))
    assert not list(cwd.rglob("config.yaml"))
    assert not (cwd / "mlruns.db").exists()
    return message


def test_missing_data_folder(tmp_path: Path) -> None:
    assert "nowhere" in refused(*KITTI, "data.root=nowhere", cwd=tmp_path)


def test_data_folder_not_given(tmp_path: Path) -> None:
    assert "data.root" in refused(*KITTI, cwd=tmp_path)


def test_data_folder_without_sequences(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "sequences" in refused(*KITTI, "data.root=empty", cwd=tmp_path)


def test_cut_off_scan(tree: KittiTree, tmp_path: Path) -> None:
    tree.bin(FIRST).write_bytes(tree.bin(FIRST).read_bytes()[:-3])
    assert f"{FIRST.replace('/', '/velodyne/')}.bin" in refused(*KITTI, f"data.root={tree.root}", cwd=tmp_path)


def test_empty_scan(tree: KittiTree, tmp_path: Path) -> None:
    tree.bin(FIRST).write_bytes(b"")
    tree.label(FIRST).write_bytes(b"")
    assert "000000.bin" in refused(*KITTI, f"data.root={tree.root}", cwd=tmp_path)


def test_scan_with_nan(tree: KittiTree, tmp_path: Path) -> None:
    points = tree.points[FIRST].copy()
    points[7, 1] = np.nan
    points.tofile(tree.bin(FIRST))
    assert "000000.bin" in refused(*KITTI, f"data.root={tree.root}", cwd=tmp_path)


def test_label_count_that_differs(tree: KittiTree, tmp_path: Path) -> None:
    tree.labels[FIRST][:-1].tofile(tree.label(FIRST))
    assert "000000.label" in refused(*KITTI, f"data.root={tree.root}", cwd=tmp_path)


@pytest.mark.parametrize("name", [FIRST, "08/000007"])
def test_unknown_raw_id(name: str, tree: KittiTree, tmp_path: Path) -> None:
    labels = tree.labels[name].copy()
    labels[3] = 777
    labels.tofile(tree.label(name))
    message = refused(*KITTI, f"data.root={tree.root}", cwd=tmp_path)
    assert "777" in message
    assert f"{name.split('/')[1]}." in message


def test_missing_label_file(tree: KittiTree, tmp_path: Path) -> None:
    tree.label("08/000003").unlink()
    assert "000003" in refused(*KITTI, f"data.root={tree.root}", cwd=tmp_path)


def test_missing_label_map(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refused(*SMALL, "tracking=off", "data.labels=nowhere.yaml", cwd=tmp_path)


def test_label_map_that_contradicts_itself(tmp_path: Path) -> None:
    content = {"name": "x", "labels": {0: ["a", [0, 0, 0]], 1: ["b", [0, 0, 0]]}, "classes": [[1], [1]], "ignored": [0]}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    assert "raw id 1" in refused(*SMALL, "tracking=off", "data.labels=x.yaml", cwd=tmp_path)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["optimizer.lrr=1"], "optimizer.lr"),
        (["+optimizer.lrr=1"], "optimizer.lr"),
        (["+experiment=kiti"], "kitti"),
        (["optimizer.lr=1,2"], "-m"),
        (["optimizer.lr=abc"], "optimizer.lr=abc"),
        (["optimizer.lr=null"], "optimizer"),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs=1.5"),
        (["trainer.max_epochs=null"], "trainer.max_epochs"),
        (["seed=-1"], "seed"),
        (["features=null"], "features"),
        (["--cfgs=job"], "--cfgs=job"),
        (["seed"], "'seed'"),
        (["compute=moon"], "compute=moon"),
        (["tracking.uri=folder"], "folder"),
        (["resume=a", "rerun=b"], "resume and rerun"),
        (["resume=nowhere"], "resume=nowhere"),
        (["rerun=nowhere"], "rerun=nowhere"),
    ],
)
def test_keys_and_values(words: list[str], named: str, tmp_path: Path) -> None:
    assert named in refused(*SMALL, *words, cwd=tmp_path)


def test_gpu_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "trainer.accelerator=gpu" in refused(*SMALL, "trainer.accelerator=gpu", cwd=tmp_path)


@pytest.mark.parametrize("word", ["hydra.run.dir=file/run", "hydra.run.dir=file"])
def test_output_folder_that_cannot_be_written(word: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert word in refused(*SMALL, word, cwd=tmp_path)
    assert "file" in run("prepare", "output=file", "synthetic.scans=2", cwd=tmp_path).message
    assert "hydra.sweep.dir=file" in run("train", "-m", *SMALL, "hydra.sweep.dir=file", cwd=tmp_path).message


def test_a_folder_without_checkpoint(tmp_path: Path) -> None:
    assert "checkpoint" in run("evaluate", "checkpoint=.", cwd=tmp_path).message
    assert "nowhere" in run("evaluate", "checkpoint=nowhere", cwd=tmp_path).message
    assert "checkpoint" in run("evaluate", cwd=tmp_path).message


def test_unknown_split(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    words = [f"checkpoint={trained_run(tmp_path_factory)}", "split=training"]
    assert "training" in run("evaluate", *words, cwd=tmp_path).message


@pytest.mark.parametrize("where", ["checkpoints/best.ckpt", "bundle/weights.safetensors"])
def test_damaged_checkpoint(where: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shutil.copytree(trained_run(tmp_path_factory), tmp_path / "run")
    file = tmp_path / "run" / where
    file.write_bytes(file.read_bytes()[:200])
    named = file if file.suffix == ".ckpt" else file.parent
    assert file.parent.name in run("evaluate", f"checkpoint={named}", cwd=tmp_path).message


def test_message_and_exit_code_of_a_real_process(tmp_path: Path) -> None:
    done = spawn("train", "+experiment=kitti", "data.root=nowhere", "optimizer.lrr=1", cwd=tmp_path)
    assert "optimizer.lr" in done.message
