"""What earlier versions wrote loads, and gives the same labels: run folders, checkpoints, bundles, exports, registered code."""

from __future__ import annotations

import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points
from verbs import run

from pointseg import Predictor
from pointseg.engine.bundle import load_bundle, load_checkpoint

HERE = Path(__file__).parent
VERSIONS = sorted(folder.name for folder in HERE.iterdir() if (folder / "run").is_dir())
SCAN = scan_points(2000, seed=5)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Path:
    return HERE / str(request.param)


@pytest.mark.parametrize("what", ["run", "run/bundle", "run/checkpoints/best.ckpt", "run/checkpoints/last.ckpt"])
def test_a_model_gives_the_same_labels(version: Path, what: str) -> None:
    assert np.array_equal(Predictor.load(version / what)(SCAN), np.load(version / "labels.npy"))


def test_an_export_gives_the_same_labels(version: Path) -> None:
    pytest.importorskip("onnxruntime")
    found = Predictor.load(version / "exported")(SCAN)
    assert (found == np.load(version / "labels.npy")).mean() > 0.999  # ONNX Runtime rounds otherwise


def test_the_labels_tell_models_apart(version: Path) -> None:
    assert len(np.unique(np.load(version / "labels.npy"))) >= 4


def test_bundle_and_checkpoint_hold_the_same_description(version: Path) -> None:
    bundle = load_bundle(version / "run/bundle")
    checkpoint = load_checkpoint(version / "run/checkpoints/best.ckpt")
    assert bundle.describe()["architecture"] == checkpoint.describe()["architecture"]
    assert bundle.features == checkpoint.features


def test_a_run_folder_scores_what_it_scored(version: Path, tmp_path: Path) -> None:
    """On the scans that it was validated on: the synthetic streets of later versions are others."""
    data = ["data=semantickitti", f"data.root={version / 'scans'}", "data.split.val=['08']"]
    done = run("evaluate", f"checkpoint={version / 'run'}", *data, "output=scores", cwd=tmp_path)
    assert done.code == 0, done.err
    before, now = ((folder / "metrics.json").read_text() for folder in (version / "run", tmp_path / "scores"))
    assert before == now


def test_a_run_folder_is_scored_on_its_own_data(version: Path, tmp_path: Path) -> None:
    done = run("evaluate", f"checkpoint={version / 'run'}", "output=scores", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "1 scan of Synthetic val" in done.out + done.err


def test_a_run_goes_on(version: Path, tmp_path: Path) -> None:
    shutil.copytree(version / "run", tmp_path / "run")
    done = run("train", "resume=run", "trainer.max_epochs=61", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "run" / "history.csv").read_text().splitlines()[-1].startswith("61,")


@pytest.mark.slow
def test_the_code_of_a_registered_model_finds_the_package(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow keeps a copy of `pyfunc.py` in every registered model and runs it with the package that is installed."""
    given: list[object] = []
    import mlflow.models

    monkeypatch.setattr(mlflow.models, "set_model", given.append)
    runpy.run_path(str(version / "pyfunc.py"))
    model = given[0]

    class Context:
        artifacts = {"bundle": str(version / "run/bundle")}

    model.load_context(Context())  # type: ignore[attr-defined]
    assert np.array_equal(model.predict(None, SCAN), np.load(version / "labels.npy"))  # type: ignore[attr-defined]
    assert "pointseg.errors" in sys.modules
