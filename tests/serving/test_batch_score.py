"""The entry script of Azure's batch deployments: the files are those of prediction, a damaged one fails alone."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import KittiTree, scan_points, write_tree
from service import write_bundle

import pointseg
from pointseg.core.errors import CheckpointError, ConfigError, OutputError
from pointseg.engine.prediction import find_items, predict_files
from pointseg.engine.predictor import Predictor
from pointseg.serving import batch_score

OF_ENDPOINT = ("--batch_endpoint_enabled", "True", "--output", "of the driver")
VARIABLES = ("WRITE", "PROBABILITIES", "STRICT", "REMISSION_SCALE", "INPUT")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "street/3/bundle")


@pytest.fixture
def output(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Azure sets for a process of a batch deployment: the place of the output."""
    for name in VARIABLES:
        monkeypatch.delenv(f"POINTSEG_{name}", raising=False)
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(bundle.parents[1]))
    monkeypatch.setenv("AZUREML_BI_OUTPUT_PATH", str(tmp_path / "output"))
    monkeypatch.setattr(sys, "argv", ["driver.py", "--their_own", "words", "--model", "net", *OF_ENDPOINT])
    monkeypatch.setattr(batch_score, "_batch", None)
    return tmp_path / "output"


def tree(folder: Path) -> KittiTree:
    return write_tree(folder / "INPUT_scans", ("00", "08"))


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def locally(bundle: Path, scans: Path, output: Path) -> dict[str, str]:
    predict_files(Predictor.load(bundle), find_items(scans, output), output)
    return hashes(output)


def files_of(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.rglob("*")) if path.is_file()]


def test_all_files_of_a_data_set_become_what_predict_writes(bundle: Path, output: Path, tmp_path: Path) -> None:
    scans = tree(tmp_path).root
    batch_score.init()
    given = files_of(scans)  # also calibration, poses and labels, which are no scans
    lines = [line for start in range(0, len(given), 4) for line in batch_score.run(given[start : start + 4])]
    assert len(lines) == len(given)
    name = scans / "sequences/08/velodyne/000003.bin"
    assert f"{name} -> sequences/08/predictions/000003.label" in lines
    assert hashes(output) == locally(bundle, scans, tmp_path / "local")


def test_other_files_lie_where_they_lie_in_the_input(bundle: Path, output: Path, tmp_path: Path) -> None:
    scans = tmp_path / "INPUT_scans"
    for number, name in enumerate(("a.bin", "town/a.npy", "town/.hidden.bin")):
        (scans / name).parent.mkdir(parents=True, exist_ok=True)
        points = scan_points(300 + number, seed=number)
        np.save(scans / name, points) if name.endswith(".npy") else points.tofile(scans / name)
    batch_score.init()
    assert len(batch_score.run(files_of(scans))) == 3
    assert hashes(output) == locally(bundle, scans, tmp_path / "local")
    assert set(hashes(output)) == {"a.label", "town/a.label", "prediction.json"}


def test_a_damaged_file_fails_alone_and_is_counted(
    output: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree_ = tree(tmp_path)
    tree_.bin("08/000003").write_bytes(b"seven b")
    scans = [str(tree_.bin(f"08/{frame}")) for frame in ("000000", "000003", "000007")]
    batch_score.init()
    lines = batch_score.run(scans)
    assert [line.partition(" -> ")[0] for line in lines] == [scans[0], scans[2]]  # Azure counts what is missing
    assert scans[1] in caplog.text
    note = output / "failed/sequences/08/predictions/000003.bin.txt"
    assert scans[1] in note.read_text()
    assert len(list((output / "sequences/08/predictions").iterdir())) == 2
    tree_.points["08/000003"].tofile(scans[1])
    assert len(batch_score.run(scans)) == 3
    assert not note.exists()


def test_what_is_finished_is_not_made_again(output: Path, tmp_path: Path) -> None:
    scans = [str(path) for path in sorted(tree(tmp_path).root.rglob("*.bin"))]
    batch_score.init()
    first = batch_score.run(scans)
    times = {path: path.stat().st_mtime_ns for path in output.rglob("*.label")}
    batch_score.init()  # the mini-batch is given to another process
    assert batch_score.run(scans) == first
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.label")} == times


def test_the_output_of_another_model_is_refused(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = [str(path) for path in sorted(tree(tmp_path).root.rglob("*.bin"))]
    batch_score.init()
    batch_score.run(scans[:1])
    monkeypatch.setenv("AZUREML_MODEL_DIR", str(write_bundle(tmp_path / "other", seed=1)))
    batch_score.init()
    with pytest.raises(OutputError, match="another model"):
        batch_score.run(scans)


def test_files_that_would_become_one_are_refused(output: Path, tmp_path: Path) -> None:
    folder = tmp_path / "INPUT_scans"
    folder.mkdir()
    scan_points(50).tofile(folder / "a.bin")
    np.save(folder / "a.npy", scan_points(60))
    batch_score.init()
    assert batch_score.run([str(folder / "a.npy")]) == []  # the other one may be with another process
    assert "a.npy and a.bin" in (output / "failed/a.npy.txt").read_text()


def test_words_of_a_parallel_job(bundle: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans = tree(tmp_path).root.rename(tmp_path / "mounted")
    words = ["--output", str(tmp_path / "elsewhere"), "--bundle", str(bundle), "--input", str(scans)]
    monkeypatch.setattr(sys, "argv", ["driver.py", "--node", "1", *words])
    monkeypatch.delenv("AZUREML_MODEL_DIR")
    batch_score.init()
    batch_score.run(files_of(scans))
    assert hashes(tmp_path / "elsewhere") == locally(bundle, scans, tmp_path / "local")


def test_the_driver_s_words_tell_where_the_input_is_mounted(
    bundle: Path, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mounted/town").mkdir(parents=True)
    scan_points(50).tofile(tmp_path / "mounted/town/a.bin")
    words = ["--input_asset_job_data_path", str(tmp_path / "mounted"), *OF_ENDPOINT]
    monkeypatch.setattr(sys, "argv", ["driver.py", *words])
    batch_score.init()
    scan = str(tmp_path / "mounted/town/a.bin")
    assert batch_score.run([scan]) == [f"{scan} -> town/a.label"]


def test_settings_are_those_of_predict(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = str(tree(tmp_path).bin("08/000003"))
    monkeypatch.setenv("POINTSEG_PROBABILITIES", "true")
    monkeypatch.setenv("POINTSEG_WRITE", "label")
    batch_score.init()
    batch_score.run([scan])
    assert np.load(output / "sequences/08/predictions/000003.probs.npy").dtype == np.float16


@pytest.mark.parametrize(
    ("name", "value", "error", "says"),
    [
        ("AZUREML_BI_OUTPUT_PATH", "", ConfigError, "no output folder"),
        ("AZUREML_MODEL_DIR", "/nowhere", CheckpointError, "does not exist"),
        ("POINTSEG_WRITE", "labels", ConfigError, "there is no 'labels'"),
        ("POINTSEG_REMISSION_SCALE", "much", ConfigError, "'much' is no number"),
    ],
)
def test_what_is_wrong_is_said_at_the_start(
    output: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    value: str,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(error, match=says):
        batch_score.init()
    assert says in caplog.text


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("/m/sequences/08/velodyne/000000.bin", "sequences/08/predictions/000000.bin"),
        ("/m/INPUT_x/08/velodyne/000000.bin", "sequences/08/predictions/000000.bin"),
        ("/m/INPUT_x/dataset/sequences/night/velodyne/1.bin", "sequences/night/predictions/1.bin"),
        ("/m/INPUT_x/town/street.pcd", "town/street.pcd"),
        ("/m/INPUT_x/INPUT_y/street.pcd", "street.pcd"),
    ],
)
def test_places(source: str, place: str) -> None:
    assert batch_score.place_of(Path(source)).as_posix() == place


def test_files_of_one_name_in_unknown_places_do_not_meet() -> None:
    first, second = (batch_score.place_of(Path(f"/mnt/{folder}/street.pcd")) for folder in "ab")
    assert first != second
    assert first.name == second.name == "street.pcd"


@pytest.mark.slow
def test_it_needs_what_a_server_installs(output: Path, tmp_path: Path) -> None:
    """In a process of its own, without the packages of training."""
    scan = tree(tmp_path).bin("00/000000")
    shutil.copytree(
        Path(pointseg.__file__).parent, tmp_path / "code/pointseg", ignore=shutil.ignore_patterns("__pycache__")
    )
    blocked = (
        "{'hydra', 'omegaconf', 'pytorch_lightning', 'torchmetrics', 'mlflow', 'azure', 'tqdm', 'matplotlib', 'psutil'}"
    )
    program = (
        "import sys\n"
        f"class Blocker:\n    def find_spec(self, name, *_):\n        if name.partition('.')[0] in {blocked}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "import json\nfrom pointseg.serving import batch_score\nbatch_score.init()\n"
        f"print(json.dumps(batch_score.run([{str(scan)!r}])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path / "code", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) == 1
