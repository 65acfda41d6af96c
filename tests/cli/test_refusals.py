"""What a user can do wrong gets one plain line, exit code 1, and no stack trace, before training starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from verbs import run

from pointseg.data.synthetic import write_sequences

QUICK = ["+experiment=quick", "tracking=off"]


def run_verb(verb: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """In this process: importing torch anew for each refusal would take longer than all of them."""
    done = run(verb, *arguments, cwd=cwd)
    return subprocess.CompletedProcess([verb, *arguments], done.code, done.out, done.err)


@pytest.fixture(scope="module")
def good_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_sequences(folder, scans=4, seed=0, beams=16, azimuth_steps=64, processes=1)
    return folder


@pytest.fixture
def data(good_data: Path, tmp_path: Path) -> Path:
    """A copy to damage: sequence 00 for training, 08 for validation."""
    copy = tmp_path / "data"
    for file in good_data.rglob("*.*"):
        target = copy / file.relative_to(good_data)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    return copy


def train_on(data: Path, cwd: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run_verb(
        "train",
        "data=semantickitti",
        f"data.root={data}",
        "data.split.train=[0]",
        "data.split.val=[8]",
        "tracking=off",
        "hydra.run.dir=run",
        *more,
        cwd=cwd,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr[-2000:]
    for word in words:
        assert word in lines[0]
    assert "epoch 1" not in done.stdout


def first(data: Path, pattern: str) -> Path:
    return sorted(data.rglob(pattern))[0]


def cut_off(data: Path) -> str:
    file = first(data, "*.bin")
    file.write_bytes(file.read_bytes()[:-3])
    return "multiple of the 16 bytes"


def empty(data: Path) -> str:
    first(data, "*.bin").write_bytes(b"")
    return "empty"


def not_a_number(data: Path) -> str:
    file = first(data, "*.bin")
    points = np.fromfile(file, np.float32)
    points[9] = np.nan
    points.tofile(file)
    return "NaN"


def one_label_less(data: Path) -> str:
    file = first(data, "*.label")
    file.write_bytes(file.read_bytes()[:-4])
    return "labels for"


def unknown_id(data: Path) -> str:
    file = first(data, "*.label")
    labels = np.fromfile(file, np.uint32)
    labels[5] = 77
    labels.tofile(file)
    return "raw id 77"


def no_label_file(data: Path) -> str:
    first(data, "*.label").unlink()
    return "missing"


DAMAGE = [cut_off, empty, not_a_number, one_label_less, unknown_id, no_label_file]


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_named(damage: object, data: Path, tmp_path: Path) -> None:
    said = damage(data)  # type: ignore[operator]  # one of the functions above
    assert_refused(train_on(data, tmp_path), said, "sequences/00/")


def test_a_missing_data_folder(tmp_path: Path) -> None:
    assert_refused(train_on(tmp_path / "nowhere (a),b=c", tmp_path), "does not exist", "nowhere (a),b=c")


@pytest.mark.slow
def test_a_folder_without_sequences(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_refused(train_on(tmp_path / "empty", tmp_path), "no sequences")


@pytest.mark.slow
def test_a_gpu_where_there_is_none(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert_refused(run_verb("train", *QUICK, "trainer.accelerator=gpu", cwd=tmp_path), "GPU", "trainer.accelerator")


def test_an_output_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert_refused(run_verb("train", *QUICK, "hydra.run.dir=file/run", cwd=tmp_path), "hydra.run.dir=file/run")


def test_a_checkpoint_that_does_not_exist(tmp_path: Path) -> None:
    assert_refused(run_verb("evaluate", "checkpoint=nowhere.ckpt", cwd=tmp_path), "nowhere.ckpt")


def test_no_checkpoint(tmp_path: Path) -> None:
    assert_refused(run_verb("evaluate", cwd=tmp_path), "checkpoint=RUN_FOLDER")


def test_a_word_that_is_no_override(tmp_path: Path) -> None:
    assert_refused(run_verb("train", "kitti", cwd=tmp_path), "'kitti' is not NAME=VALUE")


def test_prepare_without_output(tmp_path: Path) -> None:
    assert_refused(run_verb("prepare", "synthetic.scans=3", cwd=tmp_path), "output=DIR")


def test_a_sensor_that_does_not_exist(tmp_path: Path) -> None:
    assert_refused(
        run_verb("prepare", "output=out", "synthetic.scans=3", "synthetic.beams=63", cwd=tmp_path), "synthetic.beams"
    )


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "prepare", "export", "report", "pipeline"])
def test_help_begins_with_worked_examples(verb: str, tmp_path: Path) -> None:
    done = run_verb(verb, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"python -m pointseg.{verb} " in "\n".join(done.stdout.splitlines()[:5])


@pytest.mark.parametrize("script", ["provision", "register_data", "deploy", "teardown"])
def test_help_of_a_script_begins_with_worked_examples(script: str, tmp_path: Path) -> None:
    done = run_verb(script, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert f"python scripts/{script}.py " in "\n".join(done.stdout.splitlines()[:5])
    assert "plan=false" in done.stdout


@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "prepare", "pipeline"])
def test_help_imports_nothing_heavy(verb: str) -> None:
    code = f"""
import sys
sys.argv = ["x", "--help"]
from pointseg.{verb} import main
try:
    main()
except SystemExit:
    pass
heavy = {{"torch", "pytorch_lightning", "mlflow", "matplotlib"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
