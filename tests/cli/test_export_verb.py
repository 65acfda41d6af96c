"""`python -m pointseg.export`: files that score as the run they came from, or none."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from verbs import SMALL_WORLD, Done, own_environment, run, succeed, trained_run


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory)


def export(run_folder: Path, *words: str, cwd: Path) -> Done:
    return run("export", f"checkpoint={run_folder}", *words, cwd=cwd)


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def assert_close(found: Any, expected: Any, tolerance: float) -> None:
    assert type(found) is type(expected)
    if isinstance(found, dict):
        assert list(found) == list(expected)
        for key in found:
            assert_close(found[key], expected[key], tolerance)
    elif isinstance(found, float):
        assert math.isclose(found, expected, abs_tol=tolerance)
    else:
        assert found == expected


@pytest.mark.parametrize(("form", "place"), [("onnx", ""), ("triton", "model_repository/pointnetseg/1")])
def test_an_export_scores_as_its_run(form: str, place: str, run_folder: Path, tmp_path: Path) -> None:
    done = succeed(export(run_folder, f"format={form}", "output=out", cwd=tmp_path))
    assert "differ by at most" in done.out
    assert "ms a scan" in done.out
    for name in (f"{place}/model.onnx", f"{place}/model.yaml", "export.json"):
        assert str(Path("out") / name.lstrip("/")) in done.out
    report = content(tmp_path / "out" / "export.json")
    assert report["comparison"]["agreement"] > 0.999
    assert (tmp_path / "out" / report["model"]).is_file()
    exported = tmp_path / "out" / place
    succeed(run("evaluate", f"checkpoint={exported}", *SMALL_WORLD, "output=scores", cwd=tmp_path))
    assert_close(content(tmp_path / "scores" / "metrics.json"), content(run_folder / "metrics.json"), 1e-3)


def test_8_bits_keep_the_labels(run_folder: Path, tmp_path: Path) -> None:
    words = ["format=onnx-int8", "output=out", "min_agreement=0.8", "max_miou_loss=0.1"]
    done = succeed(export(run_folder, *words, cwd=tmp_path))
    assert "int8" in done.out
    comparison = content(tmp_path / "out" / "export.json")["comparison"]
    assert comparison["agreement"] >= 0.8
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"model.onnx", "model.yaml", "export.json"}
    succeed(run("evaluate", f"checkpoint={tmp_path}/out", *SMALL_WORLD, "output=scores", cwd=tmp_path))
    scored = content(tmp_path / "scores" / "metrics.json")["miou"]
    assert math.isclose(scored, comparison["miou"][1], abs_tol=1e-9)


@pytest.mark.parametrize("limit", ["min_agreement=1.1", "max_miou_loss=-1.0"])
def test_8_bits_beyond_a_limit_leave_nothing(limit: str, run_folder: Path, tmp_path: Path) -> None:
    message = export(run_folder, "format=onnx-int8", "output=new/out", limit, cwd=tmp_path).message
    assert limit in message
    assert not (tmp_path / "new" / "out").exists()
    # what was there before stays
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "model.onnx").write_bytes(b"mine")
    assert limit in export(run_folder, "format=onnx-int8", "output=old", limit, cwd=tmp_path).message
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["model.onnx"]
    assert (tmp_path / "old" / "model.onnx").read_bytes() == b"mine"


def test_without_its_data_float32_is_exported_and_8_bits_are_not(run_folder: Path, tmp_path: Path) -> None:
    lost = ["checkpoint=bundle", "data=semantickitti", "data.root=nowhere"]
    (tmp_path / "bundle").mkdir()
    for file in (run_folder / "bundle").iterdir():
        (tmp_path / "bundle" / file.name).write_bytes(file.read_bytes())
    done = succeed(run("export", *lost, "output=out", cwd=tmp_path))
    assert "Not compared on scans" in done.out
    assert content(tmp_path / "out" / "export.json")["comparison"] is None
    assert "nowhere" in run("export", *lost, "format=onnx-int8", "output=other", cwd=tmp_path).message
    assert not (tmp_path / "other").exists()
    assert succeed(run("export", *lost, "scans=0", "output=out", cwd=tmp_path)).out.count("Not compared") == 0


def test_what_cannot_be_used_is_refused(run_folder: Path, tmp_path: Path) -> None:
    assert "checkpoint" in run("export", "output=out", cwd=tmp_path).message
    assert "triton" in export(run_folder, "format=tritn", "output=out", cwd=tmp_path).message
    assert "scans" in export(run_folder, "format=onnx-int8", "scans=0", "output=out", cwd=tmp_path).message
    assert "scans" in export(run_folder, "scans=-1", "output=out", cwd=tmp_path).message
    assert "nowhere" in run("export", "checkpoint=nowhere", "output=out", cwd=tmp_path).message
    assert "run or a bundle" in export(run_folder, f"output={run_folder}", cwd=tmp_path).message
    assert "named triton" in export(run_folder, "output=triton", cwd=tmp_path).message
    assert "min_agreement" in export(run_folder, "min_agrement=1", cwd=tmp_path).message
    assert list(tmp_path.iterdir()) in ([], [tmp_path / "outputs"])


def test_help_begins_with_examples_and_is_light() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pointseg.export", "--help"],
        env=own_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    examples = [line for line in done.stdout.splitlines()[:6] if line.strip().startswith("python -m pointseg.export")]
    assert len(examples) >= 3
    assert "min_agreement" in done.stdout
