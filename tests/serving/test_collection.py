"""Collecting beside the answers: what is kept is what was sent, nothing waits for it, nothing fails by it."""

from __future__ import annotations

import json
import logging
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import requests
from collected_helpers import event, write_lines
from conftest import scan_points
from inference_server import free_port, inference_server, start
from numpy.typing import NDArray
from service import OCTETS, serving, write_bundle
from verbs import run

from pointseg.core.labels import LabelMap
from pointseg.engine.predictor import Predictor
from pointseg.quality.collected_scans import CollectedScans
from pointseg.quality.input_quantities import scan_counts
from pointseg.quality.scan_record import parse_record
from pointseg.serving.collection import COLLECTED, DROPPED, FAILED, Collection, FolderSink, OfferedScan
from pointseg.serving.wire import CloudLabels

LABEL_MAP = LabelMap.load("semantickitti")
CLOUDS = [scan_points(1500, seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


def offered(number: int = 0, points: NDArray[np.float32] | None = None) -> OfferedScan:
    points = CLOUDS[0] if points is None else points
    scored = CloudLabels(np.full(len(points), 40, np.uint32), None, (), LABEL_MAP, {"name": "street", "version": "3"})
    return OfferedScan(points, scored, f"r{number}", 0.01)


def assert_collected(folder: Path, clouds: list[NDArray[np.float32]], predictor: Predictor) -> None:
    """Each cloud once, its counts and its predicted classes."""
    found = CollectedScans(folder)
    assert found.bad == []
    by_density = {int(found[n].counts["density"][0]): found[n] for n in range(len(found))}
    assert len(found) == len(by_density) == len(clouds)
    for points in clouds:
        record = by_density[len(points)]
        for name, count_B in scan_counts(points).items():
            np.testing.assert_array_equal(record.counts[name], count_B, err_msg=name)
        ids, counts = np.unique(predictor.label_map.to_train(predictor(points)), return_counts=True)
        names = predictor.label_map.class_names
        assert record.classes == {names[i - 1]: int(n) for i, n in zip(ids, counts, strict=True)}


class Stuck:
    """A sink that lets nothing through until it is told."""

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Event()

    def write(self, record: dict[str, Any], request_id: str) -> None:
        self.began.set()
        self.go.wait(30)

    def flush(self, *, all_of_it: bool) -> None:
        pass


# ---- the thread ----------------------------------------------------------------------------------------------------


def test_too_many_are_dropped_and_counted_and_none_waits() -> None:
    sink = Stuck()
    collection = Collection(sink)
    collection.offer(offered())
    assert sink.began.wait(30)
    began = time.monotonic()
    for number in range(40):
        collection.offer(offered(number))
    assert time.monotonic() - began < 1
    assert collection.counts[DROPPED] == 24  # sixteen wait
    sink.go.set()
    collection.close()
    assert collection.counts == {COLLECTED: 17, DROPPED: 24, FAILED: 0}


def test_few_large_clouds_wait() -> None:
    sink = Stuck()
    collection = Collection(sink)
    collection.offer(offered())
    assert sink.began.wait(30)
    large = np.zeros((1_500_000, 3), np.float32)
    for number in range(3):
        collection.offer(offered(number, large))
    assert collection.counts[DROPPED] == 2
    sink.go.set()
    collection.close(30)


def test_probabilities_do_not_wait() -> None:
    sink = Stuck()
    collection = Collection(sink)
    collection.offer(offered())
    assert sink.began.wait(30)
    chances, scan = np.zeros((1500, 19), np.float32), offered(1)
    held = weakref.ref(chances)
    collection.offer(replace(scan, scored=replace(scan.scored, probabilities=chances)))
    del chances
    assert held() is None
    sink.go.set()
    collection.close()
    assert collection.counts[COLLECTED] == 2


def test_what_cannot_be_written_fails_no_scan_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "collected"
    sink = FolderSink(folder, seconds=0)
    folder.rmdir()
    folder.write_text("a file where the folder was")
    with caplog.at_level(logging.WARNING):
        collection = Collection(sink)
        for number in range(3):
            collection.offer(offered(number))
        collection.close()
    assert collection.counts[FAILED] == 3
    assert len([record for record in caplog.records if "collecting failed" in record.message]) == 1


def test_the_share_that_is_collected_is_the_same_everywhere() -> None:
    collections = [Collection(Stuck(), rate=0.25) for _ in range(2)]
    ids = [f"request-{number}" for number in range(4000)]
    chosen = [[one for one in ids if collection.wants(one)] for collection in collections]
    assert chosen[0] == chosen[1]
    assert abs(len(chosen[0]) - 1000) < 5 * np.sqrt(4000 * 0.25 * 0.75)
    for collection in collections:
        collection.close()


def test_files_are_whole_and_turned_over(tmp_path: Path) -> None:
    now = datetime(2026, 11, 14, 6, 59, 30, tzinfo=UTC).timestamp()
    sink = FolderSink(tmp_path, seconds=60, records=3, clock=lambda: now)
    for number in range(4):
        sink.write({"number": number}, "")
        sink.flush(all_of_it=False)
    assert [path.read_text().count("\n") for path in tmp_path.rglob("*") if path.is_file()] == [3]
    now += 61
    sink.flush(all_of_it=False)
    assert {path.parent.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.jsonl")} == {
        "2026/11/14/06",
        "2026/11/14/07",
    }


@pytest.mark.parametrize("words", [["collect_rate=0"], ["collect_rate=1.5"], ["collect=FILE"]])
def test_settings_that_are_refused(words: list[str], bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = [word.replace("FILE", str(tmp_path / "file")) for word in words]
    assert "collect" in run("serve", f"checkpoint={bundle}", "port=0", *words, cwd=tmp_path).message


# ---- the services --------------------------------------------------------------------------------------------------


def test_the_service_collects(bundle: Path, tmp_path: Path) -> None:
    clouds = [CLOUDS[0][:1000], CLOUDS[1][:1100], CLOUDS[2][:1200, :3]]
    with serving(tmp_path, [f"checkpoint={bundle}", "collect=collected"]) as service:
        with httpx.Client(base_url=service.url, timeout=60) as client:
            for points in clouds:
                kind = {"Content-Type": OCTETS}
                body = np.ascontiguousarray(points).tobytes()
                query = f"?columns={points.shape[1]}"
                assert client.post(f"/score{query}", content=body, headers=kind).status_code == 200
            assert client.post("/score", content=b"oh", headers={"Content-Type": OCTETS}).status_code == 400
            end = time.monotonic() + 30
            while "pointseg_collected_total 3.0" not in (said := client.get("/metrics").text):
                assert time.monotonic() < end, said
            assert 'pointseg_dropped_total{reason="queue"} 0.0' in said
        assert service.stop() == 0
    assert_collected(tmp_path / "collected", clouds, Predictor.load(bundle))


class Sidecar(ThreadingHTTPServer):
    """What the data collector's package sends to, in a managed deployment a process beside the container."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], list[dict[str, Any]]]] = []
        sidecar = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sidecar.got.append((self.path, dict(self.headers), json.loads(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def sidecar() -> Iterator[Sidecar]:
    server = Sidecar()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, points: NDArray[np.float32], request_id: str) -> None:
    headers = {"Content-Type": OCTETS, "X-Request-Id": request_id}
    answer = requests.post(f"{url}/score", data=points.tobytes(), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text


@pytest.mark.slow
@pytest.mark.inference_server
def test_azures_server_collects_to_a_folder(bundle: Path, tmp_path: Path) -> None:
    clouds = [CLOUDS[0][:1000], CLOUDS[1][:1100]]
    with inference_server(bundle, tmp_path, POINTSEG_COLLECT=str(tmp_path / "collected")) as server:
        for number, points in enumerate(clouds):
            ask(server.url, points, f"r{number}")
    assert_collected(tmp_path / "collected", clouds, Predictor.load(bundle))


@pytest.mark.slow
@pytest.mark.inference_server
def test_azures_server_collects_by_azures_collector(bundle: Path, sidecar: Sidecar, tmp_path: Path) -> None:
    clouds = [CLOUDS[0][:1000], CLOUDS[1][:1100]]
    settings = {"collections": {"model_inputs": {"enabled": True, "sampleRatePercentage": 100}}}
    (tmp_path / "mdc.json").write_text(json.dumps(settings))
    environment = {"AZUREML_MDC_CONFIG_PATH": str(tmp_path / "mdc.json"), "POINTSEG_COLLECT": "azure"}
    environment |= {"AZUREML_MDC_HOST": "127.0.0.1", "AZUREML_MDC_PORT": str(sidecar.server_port)}
    with inference_server(bundle, tmp_path, **environment) as server:
        for number, points in enumerate(clouds):
            ask(server.url, points, f"r{number}")
    assert len(sidecar.got) == 2, server.said
    path, headers, rows = sidecar.got[0]
    assert path == "/modeldata/log"
    assert headers["ce-type"] == "azureml.inference.model_inputs"
    assert headers["ce-x-request-id"] == rows[0]["request_id"] == "r0"
    parse_record(rows[0])
    write_lines(tmp_path / "collected/a.jsonl", [event(*rows) for _, _, rows in sidecar.got])
    assert_collected(tmp_path / "collected", clouds, Predictor.load(bundle))


@pytest.mark.slow
@pytest.mark.inference_server
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"POINTSEG_COLLECT": "azure"}, "the deployment does not collect"),
        ({"POINTSEG_COLLECT": "x", "POINTSEG_COLLECT_RATE": "2"}, "POINTSEG_COLLECT_RATE"),
    ],
)
def test_azures_server_does_not_start_where_it_could_not_collect(
    settings: dict[str, str], said: str, bundle: Path, tmp_path: Path
) -> None:
    server = start(bundle, tmp_path, free_port(), **settings)
    server.process.wait(120)
    assert f"error: {said}" in server.said or said in server.said
