"""The client against a real HTTP server: what is sent, what comes of the answer, what is tried again and what is said."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points
from small_server import CLASSES, Handler, Service, labels_of, small_service

from pointseg import Client
from pointseg.core.errors import ConfigError, DataError, ServiceError
from pointseg.serving.transport import ADVICE

KEY = "k3y-of-the-service"
Fault = Callable[[Handler], None]


@pytest.fixture
def service() -> Iterator[Service]:
    with small_service() as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, KEY, timeout=20) as made:
        yield made


def refusal(status: int, **headers: str) -> Fault:
    return lambda handler: handler.refuse(status, f"made up {status}", **headers)


# ---- what is sent and what comes back ------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [3, 4])
@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_the_points_arrive_and_the_labels_come_back(compression: str, columns: int, service: Service) -> None:
    points = scan_points(500, seed=1)[:, :columns]
    with Client(service.url + "/score", compression=compression) as client:
        scored = client.score(points.astype(np.float64))
    assert np.array_equal(service.seen[0].points, points)
    assert scored.labels.dtype == np.uint32
    assert np.array_equal(scored.labels, labels_of(points))
    assert scored.probabilities is None


def test_what_an_answer_says_beside_its_labels(client: Client, service: Service) -> None:
    scored = client.score(scan_points(50, seed=2), probabilities=True)
    assert scored.probabilities is not None
    assert np.array_equal(scored.probabilities, np.tile(np.arange(CLASSES), (50, 1)))
    assert scored.notes == ("a note, with a comma", "é")
    assert scored.timing == {"read": 1.5, "wait": 0.1, "predict": 20.25, "write": 0.5}
    assert scored.model == "street/3"
    assert scored.request_id == service.seen[0].headers["X-Request-Id"]
    assert scored.seconds > 0


def test_the_key_and_the_deployment_are_sent(service: Service) -> None:
    with Client(service.url, KEY, deployment="blue") as client:
        client.score(scan_points(5, seed=3))
    assert service.seen[0].headers["Authorization"] == f"Bearer {KEY}"
    assert service.seen[0].headers["azureml-model-deployment"] == "blue"


def test_without_a_key_none_is_taken_from_netrc(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Client(service.url) as client:
        client.score(scan_points(5, seed=3))
    assert "Authorization" not in service.seen[0].headers


def test_a_file_with_points_that_are_not_finite(client: Client, service: Service, tmp_path: Path) -> None:
    points = scan_points(40, seed=4)
    points[[3, 7], [0, 3]] = np.nan, np.inf
    points.tofile(tmp_path / "scan.bin")
    scored = client.score_file(tmp_path / "scan.bin", probabilities=True)
    lost = np.isin(np.arange(40), [3, 7])
    assert np.array_equal(service.seen[0].points, points[~lost])
    assert np.array_equal(scored.labels[~lost], labels_of(points[~lost]))
    assert not scored.labels[lost].any()
    assert scored.probabilities is not None and scored.probabilities.shape == (40, CLASSES)
    assert not scored.probabilities[lost].any()
    assert any("2 of 40 points are NaN" in note for note in scored.notes)


@pytest.mark.parametrize(
    "points",
    [
        np.zeros((0, 4), np.float32),
        np.zeros((5, 5), np.float32),
        np.zeros(8, np.float32),
        np.full((5, 4), np.nan),
        np.full((5, 4), 1e300),
        np.full((5, 4), "one"),
    ],
)
def test_what_is_no_scan_is_not_sent(points: np.ndarray, client: Client, service: Service) -> None:
    with pytest.raises(DataError):
        client.score(points)
    assert not service.seen


def test_a_body_beyond_the_limit_is_not_sent(service: Service) -> None:
    with Client(service.url, max_body=1000) as client, pytest.raises(DataError, match="1,600 bytes"):
        client.score(scan_points(100, seed=5))
    assert not service.seen


# ---- tried again ---------------------------------------------------------------------------------------------------


def cut_off(handler: Handler) -> None:
    handler.say(200, b"1234", {"Content-Type": "application/octet-stream"}, length=400)
    handler.close_connection = True


def hang_up(handler: Handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


@pytest.mark.parametrize(
    ("faults", "least"),
    [
        ([refusal(503, Retry_After="1")], 1.0),
        ([refusal(429)], 0.5),
        ([hang_up], 0.5),
        ([cut_off], 0.5),
        ([refusal(424, ms_azureml_model_error_statuscode="503", Retry_After="0")], 0.0),
    ],
    ids=["503 with a time", "429", "no answer", "cut off", "503 behind an Azure endpoint"],
)
def test_what_may_pass_is_tried_again(faults: list[Fault], least: float, client: Client, service: Service) -> None:
    service.faults = list(faults)
    points, began = scan_points(60, seed=6), time.monotonic()
    assert np.array_equal(client.score(points).labels, labels_of(points))
    assert time.monotonic() - began >= least
    assert len(service.scored) == len(faults) + 1
    assert len({request.headers["X-Request-Id"] for request in service.scored}) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 408, 413, 415, 422, 500, 502, 504])
def test_what_does_not_pass_is_not_tried_again(status: int, client: Client, service: Service) -> None:
    service.faults = [refusal(status)] * 3
    with pytest.raises(ServiceError, match=f"made up {status}") as refused:
        client.score(scan_points(5, seed=7))
    assert refused.value.status == status
    assert refused.value.remedy == ("Mend it." if status != 401 else ADVICE[401][1])  # the service's own, but for 401
    assert len(service.scored) == 1


def test_retries_end(service: Service) -> None:
    service.faults = [refusal(503, Retry_After="0")] * 9
    with Client(service.url, retries=2) as client, pytest.raises(ServiceError, match="made up 503") as refused:
        client.score(scan_points(5, seed=8))
    assert refused.value.status == 503
    assert len(service.scored) == 3


def test_a_time_to_wait_beyond_the_limit_is_not_waited_for(service: Service) -> None:
    service.faults = [refusal(503, Retry_After="3600")] * 2
    began = time.monotonic()
    with Client(service.url, timeout=5) as client, pytest.raises(ServiceError, match="made up 503"):
        client.score(scan_points(5, seed=8))
    assert time.monotonic() - began < 4
    assert len(service.scored) == 1


def slow(handler: Handler) -> None:
    time.sleep(3)


def trickle(handler: Handler) -> None:
    handler.say(200, b"", {"Content-Type": "application/octet-stream"}, length=400)
    for _ in range(30):
        handler.wfile.write(b"1")
        time.sleep(0.1)


@pytest.mark.parametrize("fault", [slow, trickle])
def test_a_slow_answer_ends_with_the_time_limit(fault: Fault, service: Service) -> None:
    service.faults = [fault]
    began = time.monotonic()
    with Client(service.url, timeout=0.6) as client, pytest.raises(ServiceError, match=r"no answer within 0\.6 s"):
        client.score(scan_points(100, seed=9))
    assert time.monotonic() - began < 2


# ---- what is said --------------------------------------------------------------------------------------------------


def plain(status: int, body: bytes, kind: str) -> Fault:
    return lambda handler: handler.say(status, body, {"Content-Type": kind})


OCTETS = "application/octet-stream"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (plain(401, b"", "text/plain"), "the key is missing or wrong"),
        (plain(413, b"", "text/html"), "too large for the service"),
        (plain(415, b"{}", "application/json"), "does not take this kind of body"),
        (plain(424, b"boom", "text/plain"), "the model failed behind its endpoint"),
        (plain(500, b'{"message": "boom"}', "application/json"), r"status 500 \(boom\)"),
        (plain(200, b"1234", OCTETS), "4 bytes, which are not the labels of 10 points"),
        (plain(200, b"1" * 44, OCTETS), "44 bytes, which are not the labels of 10 points"),
        (plain(200, b"1" * (5 << 20), OCTETS), "longer than"),
        (plain(200, b"<html>Log in</html>", "text/html"), "text/html, which no scoring service"),
        (plain(404, b"", "text/html"), "there is nothing to score with"),
    ],
)
def test_answers_of_others_are_explained(fault: Fault, said: str, service: Service) -> None:
    service.faults = [fault]
    with Client(service.url) as client, pytest.raises(ServiceError, match=said):
        client.score(scan_points(10, seed=10))


def test_nothing_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    client = Client(url, retries=0)
    assert not client.ready()
    with pytest.raises(ServiceError, match="nothing listens there"):
        client.score(scan_points(5, seed=11))


def test_a_certificate_that_nobody_trusts(tmp_path: Path) -> None:
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1", *files]
    subprocess.run(make, check=True, capture_output=True)
    with small_service(certificate=tmp_path) as service, Client(service.url) as client:
        for ask in (client.ready, lambda: client.score(scan_points(5, seed=12))):
            with pytest.raises(ServiceError, match="certificate is not trusted"):
                ask()
        assert not service.seen


def test_ready_and_metadata(client: Client, service: Service) -> None:
    assert client.ready()
    with pytest.raises(ServiceError, match="there is no such address"):
        client.metadata()
    service.metadata = {"model": {"name": "street"}, "classes": []}
    assert client.metadata() == service.metadata
    service.metadata = {"other": 1}
    with pytest.raises(ServiceError, match="which no scoring service of pointseg gives"):
        client.metadata()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:8000", "no address of a service"),
        ("ftp://host/score", "no address of a service"),
        ("http://host:port/", "no address of a service"),
        ("https://host/score?key=abc", "no address of a service"),
        ("https://me:s3cret@host/score", "a name or password in it"),
    ],
)
def test_addresses_that_are_none(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        Client(url)
    assert "s3cret" not in str(refused.value) and "abc" not in str(refused.value)


def test_the_address_of_mlflow_is_refused() -> None:
    with pytest.raises(ServiceError, match="mlflow models serve"):
        Client("http://127.0.0.1:5000/invocations")


@pytest.mark.slow
def test_mlflow_itself_is_recognised(tmp_path: Path) -> None:
    """`mlflow models serve`'s own application, by its own HTTP server."""
    import mlflow.pyfunc
    import uvicorn
    from mlflow.pyfunc import scoring_server

    def heights(model_input: list[str]) -> list[str]:
        return model_input

    mlflow.pyfunc.save_model(tmp_path / "model", python_model=heights, input_example=["a"])
    application = scoring_server.init(mlflow.pyfunc.load_model(str(tmp_path / "model")))
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        with Client(f"http://127.0.0.1:{port}") as client:
            for ask in (lambda: client.score(scan_points(5, seed=1)), client.metadata):
                with pytest.raises(ServiceError, match="mlflow models serve"):
                    ask()
    finally:
        server.should_exit = True
        thread.join(20)


# ---- the key -------------------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(client: Client, service: Service) -> None:
    with small_service() as other:
        service.faults = [
            lambda handler: handler.say(307, b"", {"Location": f"{other.url}/score?token=abc"}),
        ]
        with pytest.raises(ServiceError, match=f"sends requests on to {other.url}/score, ") as refused:
            client.score(scan_points(5, seed=13))
    assert not other.seen
    assert "abc" not in str(refused.value)


@pytest.mark.parametrize("fault", [refusal(401), refusal(500), hang_up, plain(200, b"?", "text/html")])
def test_the_key_is_never_shown(fault: Fault, service: Service, caplog: pytest.LogCaptureFixture) -> None:
    service.faults = [fault]
    caplog.set_level(logging.DEBUG)
    client = Client(service.url, KEY, retries=0)
    with pytest.raises(ServiceError) as refused:
        client.score(scan_points(5, seed=14))
    chain, error = "", refused.value
    while error is not None:
        chain += repr(error) + str(error) + repr(vars(error))
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    for text in (chain, repr(client), str(vars(client)), str(vars(client._transport)), caplog.text):
        assert KEY not in text


@pytest.mark.parametrize("key", ["", "two words", "line\n", "schlüssel"])
def test_a_key_that_no_header_carries(key: str) -> None:
    with pytest.raises(ConfigError, match="a character that no key has") as refused:
        Client("http://127.0.0.1:1", key)
    assert not key or key not in str(refused.value)


def test_an_unencrypted_key_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="goes unencrypted"):
        Client("http://scoring.example/score", KEY)


def test_importing_the_client_is_light() -> None:
    heavy = "['torch', 'mlflow', 'hydra', 'omegaconf', 'pytorch_lightning', 'pandas']"
    program = f"import sys; from pointseg import Client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
