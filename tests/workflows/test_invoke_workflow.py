"""`invoke` by a Python program: a service labels files, and the result says what it answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points
from service import write_bundle
from small_server import Service, small_service

from pointseg.core.errors import ConfigError, InvalidData, ServiceError
from pointseg.engine.predictor import Predictor
from pointseg.serving.wire import class_table
from pointseg.workflows import InvokeConfig, invoke

SCANS = ("a", "b")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(write_bundle(tmp_path_factory.mktemp("model") / "bundle"))


@pytest.fixture
def service(predictor: Predictor) -> Iterator[Service]:
    with small_service() as running:
        running.predictor = predictor
        running.metadata = {"model": {"sha256": "0" * 64}, "classes": class_table(predictor.label_map)}
        yield running


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed, name in enumerate(SCANS):
        scan_points(500, seed).tofile(folder / f"{name}.bin")
    return folder


def test_labels_are_those_of_the_model(service: Service, predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def progress(what: str) -> object:
        asked.append(what)
        return lambda done, total: None

    config = InvokeConfig(url=service.url, input=str(scans), output=str(tmp_path / "labels"))
    done = invoke(config, progress=progress)  # type: ignore[arg-type]
    assert (done.files, len(done.seconds), done.job, asked) == (2, 2, None, ["labelling"])
    assert sum(done.points.values()) == 1000
    for seed, name in enumerate(SCANS):
        written = np.fromfile(tmp_path / f"labels/{name}.label", "<u4")
        assert np.array_equal(written, predictor(scan_points(500, seed)))
    again = invoke(config)
    assert (again.files, again.predicted and again.predicted.skipped) == (0, 2)


def test_without_an_output_it_counts(service: Service, scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scans.parent)
    done = invoke(InvokeConfig(url=service.url, input=str(scans)))
    assert sum(done.points.values()) == 1000
    assert sorted(path.name for path in scans.parent.iterdir()) == ["scans"]


def test_files_that_cannot_be_used_are_told_after_the_others(service: Service, scans: Path, tmp_path: Path) -> None:
    (scans / "c.bin").write_bytes(b"x" * 17)
    with pytest.raises(InvalidData, match="1 file of 3"):
        invoke(InvokeConfig(url=service.url, input=str(scans), output=str(tmp_path / "labels")))
    assert len(list((tmp_path / "labels").glob("*.label"))) == 2


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (InvokeConfig(input="x"), "no service is named"),
        (InvokeConfig(url="http://127.0.0.1:1"), "no input is given"),
        (InvokeConfig(url="http://127.0.0.1:1", input="x", wait=True), "only a batch endpoint has jobs"),
        (InvokeConfig(url="http://127.0.0.1:1", input="x", overwrite=True), "nothing to overwrite"),
        (InvokeConfig(url="http://127.0.0.1:1", input="x", on_error="ask"), r"'ask': on_error"),
        (InvokeConfig(endpoint="street", input="x"), "endpoint=batch:NAME"),
        (
            InvokeConfig(endpoint="batch:street", input="x", timeout=1),
            "the caller of a batch endpoint cannot set this: timeout",
        ),
        (InvokeConfig(endpoint="batch:street", job="x"), "no output folder"),
        (InvokeConfig(endpoint="online:street", key="x", input="x"), "is looked up"),
    ],
)
def test_what_contradicts_itself_is_refused(config: InvokeConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        invoke(config)


def test_a_service_that_is_not_there_is_said(scans: Path) -> None:
    with pytest.raises(ServiceError):
        invoke(InvokeConfig(url="http://127.0.0.1:1", input=str(scans), retries=0))
