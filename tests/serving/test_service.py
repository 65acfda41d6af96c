"""The service as its callers see it: a real process, real clients, answers equal to the predictor's."""

from __future__ import annotations

import gzip
import io
import json
import socket
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zstandard
from conftest import scan_points
from numpy.typing import NDArray
from service import KEY, OCTETS, TOKEN, Service, head, is_refusal, read_answer, serving, write_bundle
from verbs import run

from pointseg.engine.predictor import Predictor

LIMITS = ["limits.body=2MB", "limits.expanded=3MB", "limits.text=300kB", "limits.points=100000", "limits.held=2MB"]
LIMITS += ["limits.answer=1MB"]
POINTS = scan_points(3000, seed=3)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def service(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    words = [f"checkpoint={bundle}", *LIMITS, "body_seconds=1.5", "header_seconds=1.5"]
    secrets = {"POINTSEG_API_KEY": KEY, "POINTSEG_ADMIN_TOKEN": TOKEN}
    with serving(tmp_path_factory.mktemp("service"), words, **secrets) as running:
        yield running


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as opened:
        yield opened


@pytest.fixture(scope="module")
def predictor(bundle: Path) -> Predictor:
    return Predictor.load(bundle)


def npy(points: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, points)
    return file.getvalue()


def csv(points: NDArray[Any]) -> bytes:
    lines = ["x,y,z,intensity", *(",".join(map(repr, row)) for row in points.tolist())]
    return "\n".join(lines).encode()


def octets(answer: httpx.Response) -> NDArray[np.uint32]:
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<u4")


# ---- what it answers ---------------------------------------------------------------------------------------------------


def test_json_is_what_the_predictor_says(client: httpx.Client, predictor: Predictor) -> None:
    points = POINTS[:500]
    answer = client.post("/score?probabilities=true", json={"data": points.tolist()})
    raw_ids, chances = predictor(points, probabilities=True)
    content = answer.json()
    assert content["labels"] == raw_ids.tolist()
    assert np.array_equal(np.array(content["probabilities"], np.float32), chances)
    assert [row["points"] for row in content["classes"]] == sorted(np.unique(raw_ids, return_counts=True)[1])[::-1]
    assert {row["id"] for row in content["classes"]} == set(raw_ids.tolist())
    assert (content["points"], content["notes"]) == (500, [])
    assert len(content["probability_classes"]) == 19


@pytest.mark.parametrize("encoding", ["identity", "gzip", "zstd"])
def test_octets_are_what_the_predictor_says(encoding: str, client: httpx.Client, predictor: Predictor) -> None:
    pack = {"identity": bytes, "gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}[encoding]
    headers = {"Content-Type": OCTETS, "Content-Encoding": encoding, "Accept": OCTETS}
    answer = client.post("/score", content=pack(POINTS.tobytes()), headers=headers)
    assert np.array_equal(octets(answer), predictor(POINTS))
    assert answer.headers["X-Points"] == "3000"
    assert answer.headers["Content-Type"] == OCTETS


def test_rows_of_three_are_predicted_with_a_note(client: httpx.Client, predictor: Predictor) -> None:
    xyz = np.ascontiguousarray(POINTS[:, :3])
    headers = {"Content-Type": OCTETS, "Accept": OCTETS}
    answer = client.post("/score?columns=3&probabilities=true", content=xyz.tobytes(), headers=headers)
    with pytest.warns(UserWarning, match="no remission"):
        raw_ids, chances = predictor(xyz, probabilities=True)
    assert answer.content == raw_ids.astype("<u4").tobytes() + chances.tobytes()
    assert "no remission" in json.loads(answer.headers["X-Notes"])[0]


@pytest.mark.parametrize("kind", ["npy", "csv"])
def test_a_file_is_read_as_predict_reads_it(kind: str, client: httpx.Client, predictor: Predictor) -> None:
    body = {"npy": npy, "csv": csv}[kind](POINTS)
    answer = client.post("/score", files={"file": (f"Straße.{kind.upper()}", body)}, headers={"Accept": OCTETS})
    assert np.array_equal(octets(answer), predictor(POINTS))


def test_points_of_a_file_come_back_on_demand_and_nan_gets_no_class(client: httpx.Client, predictor: Predictor) -> None:
    points = POINTS[:100].copy()
    points[7] = np.nan
    headers = {"Accept": OCTETS}
    answer = client.post("/score?points=true", files={"file": ("a.npy", npy(points))}, headers=headers)
    assert np.array_equal(np.frombuffer(answer.content[:400], "<u4")[:7], predictor(np.delete(points, 7, 0))[:7])
    assert np.frombuffer(answer.content[:400], "<u4")[7] == 0
    assert answer.content[400:] == np.ascontiguousarray(points[:, :3]).tobytes()


def test_every_answer_has_an_id_and_its_times(client: httpx.Client, service: Service) -> None:
    given = client.post("/score", json={"data": [[1, 2, 3, 0.1]]}, headers={"X-Request-Id": "mine-1"})
    made = client.post("/score", json={"data": [[1, 2, 3, 0.1]]}, headers={"X-Request-Id": "no spaces"})
    assert given.headers["X-Request-Id"] == "mine-1"
    assert made.headers["X-Request-Id"] not in ("", "no spaces")
    stages = [part.split(";dur=") for part in given.headers["Server-Timing"].split(", ")]
    assert [name for name, _ in stages] == ["read", "wait", "predict", "write"]
    assert all(float(value) >= 0 for _, value in stages)
    assert given.headers["X-Model"] == service.model


# ---- what it refuses ---------------------------------------------------------------------------------------------------

JSON = {"Content-Type": "application/json"}
RAW = {"Content-Type": OCTETS}
BOMB = bytes(8_000_000)
FORM = {"Content-Type": "multipart/form-data; boundary=X"}


@pytest.mark.parametrize(
    ("status", "path", "body", "headers"),
    [
        pytest.param(400, "/score", b'{"data": [[1, 2', JSON, id="JSON cut short"),
        pytest.param(400, "/score", b'{"data": [[1, 2, NaN]]}', JSON, id="NaN in JSON"),
        pytest.param(400, "/score", bytes(15), RAW, id="15 octets"),
        pytest.param(
            400,
            "/score",
            gzip.compress(bytes(16), mtime=0)[:-4],
            {**RAW, "Content-Encoding": "gzip"},
            id="gzip cut short",
        ),
        pytest.param(400, "/score", b"no frame", {**RAW, "Content-Encoding": "zstd"}, id="no zstd frame"),
        pytest.param(400, "/score", b"--Y\r\n", FORM, id="form without a part"),
        pytest.param(
            400,
            "/score",
            b"--X\r\nContent-Disposition: form-data; name=file; filename=a.npy\r\n\r\nabc",
            FORM,
            id="form cut short",
        ),
        pytest.param(404, "/scores", b"", JSON, id="another path"),
        pytest.param(406, "/score", b'{"data": [[1, 2, 3]]}', {**JSON, "Accept": "text/html"}, id="HTML wanted"),
        pytest.param(413, "/score", bytes(2_000_016), RAW, id="octets over the limit"),
        pytest.param(413, "/score", gzip.compress(BOMB, mtime=0), {**RAW, "Content-Encoding": "gzip"}, id="gzip bomb"),
        pytest.param(
            413,
            "/score",
            zstandard.ZstdCompressor().compress(BOMB),
            {**RAW, "Content-Encoding": "zstd"},
            id="zstd bomb",
        ),
        pytest.param(
            413, "/score", b'{"data": [' + b"[1,2,3]," * 40_000 + b"[1,2,3]]}", JSON, id="too many JSON points"
        ),
        pytest.param(413, "/score?columns=3", bytes(12 * 100_001), RAW, id="too many octet points"),
        pytest.param(413, "/score?probabilities=true", bytes(16 * 20_000), RAW, id="too much to answer"),
        pytest.param(415, "/score", b"1,2,3", {"Content-Type": "text/csv"}, id="CSV"),
        pytest.param(415, "/score", bytes(16), {}, id="no type"),
        pytest.param(415, "/score", bytes(16), {**RAW, "Content-Encoding": "br"}, id="brotli"),
        pytest.param(422, "/score", b'{"data": []}', JSON, id="no points"),
        pytest.param(422, "/score", b'{"data": [[1, 2, 3], [1, 2]]}', JSON, id="ragged"),
        pytest.param(422, "/score", b'{"data": [[1, 2, 3]], "more": 1}', JSON, id="unknown key"),
        pytest.param(422, "/score", b'{"data": [[1, 2, 1e39]]}', JSON, id="beyond float32"),
        pytest.param(422, "/score", np.array([1, 2, 3, np.inf], "<f4").tobytes(), RAW, id="infinite"),
        pytest.param(422, "/score?colums=3", bytes(12), RAW, id="unknown parameter"),
        pytest.param(422, "/score?columns=3&columns=4", bytes(12), RAW, id="parameter twice"),
        pytest.param(422, "/score?points=true", bytes(16), RAW, id="no number"),
        pytest.param(
            422,
            "/score",
            b"--X\r\nContent-Disposition: form-data; name=other\r\n\r\nabc\r\n--X--\r\n",
            FORM,
            id="form without a file",
        ),
    ],
)
def test_what_cannot_be_scored_is_refused(
    status: int, path: str, body: bytes, headers: dict[str, str], client: httpx.Client
) -> None:
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert is_refusal(answer.content)
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("status", "name", "content"),
    [
        (400, "a.npy", b"\x93NUMPY"),
        (400, "a.las", b"LASF" + bytes(300)),
        (400, "a.csv", b"a,b\n1,2\n"),
        (413, "a.npy", npy(np.zeros((100_001, 3), np.float32))),
        (415, "a.e57", b"abc"),
        (415, "a", b"abc"),
    ],
)
def test_files_that_cannot_be_read_are_refused(status: int, name: str, content: bytes, client: httpx.Client) -> None:
    answer = client.post("/score", files={"file": (name, content)})
    assert answer.status_code == status, answer.text
    assert is_refusal(answer.content)
    assert "/tmp" not in answer.text


def test_small_archives_of_much_are_refused_before_they_are_opened(client: httpx.Client) -> None:
    file = io.BytesIO()
    np.savez_compressed(file, points=np.zeros((1_000_000, 4), np.float32))
    answer = client.post("/score", files={"file": ("a.npz", file.getvalue())})
    assert (answer.status_code, is_refusal(answer.content)) == (413, True)
    header = b"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 9\nHEIGHT 1\nPOINTS 9\nDATA binary_compressed\n"
    answer = client.post("/score", files={"file": ("a.pcd", header + b"\xff\0\0\0\xff\xff\xff\x7f" + bytes(255))})
    assert (answer.status_code, is_refusal(answer.content)) == (413, True)


@pytest.mark.parametrize(
    "given", [None, "Bearer wrong-key-0123456789", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer \xff"]
)
@pytest.mark.parametrize("path", ["/score", "/metadata", "/metrics", "/admin/reload"])
def test_without_the_key_there_is_nothing(given: str | None, path: str, service: Service) -> None:
    method = "POST" if path in ("/score", "/admin/reload") else "GET"
    headers = {} if given is None else {"Authorization": given.encode("latin-1")}
    answer = httpx.request(method, service.url + path, headers=headers)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert is_refusal(answer.content)


def test_the_key_is_not_the_token(service: Service) -> None:
    answer = httpx.post(f"{service.url}/admin/reload", headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 401


def test_another_method_is_refused(client: httpx.Client) -> None:
    answer = client.put("/score", content=b"x")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
    assert is_refusal(answer.content)


def test_a_body_that_does_not_come_is_not_waited_for(service: Service) -> None:
    with service.connect() as connection:
        connection.sendall(head(Content_Length="1600") + bytes(16))
        status, body = read_answer(connection)
    assert (status, is_refusal(body)) == (408, True)


def test_a_head_that_does_not_come_is_not_waited_for(service: Service) -> None:
    with service.connect() as silent, service.connect() as slow:
        slow.sendall(head()[:-2])
        status, body = read_answer(slow)
        assert (status, is_refusal(body)) == (408, True)
        assert silent.recv(1) == b""


def test_what_is_no_http_is_refused_in_the_same_form(service: Service) -> None:
    for sent, wanted in ((b"\x16\x03\x01 hello\r\n\r\n", 400), (head()[:-2] + b"X: " + b"y" * 200_000, 431)):
        with service.connect() as connection:
            connection.sendall(sent)
            status, body = read_answer(connection)
            assert (status, is_refusal(body)) == (wanted, True)


def metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_bodies_in_memory_are_bounded(service: Service, client: httpx.Client) -> None:
    with service.connect() as first, service.connect() as second:
        first.sendall(head(Content_Length="1600000") + bytes(1_500_000))
        while metric(client, "pointseg_held_bytes") < 1_500_000:
            time.sleep(0.01)
        second.sendall(head(Content_Length="1600000") + bytes(1_600_000))
        status, body = read_answer(second)
        assert (status, is_refusal(body)) == (503, True)
        first.sendall(bytes(100_000))
        assert read_answer(first)[0] == 200
        second.sendall(head(Content_Length="16") + bytes(16))  # on the same connection
        assert read_answer(second)[0] == 200


# ---- what it tells of itself ---------------------------------------------------------------------------------------------


def test_states(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_metadata(client: httpx.Client, predictor: Predictor, service: Service) -> None:
    content = client.get("/metadata").json()
    assert "/".join((content["model"]["name"], content["model"]["version"])) == service.model
    assert [row["name"] for row in content["classes"]] == list(predictor.label_map.class_names)
    assert (content["limits"]["body_bytes"], content["limits"]["answer_bytes"]) == (2_000_000, 1_000_000)


def test_metrics_count(client: httpx.Client) -> None:
    value = partial(metric, client)
    before = value("pointseg_points_total"), value('pointseg_requests_total{route="/score",status="200"}')
    client.post("/score", json={"data": [[1, 2, 3, 0.1]] * 11})
    assert value("pointseg_points_total") - before[0] == 11
    assert value('pointseg_requests_total{route="/score",status="200"}') - before[1] == 1
    assert value("pointseg_model_info") == 1
    assert value('pointseg_stage_seconds_count{stage="predict"}') > 0


def test_the_log_tells_requests_and_no_secrets(client: httpx.Client, service: Service) -> None:
    client.post("/score", json={"data": [[123.456, 2, 3, 0.1]]}, headers={"X-Request-Id": "in-the-log"})
    line = service.line_of("in-the-log")
    assert (line["route"], line["status"], line["points"]) == ("/score", 200, 1)
    assert line["received"] > 0 and line["predict_ms"] > 0
    text = service.log.read_text(encoding="utf-8")
    assert not [word for word in (KEY, TOKEN, "123.456", "Straße") if word in text]


def test_pages_fetch_nothing_from_elsewhere(client: httpx.Client) -> None:
    for path in ("/", "/docs"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "https://" not in answer.text


def test_a_reload_of_the_same_keeps_the_version_and_one_that_fails_keeps_the_model(
    client: httpx.Client, service: Service
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    again = client.post("/admin/reload", headers=headers)
    assert (
        again.status_code == 200
        and "/".join([again.json()["model"][key] for key in ("name", "version")]) == service.model
    )
    failed = client.post("/admin/reload", headers=headers, json={"checkpoint": "/nowhere"})
    assert failed.status_code == 422
    assert "does not exist" in failed.json()["error"]["what"]
    assert client.post("/admin/reload", headers=headers, content=b"[1]").status_code == 422
    assert client.post("/score", json={"data": [[1, 2, 3, 0.1]]}).headers["X-Model"] == service.model


def test_the_documented_examples_are_true(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    score = document["paths"]["/score"]["post"]
    asked = score["requestBody"]["content"]["application/json"]["examples"]
    answered = score["responses"]["200"]["content"]["application/json"]["examples"]
    assert set(asked) == set(answered)
    for name, example in asked.items():
        assert client.post("/score", json=example["value"]).json() == answered[name]["value"]
    wrong = {
        "400": {"content": b'{"data": [[1, 2, 3], [4, 5', "headers": JSON},
        "406": {"content": b"", "headers": {**JSON, "Accept": "text/html"}},
        "422": {"content": b'{"data": []}', "headers": JSON},
        "401": {"headers": {"Authorization": ""}},
    }
    for status, request in wrong.items():
        answer = client.post("/score", **request)  # type: ignore[arg-type]
        example = score["responses"][status]["content"]["application/json"]["example"]
        assert answer.json()["error"] == example["error"]


def test_all_routes_are_documented(client: httpx.Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/score", "/healthz", "/readyz", "/metadata", "/metrics", "/sample.bin", "/admin/reload"}
    for path in paths:
        assert client.request("GET" if "get" in paths[path] else "POST", path).status_code != 404


# ---- what it refuses to begin --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["host=0.0.0.0"], "POINTSEG_API_KEY"),
        (["checkpoint=null"], "checkpoint=RUN_FOLDER"),
        (["checkpoint=nowhere"], "nowhere"),
        (["compute=aml_gpu"], "scripts/deploy.py"),
        (["port=70000"], "port"),
        (["workers=5", "threads=2"], "workers"),
        (["threads=0"], "threads"),
        (["limits.body=much"], "limits.body"),
        (["limits.held=1kB"], "limits.held"),
        (["time_limit=0"], "time_limit"),
        (["key_file=nokey"], "nokey"),
        (["key_file=short"], "16"),
        (["tls.key=short"], "tls.certificate"),
        (["tls.key=short", "tls.certificate=short"], "PEM"),
        (["-m", "port=1,2"], "-m"),
        (["views.count=0"], "views"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(
    words: list[str], named: str, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "short").write_text("secret")
    given = [] if any(word.startswith("checkpoint=") for word in words) else [f"checkpoint={bundle}"]
    port = [] if any("port=" in word for word in words) else ["port=0"]
    assert named in run("serve", *given, *port, *words, cwd=tmp_path).message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["short"]


def test_a_port_that_is_taken_is_said(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"127.0.0.1:{port}" in run("serve", f"checkpoint={bundle}", f"port={port}", cwd=tmp_path).message
