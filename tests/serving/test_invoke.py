"""`python scripts/invoke.py`: what it writes is what `predict` writes, and it says what went wrong in a line."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest
import verbs
from conftest import scan_points
from small_server import Handler, Service, small_service
from verbs import Done, own_environment, succeed, trained_run

from pointseg import cli
from pointseg.engine.predictor import Predictor
from pointseg.serving.wire import class_table

SCRIPT = Path(__file__).parents[2] / "scripts" / "invoke.py"
KEY = "k3y=of,the(service"


def invoke(*words: str, cwd: Path, **environment: str) -> Done:
    """The script inside this process, which is left as it was."""
    spec = importlib.util.spec_from_file_location("invoke_script", SCRIPT)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    out, err, code = io.StringIO(), io.StringIO(), 0
    kept = verbs._kept_state(cwd, environment)
    with kept, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.run("invoke", module.__doc__, list(words))
        except SystemExit as end:
            code = int(end.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory)


@pytest.fixture(scope="module")
def predictor(run_folder: Path) -> Predictor:
    return Predictor.load(run_folder)


@pytest.fixture
def service(predictor: Predictor) -> Iterator[Service]:
    """A server with the model, which describes itself."""
    with small_service() as running:
        running.predictor = predictor
        classes = class_table(predictor.label_map)
        running.metadata = {"model": {"name": "street", "version": "3"}, "classes": classes}
        yield running


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Files of several kinds; one has points that are not finite and at the sensor, one no remission."""
    folder = tmp_path / "in"
    (folder / "deeper").mkdir(parents=True)
    points = scan_points(900, seed=1)
    points[5, 1], points[9, :3] = np.nan, 0
    points.tofile(folder / "a.bin")
    np.save(folder / "deeper" / "b.npy", scan_points(700, seed=2)[:, :3])
    cloud = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    xyz = scan_points(500, seed=3).astype(np.float64)
    cloud.x, cloud.y, cloud.z, cloud.intensity = *xyz.T[:3], (xyz[:, 3] * 65535).astype(np.uint16)
    cloud.write(str(folder / "c.las"))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "prediction.json"
    }


@pytest.mark.parametrize("described", [True, False], ids=["with metadata", "without, as on Azure"])
def test_the_files_are_those_of_predict(
    described: bool, service: Service, scans: Path, run_folder: Path, tmp_path: Path
) -> None:
    if not described:
        service.metadata = None
    words = ["input=in", "probabilities=true"]
    done = succeed(invoke(f"url={service.url}", *words, "output=by service", cwd=tmp_path))
    succeed(verbs.run("predict", f"checkpoint={run_folder}", *words, "output=here", cwd=tmp_path))
    assert len(files_of(tmp_path / "here")) == 6
    assert files_of(tmp_path / "by service") == files_of(tmp_path / "here")
    assert "Labelled 3 files with 2,100 points" in done.out
    assert "Latency p50 " in done.out
    assert ("labels=semantickitti" in done.out) is not described


def test_what_is_said(service: Service, scans: Path, predictor: Predictor, tmp_path: Path) -> None:
    done = succeed(invoke(f"url={service.url}/score", "input=in/a.bin", cwd=tmp_path))
    points = np.fromfile(scans / "a.bin", "<f4").reshape(-1, 4)
    labels = predictor(points[np.isfinite(points).all(axis=1)])
    for raw_id, count in zip(*np.unique(labels, return_counts=True), strict=True):
        name = predictor.label_map.labels[int(raw_id)][0]
        line = next(line for line in done.out.splitlines() if line.split()[:2] == [name, str(raw_id)])
        assert line.split()[2] == f"{count:,}"
    assert done.out.count("at (0, 0, 0)") == 1
    assert "1 of 900 points are NaN" in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "outputs"]


def test_given_again_it_goes_on(service: Service, scans: Path, tmp_path: Path) -> None:
    words = [f"url={service.url}", "input=in", "output=out"]
    succeed(invoke(*words, cwd=tmp_path))
    asked = len(service.scored)
    assert "3 files finished before" in succeed(invoke(*words, cwd=tmp_path)).out
    assert len(service.scored) == asked + 1  # the question at the beginning
    assert service.metadata is not None
    service.metadata["model"] = {"name": "street", "version": "4"}
    assert "results of another model" in invoke(*words, cwd=tmp_path).message


def test_bad_files_end_with_code_2(service: Service, scans: Path, tmp_path: Path) -> None:
    (scans / "d.bin").write_bytes(b"123")
    done = invoke(f"url={service.url}", "input=in", "output=out", cwd=tmp_path)
    assert done.code == 2
    assert "1 file of 4 cannot be used" in done.err
    assert len(files_of(tmp_path / "out")) == 3


def refuse(status: int) -> Any:
    return lambda handler: handler.refuse(status, f"made up {status}")


def test_points_that_the_service_refuses_are_a_failed_file(service: Service, scans: Path, tmp_path: Path) -> None:
    service.faults = [Handler.answer_again, refuse(422)]
    done = invoke(f"url={service.url}", "input=in", "output=out", cwd=tmp_path)
    assert done.code == 2
    assert [line for line in done.out.splitlines() if "made up 422" in line and "a.bin" in line]
    assert len(files_of(tmp_path / "out")) == 2


def test_a_service_that_fails_ends_the_work(service: Service, scans: Path, tmp_path: Path) -> None:
    service.faults = [refuse(401)]
    done = invoke(f"url={service.url}", "input=in", "output=out", cwd=tmp_path)
    assert "made up 401" in done.message
    assert not (tmp_path / "out").exists()


def test_a_key_is_sent_and_written_nowhere(service: Service, scans: Path, tmp_path: Path) -> None:
    words = [f"url={service.url}", "input=in", "output=out"]
    for given, environment in (([f"key={KEY}"], {}), ([], {"POINTSEG_KEY": KEY})):
        done = succeed(invoke(*words, *given, cwd=tmp_path, **environment))
        assert service.scored[-1].headers["Authorization"] == f"Bearer {KEY}"
        assert KEY not in done.out + done.err
    swept = invoke("-m", *words, f"key={KEY}".replace(",", ";"), "retries=1,2", cwd=tmp_path)
    service.faults = [refuse(500)]
    failed = invoke(*words, f"key={KEY}", "retriez=1", cwd=tmp_path)
    assert failed.code == 1
    assert "k3y" not in swept.out + swept.err + failed.out + failed.err
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"k3y" not in path.read_bytes(), path


@pytest.mark.parametrize("key", ["007", "1e5", "true", "null-ish"])
def test_a_key_is_taken_as_it_is_typed(key: str, service: Service, scans: Path, tmp_path: Path) -> None:
    succeed(invoke(f"url={service.url}", "input=in/a.bin", f"key={key}", cwd=tmp_path))
    assert service.scored[-1].headers["Authorization"] == f"Bearer {key}"


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("url=null", "url=http"),
        ("url=nowhere", "no address of a service"),
        ("input=null", "input=SCANS"),
        ("on_error=go", "on_error"),
        ("compression=xz", "compression"),
        ("timeout=0", "timeout=0"),
        ("overwrite=true", "output=DIR"),
        ("key=two words", "key"),
        ("inputs=in", "Did you mean input?"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(word: str, named: str, service: Service, scans: Path, tmp_path: Path) -> None:
    words = {"url": service.url, "input": "in"}
    words[word.partition("=")[0]] = word.partition("=")[2]
    assert named in invoke(*(f"{key}={value}" for key, value in words.items()), cwd=tmp_path).message
    assert not service.scored


def test_help_begins_with_worked_examples_and_imports_nothing_heavy(tmp_path: Path) -> None:
    probe = (
        f"import runpy, sys; sys.argv = ['invoke', '--help']\n"
        f"try:\n    runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
        "except SystemExit:\n    print([m for m in ('torch', 'mlflow', 'numpy', 'requests') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], env=own_environment(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert lines[2].startswith("  python scripts/invoke.py ")
    assert "max_body" in done.stdout
