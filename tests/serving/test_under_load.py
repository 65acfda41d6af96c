"""The service with bad callers, many callers, and while it changes: no answer lost, none wrong, no memory lost."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from conftest import scan_points
from fuzz import bad_request
from service import KEY, OCTETS, TOKEN, Service, head, is_refusal, read_answer, serving, write_bundle
from verbs import empty_database

from pointseg.engine.predictor import Predictor

pytestmark = pytest.mark.slow

LIMITS = ["limits.body=4MB", "limits.expanded=8MB", "limits.text=300kB", "limits.points=100000"]
SECRETS = {"POINTSEG_API_KEY": KEY, "POINTSEG_ADMIN_TOKEN": TOKEN}
POINTS, MANY = scan_points(20_000, seed=3), scan_points(100_000, seed=4)
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": OCTETS, "Accept": OCTETS}
BODIES, WARM = 20_000, 4_000
FLAT = 60  # MiB that resident memory may grow by after warming up


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def service(bundle: Path, tmp_path: Path) -> Iterator[Service]:
    words = [f"checkpoint={bundle}", *LIMITS, "header_seconds=2", "body_seconds=5", "idle_seconds=5"]
    with serving(tmp_path, words, **SECRETS) as running:
        yield running


class Client:
    """A keep-alive connection that is made anew where the service has closed it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.connection = http.client.HTTPConnection(service.host, service.port, timeout=60)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        """Status and body; (0, b"") where the connection was closed."""
        try:
            self.connection.request("POST", path, body, headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read()
        except (ConnectionError, http.client.HTTPException):
            self.connection.close()
            return 0, b""


def healthy(service: Service) -> None:
    assert service.process.poll() is None
    answer = httpx.post(f"{service.url}/score", content=POINTS.tobytes(), headers=HEADERS, timeout=60)
    assert answer.status_code == 200
    assert len(answer.content) == 4 * len(POINTS)


def settled(service: Service) -> float:
    """Resident memory, MiB, after what was freed has gone back to the system."""
    httpx.get(f"{service.url}/healthz")
    time.sleep(5)
    return service.rss()


def test_thousands_of_bad_bodies(service: Service) -> None:
    clients = threading.local()

    def ask(number: int) -> int:
        if not hasattr(clients, "own"):
            clients.own = Client(service)
        status, body = clients.own.post(*bad_request(number))
        assert status == 0 or (400 <= status < 500 and is_refusal(body)), (number, status, body[:300])
        return status

    found: Counter[int] = Counter()
    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        found.update(pool.map(ask, range(WARM)))
        before = settled(service)
        slow = [threading.Thread(target=_slow_clients, args=(service,)) for _ in range(2)]
        for thread in slow:
            thread.start()
        found.update(pool.map(ask, range(WARM, BODIES)))
        for thread in slow:
            thread.join()
    seconds = time.perf_counter() - began
    after = settled(service)
    print(f"{BODIES / seconds:.0f} bodies/s, {before:.0f} -> {after:.0f} MiB, {dict(sorted(found.items()))}")
    assert found[0] < 0.01 * BODIES
    assert {400, 401, 404, 406, 413, 415, 422} <= set(found)
    assert after - before < FLAT
    healthy(service)
    failures = [line for line in service.lines() if line["event"] == "failed" or line.get("status") == 500]
    assert not failures


def _slow_clients(service: Service) -> None:
    """Heads and bodies that never end, connections closed by halves, bytes that are no HTTP."""
    for number in range(12):
        with socket.create_connection((service.host, service.port), timeout=30) as connection:
            if number % 4 == 0:
                connection.sendall(head()[:-2])
            elif number % 4 == 1:
                connection.sendall(head(Content_Length="1600") + bytes(100))
            elif number % 4 == 2:
                connection.sendall(head(Content_Length="1600") + bytes(100))
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(bytes(range(256)))
            status, body = read_answer(connection)
            assert status in (0, 400, 408), status
            assert status == 0 or is_refusal(body)


def test_what_the_documentation_allows_breaks_nothing(service: Service, tmp_path: Path) -> None:
    words = ["run", f"{service.url}/openapi.json", "--max-examples=60", "--seed=1", "--workers=2", "--no-color"]
    words += ["-H", f"Authorization: Bearer {KEY}", "--exclude-path=/admin/reload", "--request-timeout=30"]
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    done = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", *words, f"--checks={checks}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    healthy(service)


def _asking(service: Service, stop: threading.Event, answers: list[tuple[int, str, bytes]]) -> Callable[[], None]:
    def ask() -> None:
        with httpx.Client(base_url=service.url, headers=HEADERS, timeout=60) as client:
            while not stop.is_set():
                try:
                    answer = client.post("/score", content=POINTS.tobytes())
                except httpx.ConnectError:
                    return  # the service takes no more, and had not taken this one
                answers.append((answer.status_code, answer.headers.get("X-Model", ""), answer.content))
                if answer.status_code == 503:
                    return  # it says to come again later

    return ask


def test_sigterm_loses_no_answer(service: Service) -> None:
    stop, answers = threading.Event(), list[tuple[int, str, bytes]]()
    with ThreadPoolExecutor(6) as pool:
        asking = [pool.submit(_asking(service, stop, answers)) for _ in range(6)]
        while len(answers) < 20:
            time.sleep(0.01)
        slow = service.connect()
        slow.sendall(head(Content_Length=str(POINTS.nbytes)) + POINTS.tobytes()[:1000])
        time.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert httpx.get(f"{service.url}/readyz").status_code == 503
        slow.sendall(POINTS.tobytes()[1000:])
        assert read_answer(slow)[0] == 200
        assert service.process.wait(30) == 0
        stop.set()
        for task in asking:
            task.result()
    assert {status for status, _, _ in answers} <= {200, 503}
    assert sum(status == 200 for status, _, _ in answers) >= 20
    assert service.lines()[-1]["event"] == "stopped" or any(line["event"] == "stopped" for line in service.lines())


class Taker:
    """A client that has asked for probabilities, more than the system keeps for a connection, and takes them in its time."""

    def __init__(self, service: Service, pause: float) -> None:
        self.pause, self.taken, self.first = pause, 0, b""
        self.connection = socket.socket()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.connection.settimeout(30)
        self.connection.connect((service.host, service.port))
        if service.scheme == "https":
            self.connection = ssl._create_unverified_context().wrap_socket(self.connection)
        start = head("/score?probabilities=true", Content_Length=str(MANY.nbytes), Accept=OCTETS)
        self.connection.sendall(start + MANY.tobytes())

    def begin(self) -> None:
        """Wait for the first bytes."""
        self.first = self.connection.recv(4096)

    def recv(self, size: int) -> bytes:
        if self.first:
            part, self.first = self.first, b""
            return part
        part = self.connection.recv(size)
        before, self.taken = self.taken, self.taken + len(part)
        if self.taken >> 20 > before >> 20:
            time.sleep(self.pause)
        return part

    def answer(self) -> tuple[int, int]:
        """Its status, 0 where it was cut off, and the length of its body."""
        status, body = read_answer(self)  # type: ignore[arg-type]
        return status, len(body)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_an_answer_is_sent_as_long_as_its_client_takes_it(tls: bool, bundle: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={bundle}", *LIMITS, "body_seconds=2", "idle_seconds=1"]
    words += _tls(tmp_path)[0] if tls else []
    with serving(tmp_path, words, **SECRETS) as service:
        slow, silent = Taker(service, pause=0.5), Taker(service, pause=0.0)
        silent.begin()
        began = time.monotonic()
        assert slow.answer() == (200, 80 * len(MANY))
        assert time.monotonic() - began > 3
        time.sleep(5)  # more than twice `body_seconds` since it has taken its only bytes
        assert silent.answer()[0] == 0  # closed, after what the system has kept of it
        slow = Taker(service, pause=0.5)
        slow.begin()
        service.process.send_signal(signal.SIGTERM)
        assert slow.answer() == (200, 80 * len(MANY))
        assert service.process.wait(30) == 0


def test_an_answer_that_is_not_taken_in_time_is_said_at_the_end(bundle: Path, tmp_path: Path) -> None:
    with serving(tmp_path, [f"checkpoint={bundle}", *LIMITS, "drain_seconds=1"], **SECRETS) as service:
        silent = Taker(service, pause=0.0)
        silent.begin()
        assert service.stop() == 1
        assert "stopped with requests unfinished after 1 s" in service.log.read_text(encoding="utf-8")
        assert silent.answer()[0] == 0


def test_reload_under_load_loses_nothing(service: Service, bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", seed=7)
    expected = {
        answer["model"]["version"]: Predictor.load(path)(POINTS)
        for path in (other, bundle)
        for answer in [_reload(service, path)]
    }
    assert len(expected) == 2
    stop, answers = threading.Event(), list[tuple[int, str, bytes]]()
    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(_asking(service, stop, answers)) for _ in range(4)]
        for number in range(12):
            _reload(service, (other, bundle)[number % 2])
        stop.set()
        for task in asking:
            task.result()
    assert {status for status, _, _ in answers} == {200}
    seen = Counter(model.partition("/")[2] for _, model, _ in answers)
    assert set(seen) == set(expected)
    for _, model, body in answers:
        assert np.array_equal(np.frombuffer(body, "<u4"), expected[model.partition("/")[2]])


def _reload(service: Service, path: Path) -> dict[str, dict[str, str]]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{service.url}/admin/reload", json={"checkpoint": str(path)}, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_killed_clients_leave_nothing_behind(service: Service) -> None:
    code = (
        "import socket, sys, time\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "s.sendall(bytes.fromhex(sys.argv[3]) + bytes(1_000_000))\n"
        "print('sent', flush=True)\n"
        "time.sleep(60)\n"
    )
    sent = head(Content_Length="3000000").hex()
    words = [sys.executable, "-c", code, service.host, str(service.port), sent]
    for _ in range(5):
        with subprocess.Popen(words, stdout=subprocess.PIPE) as client:
            assert client.stdout is not None
            client.stdout.readline()
            client.kill()
    healthy(service)
    end = time.monotonic() + 20
    while sum(line.get("status") == 499 for line in service.lines()) < 5:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_too_many_connections_are_refused(bundle: Path, tmp_path: Path) -> None:
    with serving(tmp_path, [f"checkpoint={bundle}", "limits.connections=3"]) as service:
        opened = [service.connect() for _ in range(3)]
        time.sleep(0.3)
        with service.connect() as fourth:
            status, body = read_answer(fourth)
            assert (status, is_refusal(body)) == (503, True)
        for connection in opened:
            connection.close()


def _tls(folder: Path) -> tuple[list[str], Path]:
    """The words for https, and the certificate to trust."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return [f"tls.certificate={certificate}", f"tls.key={key}"], certificate


def test_tls(bundle: Path, tmp_path: Path) -> None:
    words, certificate = _tls(tmp_path)
    with serving(tmp_path, [f"checkpoint={bundle}", *words]) as service:
        assert service.scheme == "https"
        trusted = ssl.create_default_context(cafile=str(certificate))
        with httpx.Client(verify=trusted, base_url=service.url, timeout=60) as client:
            answer = client.post("/score", json={"data": POINTS[:10].tolist()})
            assert json.loads(answer.content)["labels"] == Predictor.load(bundle)(POINTS[:10]).tolist()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{service.url}/healthz")
        assert service.stop() == 0


def test_a_handshake_that_does_not_come_is_not_waited_for(bundle: Path, tmp_path: Path) -> None:
    words = [f"checkpoint={bundle}", *_tls(tmp_path)[0], "header_seconds=1", "limits.connections=1"]
    with serving(tmp_path, words) as service:
        silent = service.connect()
        began = time.monotonic()
        with ssl._create_unverified_context().wrap_socket(service.connect()) as second:
            status, body = read_answer(second)
            assert (status, is_refusal(body)) == (503, True)  # the silent one counts
        assert silent.recv(1) == b""
        silent.close()
        assert 0.5 < time.monotonic() - began < 10
        assert httpx.get(f"{service.url}/healthz", verify=False).status_code == 200
        assert service.stop() == 0


def test_an_alias_that_moves_brings_its_version(
    bundle: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from mlflow import MlflowClient

    shutil.copy(empty_database(tmp_path_factory), tmp_path / "mlruns.db")
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlruns.db'}")
    client.create_registered_model("street")
    for number, folder in (("1", bundle), ("2", write_bundle(tmp_path / "other", seed=7))):
        assert client.create_model_version("street", str(folder)).version == int(number)
    client.set_registered_model_alias("street", "champion", "1")
    words = ["checkpoint=models:/street@champion", "tracking.uri=mlruns.db"]
    with serving(tmp_path, words, POINTSEG_ADMIN_TOKEN=TOKEN) as service:
        assert service.model == "street/1"
        client.set_registered_model_alias("street", "champion", "2")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(f"{service.url}/admin/reload", headers=headers, timeout=60)
        assert (answer.json()["before"]["version"], answer.json()["model"]["version"]) == ("1", "2")
        answer = httpx.post(f"{service.url}/score", content=POINTS.tobytes(), headers=HEADERS, timeout=60)
        assert answer.headers["X-Model"] == "street/2"
        assert np.array_equal(np.frombuffer(answer.content, "<u4"), Predictor.load(tmp_path / "other")(POINTS))
