"""`python -m pointseg.report`: the page of a run, of a checkpoint, of two; and what is refused before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from verbs import KITTI_SPLIT, empty_database, kitti_folder, run, succeed, trained_run

from pointseg.core.labels import LabelMap


@pytest.fixture
def run_folder(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a run of two epochs."""
    return Path(shutil.copytree(trained_run(tmp_path_factory), tmp_path / "run"))


def percent(folder: Path, key: str) -> str:
    return f"{100 * json.loads((folder / 'metrics.json').read_text())[key]:.1f} %"


def test_the_page_of_a_run_has_its_own_scores_and_curve(run_folder: Path, tmp_path: Path) -> None:
    done = succeed(run("report", "run=run", cwd=tmp_path))
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    assert str(run_folder / "report.html") in done.out
    assert all(percent(run_folder, key) in page for key in ("miou", "miou_present", "accuracy"))
    assert "Learning curves" in page and "No curve is known" not in page
    assert (run_folder / "report.html").stat().st_size < 15e6


def test_a_bundle_on_another_data_set(
    run_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shutil.move(run_folder / "bundle", tmp_path / "bundle")  # a bare one: no run folder around it
    root = kitti_folder(tmp_path_factory)
    words = ["checkpoint=bundle", "data=semantickitti", f"data.root={root}", KITTI_SPLIT[1], "output=pages/one.html"]
    succeed(run("report", *words, "scans_shown=0", "worst=0", cwd=tmp_path))
    page = (tmp_path / "pages" / "one.html").read_text(encoding="utf-8")
    assert "No curve is known" in page and str(root) in page
    assert "<script" not in page


def test_two_runs_side_by_side_in_mlflow(
    run_folder: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from mlflow import MlflowClient

    (tmp_path / "mlruns.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    shutil.copytree(run_folder, tmp_path / "other run")
    words = ["run=run", "against=other run", "tracking=mlflow", "tracking.system_metrics=false"]
    succeed(run("report", *words, cwd=tmp_path))
    page = (run_folder / "report_against_other_run.html").read_text(encoding="utf-8")
    assert "Compared with other run" in page
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns.db")
    experiment = client.get_experiment_by_name("pointnet-semseg")
    (found,) = client.search_runs([experiment.experiment_id])
    metrics = json.loads((run_folder / "metrics.json").read_text())
    assert found.data.metrics["report/miou"] == pytest.approx(metrics["miou"])
    assert found.data.metrics["report/iou/road"] == pytest.approx(metrics["iou"]["road"])
    assert "report/calibration_error" in found.data.metrics
    assert found.data.tags["verb"] == "report"
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["report_against_other_run.html"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "run=RUN_FOLDER"),
        (["run=run", "checkpoint=run"], "both run and checkpoint"),
        (["run=run/bundle"], "not a run folder"),
        (["run=nowhere"], "nowhere"),
        (["run=run", "against=nowhere"], "nowhere"),
        (["run=run", "scans_shown=9"], "scans_shown"),
        (["run=run", "worst=-1"], "worst"),
        (["run=run", "bootstrap=10"], "bootstrap"),
        (["run=run", "seed=-1"], "seed"),
        (["run=run", "output=run"], "output=run/report.html"),
        (["run=run", "scan_shown=3"], "scans_shown"),
        (["run=run", "split=validation"], "split"),
    ],
)
def test_what_is_refused_leaves_no_page(words: list[str], named: str, run_folder: Path, tmp_path: Path) -> None:
    assert named in run("report", *words, cwd=tmp_path).message
    assert not list(tmp_path.rglob("*.html"))


def test_a_damaged_history_is_said(run_folder: Path, tmp_path: Path) -> None:
    (run_folder / "history.csv").write_text("a\nb\n")
    assert "history.csv" in run("report", "run=run", cwd=tmp_path).message


def test_a_model_of_other_classes_is_not_compared(run_folder: Path, tmp_path: Path, kitti_map: LabelMap) -> None:
    other = Path(shutil.copytree(run_folder / "bundle", tmp_path / "other"))
    described = yaml.safe_load((other / "model.yaml").read_text())
    described["label_map"]["labels"][10][0] = "automobile"
    (other / "model.yaml").write_text(yaml.safe_dump(described))
    message = run("report", "run=run", "against=other", cwd=tmp_path).message
    assert "against" in message and "same classes" in message
