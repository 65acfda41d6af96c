"""Azure's inference server with our scoring script: the labels are those of prediction, the refusals those of the contract."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import psutil
import pytest
import requests
import zstandard
from conftest import scan_points
from inference_server import Server, free_port, inference_server, start
from numpy.typing import NDArray
from verbs import trained_run

from pointseg import Client, Predictor
from pointseg.core.errors import ServiceError
from pointseg.data.formats import read_cloud
from pointseg.engine.prediction import predict_cloud
from pointseg.engine.prediction.output import model_identity
from pointseg.serving.refusal import Refusal
from pointseg.serving.wire import Limits, decode, read_options, refuse_large_answer

pytestmark = pytest.mark.inference_server

OCTETS = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
JSON = {"Content-Type": "application/json"}
KEY = "k3y-of-the-container"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory) / "bundle"


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle)


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Threads within a worker, as in the container; bodies of up to a megabyte."""
    threads = {"GUNICORN_CMD_ARGS": "--worker-class gthread --threads 4"}
    with inference_server(bundle, tmp_path_factory.mktemp("server"), POINTSEG_BODY_LIMIT="1000000", **threads) as one:
        yield one


def octets(points: NDArray[np.float32]) -> bytes:
    return points.astype("<f4").tobytes()


# ---- labels --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("encoding", ["", "gzip", "zstd"])
@pytest.mark.parametrize("kind", ["json", "octets"])
def test_labels_are_those_of_prediction(
    kind: str, encoding: str, columns: int, server: Server, predictor: Predictor
) -> None:
    points = np.ascontiguousarray(scan_points(3000, seed=columns)[:, :columns])
    expected = predictor.predict(points, probabilities=True)
    body = octets(points) if kind == "octets" else json.dumps({"data": points.tolist()}).encode()
    pack = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}.get(encoding, bytes)
    headers = {**(OCTETS if kind == "octets" else JSON), **({"Content-Encoding": encoding} if encoding else {})}
    query = f"?columns={columns}&probabilities=true"
    answer = requests.post(f"{server.url}/score{query}", data=pack(body), headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    assert (
        [json.loads(answer.headers["X-Notes"])] == [[note.text for note in expected.notes]] if expected.notes else True
    )
    if kind == "octets":
        labels, rows = np.frombuffer(answer.content, "<u4", 3000), np.frombuffer(answer.content, "<f4", offset=12000)
        assert np.array_equal(labels, expected.raw_ids)
        assert np.array_equal(rows.reshape(3000, -1), expected.probabilities)
        return
    content = answer.json()
    assert content["labels"] == expected.raw_ids.tolist()
    assert content["points"] == 3000
    assert content["notes"] == [note.text for note in expected.notes]
    assert {one["id"]: one["points"] for one in content["classes"]} == {
        int(raw): int(count) for raw, count in zip(*np.unique(expected.raw_ids, return_counts=True), strict=True)
    }
    assert np.array_equal(np.array(content["probabilities"], np.float32), expected.probabilities)


def test_two_points_in_json_are_answered(server: Server) -> None:
    answer = requests.post(server.url + "/score", json={"data": [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]}, timeout=30)
    assert answer.status_code == 200
    assert len(answer.json()["labels"]) == 2


def test_the_client_and_this_server(server: Server, predictor: Predictor) -> None:
    points = scan_points(2500, seed=9)[:, :3]
    with Client(server.url + "/score") as client:
        assert client.ready()
        scored = client.score(points, probabilities=True)
        with pytest.raises(ServiceError):
            client.metadata()
    expected = predictor.predict(np.ascontiguousarray(points), probabilities=True)
    assert np.array_equal(scored.labels, expected.raw_ids)
    assert np.array_equal(scored.probabilities, expected.probabilities)
    assert scored.notes == tuple(note.text for note in expected.notes)
    assert set(scored.timing) == {"read", "wait", "predict", "write"}
    assert scored.model == f"PointNetSeg/{model_identity(predictor.trained)[:12]}"


@pytest.mark.real
def test_a_real_scan(bundle: Path, predictor: Predictor, real_root: Path, tmp_path: Path) -> None:
    path = sorted(real_root.glob("sequences/08/velodyne/*.bin"))[0]
    with inference_server(bundle, tmp_path) as server, Client(server.url, compression="zstd") as client:
        scored = client.score_file(path)
    assert np.array_equal(scored.labels, predict_cloud(predictor, read_cloud(path)).raw_ids)


def test_many_callers_at_once_each_get_their_own(server: Server, predictor: Predictor) -> None:
    scans = [scan_points(500 + 100 * number, seed=number) for number in range(12)]
    answers: dict[int, NDArray[np.uint32]] = {}

    def ask(number: int) -> None:
        with Client(server.url) as client:
            answers[number] = client.score(scans[number]).labels

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(scans))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, points in enumerate(scans):
        assert np.array_equal(answers[number], predictor(points))


# ---- refusals ------------------------------------------------------------------------------------------------------

ROWS = octets(scan_points(10, seed=1))
REFUSED = {
    "bad JSON": (b'{"data": [[1, 2', "", JSON, 400),
    "NaN in JSON": (b'{"data": [[1, 2, NaN]]}', "", JSON, 400),
    "half a row": (ROWS[:-4], "", OCTETS, 400),
    "not gzip": (ROWS, "", {**OCTETS, "Content-Encoding": "gzip"}, 400),
    "cut gzip": (gzip.compress(ROWS)[:-5], "", {**OCTETS, "Content-Encoding": "gzip"}, 400),
    "cut zstd": (zstandard.compress(ROWS)[:-5], "", {**OCTETS, "Content-Encoding": "zstd"}, 400),
    "a bomb": (gzip.compress(bytes(200 << 20)), "", {**OCTETS, "Content-Encoding": "gzip"}, 413),
    "too much to answer": (
        gzip.compress(bytes(16 * 500_000), mtime=0),
        "?probabilities=true",
        {"Content-Type": OCTETS["Content-Type"], "Content-Encoding": "gzip"},
        413,
    ),
    "another kind": (ROWS, "", {**OCTETS, "Content-Type": "text/csv"}, 415),
    "no kind": (ROWS, "", {}, 415),
    "a form": (ROWS, "", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
    "another encoding": (ROWS, "", {**OCTETS, "Content-Encoding": "br"}, 415),
    "another answer": (ROWS, "", {**OCTETS, "Accept": "text/html"}, 406),
    "no points": (b"", "", OCTETS, 422),
    "NaN": (np.full((3, 4), np.nan, "<f4").tobytes(), "", OCTETS, 422),
    "ragged rows": (b'{"data": [[1, 2, 3], [1, 2, 3, 4]]}', "", JSON, 422),
    "text": (b'{"data": [["a", "b", "c"]]}', "", JSON, 422),
    "another key": (b'{"data": [[1, 2, 3]], "method": "x"}', "", JSON, 422),
    "another option": (ROWS, "?colums=3", OCTETS, 422),
    "an option twice": (ROWS, "?columns=4&columns=4", OCTETS, 422),
    "another value": (ROWS, "?probabilities=maybe", OCTETS, 422),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_are_those_of_the_contract(case: str, server: Server) -> None:
    body, query, headers, status = REFUSED[case]
    request_id = f"case-{list(REFUSED).index(case)}"
    sent = {**headers, "X-Request-Id": request_id}
    answer = requests.post(f"{server.url}/score{query}", data=body, headers=sent, timeout=60)
    assert answer.status_code == status, answer.text
    assert answer.json() == json.loads(_wire_says(body, query, headers).body(request_id))
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-Id"] == request_id


def _wire_says(body: bytes, query: str, headers: dict[str, str]) -> Refusal:
    if "&" in query:
        return Refusal(422, "'columns' is given twice", where="query", remedy="Give it once.")
    try:
        options = read_options(dict(parse_qsl(query.lstrip("?"))), headers.get("Accept"))
        encoding = headers.get("Content-Encoding")
        points = decode(body, headers.get("Content-Type"), encoding, options, Limits(body=1_000_000))
        refuse_large_answer(len(points), 19, options, Limits())
    except Refusal as refusal:
        return refusal
    pytest.fail("nothing is wrong with it")


def test_other_methods(server: Server) -> None:
    answer = requests.get(server.url + "/score", timeout=30)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert answer.json()["error"]["what"] == "this method is not allowed here"


def chunks(count: int) -> Iterator[bytes]:
    yield from (bytes(100_000) for _ in range(count))


def test_a_body_beyond_the_limit_is_refused_and_the_answer_arrives(server: Server) -> None:
    for body in (bytes(1_000_016), chunks(20)):  # with its length said before, and without
        answer = requests.post(server.url + "/score", data=body, headers=OCTETS, timeout=30)
        assert answer.status_code == 413, answer.text
        assert "more than 1,000,000 bytes" in answer.json()["error"]["what"]


def test_a_body_without_a_length_is_read(server: Server, predictor: Predictor) -> None:
    points = scan_points(300, seed=4)
    parts = iter([octets(points[:100]), octets(points[100:])])
    answer = requests.post(server.url + "/score", data=parts, headers=OCTETS, timeout=30)
    assert np.array_equal(np.frombuffer(answer.content, "<u4"), predictor(points))


def test_a_body_that_is_cut_off_harms_nobody(server: Server, predictor: Predictor) -> None:
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname, place.port)) as caller:
        caller.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\n")
        caller.sendall(b"Content-Length: 1600\r\n\r\n" + bytes(160))
        caller.shutdown(socket.SHUT_WR)
        assert b" 400 " in caller.recv(200)
    points = scan_points(40, seed=5)
    with Client(server.url) as client:
        assert np.array_equal(client.score(points).labels, predictor(points))


@pytest.mark.parametrize("given", ["two words", "x" * 101, "a/b"])
def test_a_request_id_that_is_none_is_replaced(given: str, server: Server) -> None:
    answer = requests.post(server.url + "/score", data=b"", headers={"X-Request-Id": given}, timeout=30)
    if len(given) > 100:  # the server itself refuses these before our script sees them
        assert answer.status_code == 431
        return
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] != given


# ---- the process ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_with_a_key(bundle: Path, predictor: Predictor, tmp_path: Path) -> None:
    points = scan_points(700, seed=6)
    with inference_server(bundle, tmp_path, WORKER_COUNT="2", POINTSEG_API_KEY=KEY) as server:
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == 2, [one.cmdline() for one in workers]
        for _ in range(6):
            with Client(server.url, KEY) as client:
                assert np.array_equal(client.score(points).labels, predictor(points))
        for wrong, said in (("other", "the key is not right"), (None, "a key is needed"), (KEY + "x", "is not right")):
            with Client(server.url, wrong) as client, pytest.raises(ServiceError, match=said) as refused:
                client.score(points)
            assert refused.value.status == 401
        answer = requests.post(server.url + "/score", data=bytes(160), headers=OCTETS, timeout=30)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert server.said.count("Loaded /") == 2
        assert KEY not in server.said


@pytest.mark.slow
def test_cores_are_shared_between_workers(bundle: Path, tmp_path: Path) -> None:
    cores = len(psutil.Process().cpu_affinity())
    with inference_server(bundle, tmp_path, WORKER_COUNT="2", OMP_NUM_THREADS="") as server:
        assert server.said.count(f"{max(1, cores // 2)} threads; callers need no key") == 2


@pytest.mark.slow
def test_a_time_limit_ends_with_504(bundle: Path, tmp_path: Path) -> None:
    with inference_server(bundle, tmp_path, POINTSEG_TIME_LIMIT="0.01") as server:
        answer = requests.post(server.url + "/score", data=octets(scan_points(200_000, 7)), headers=OCTETS, timeout=30)
        assert answer.status_code == 504, answer.text
        assert "time limit" in answer.json()["error"]["what"]


def two_bundles(folder: Path, bundle: Path) -> None:
    for name in ("a", "b"):
        (folder / name).mkdir()
        for file in bundle.iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())


def damaged(folder: Path, bundle: Path) -> None:
    (folder / "model.yaml").write_bytes((bundle / "model.yaml").read_bytes())
    (folder / "weights.safetensors").write_bytes((bundle / "weights.safetensors").read_bytes()[:-100])


def nothing(folder: Path, bundle: Path) -> None:
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (two_bundles, "there are 2 bundles (a, b)"),
        (damaged, "not those that were written"),
        (nothing, "there is no bundle"),
    ],
)
def test_a_broken_model_stops_the_server_at_its_start(make: object, said: str, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    make(tmp_path / "model", bundle)  # type: ignore[operator]
    server = start(tmp_path / "model", tmp_path, free_port())
    assert server.process.wait(90) != 0
    lines = [line for line in server.said.splitlines() if "error: " in line]
    assert lines and all(said in line for line in lines), server.said


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("WORKER_PRELOAD", "true", "do not go over to processes that are forked"),
        ("POINTSEG_API_KEY", "short", "the key has 5 characters"),
        ("POINTSEG_TIME_LIMIT", "soon", "'soon' is no number above 0"),
    ],
)
def test_settings_that_cannot_be_used_stop_it_too(
    name: str, value: str, said: str, bundle: Path, tmp_path: Path
) -> None:
    server = start(bundle, tmp_path, free_port(), **{name: value})
    assert server.process.wait(90) != 0
    assert said in next(line for line in server.said.splitlines() if "error: " in line)


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["", "--worker-class gthread --threads 2"], ids=["processes", "threads"])
def test_callers_that_are_too_slow_are_let_go(workers: str, bundle: Path, tmp_path: Path) -> None:
    with inference_server(bundle, tmp_path, POINTSEG_BODY_SECONDS="2", GUNICORN_CMD_ARGS=workers) as server:
        for pause in (60.0, 0.3):  # nothing more comes; a few bytes come now and then
            began = time.monotonic()
            assert b" 408 " in _answer_to_a_slow_caller(server.url, pause)
            assert 1.9 < time.monotonic() - began < 30


def _answer_to_a_slow_caller(url: str, pause: float) -> bytes:
    place = urlsplit(url)
    head = b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/octet-stream\r\nContent-Length: 1600\r\n\r\n"
    with socket.create_connection((place.hostname, place.port)) as caller:
        caller.sendall(head)
        caller.settimeout(pause)
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                caller.sendall(b"1234")
                return caller.recv(200)
    return b""
