"""What a process cannot be made to do at will: late answers, own bugs, two reloads at once. The application without a socket."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from conftest import scan_points
from service import OCTETS, TOKEN, is_refusal, write_bundle
from verbs import empty_database

from pointseg.core.errors import ConfigError, TrackingError
from pointseg.serving.app import create_app
from pointseg.serving.engine import Engine, Queue
from pointseg.serving.model_source import Source
from pointseg.serving.refusal import Refusal
from pointseg.serving.settings import Settings, check_exposure, is_loopback, read_secret

SCAN = scan_points(500, seed=1).tobytes()
RAW = {"Content-Type": OCTETS}
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return Source(str(write_bundle(tmp_path_factory.mktemp("model") / "bundle")))


@pytest.fixture
def engine(source: Source) -> Iterator[Engine]:
    running = Engine(*source.load(), threads=1, queue=Queue(clouds=2, together=0))
    yield running
    running.close(10)


@pytest.fixture
def gate(engine: Engine) -> Iterator[threading.Event]:
    """The model waits until it is set."""
    opened = threading.Event()
    inner = engine.served.predictor.predict
    engine.served.predictor.predict = lambda *a, **k: (opened.wait(30), inner(*a, **k))[1]  # type: ignore[method-assign]
    yield opened
    opened.set()


def client(engine: Engine, settings: Settings, source: Source | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(engine, settings, source=source))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


def test_what_takes_too_long_gets_504(engine: Engine, gate: threading.Event) -> None:
    async def ask() -> httpx.Response:
        async with client(engine, Settings(time_limit=0.2)) as asking:
            return await asking.post("/score", content=SCAN, headers=RAW)

    answer = asyncio.run(ask())
    assert (answer.status_code, is_refusal(answer.content)) == (504, True)


def test_a_full_queue_gets_503_with_the_time_to_come_again(engine: Engine, gate: threading.Event) -> None:
    async def ask() -> list[httpx.Response]:
        async with client(engine, Settings()) as asking:
            first = []
            for load in ((0, 1), (1, 1), (2, 1)):
                first.append(asyncio.create_task(asking.post("/score", content=SCAN, headers=RAW)))
                while engine.load != load:
                    await asyncio.sleep(0.01)
            refused = await asking.post("/score", content=SCAN, headers=RAW)
            gate.set()
            return [refused, *await asyncio.gather(*first)]

    refused, *answers = asyncio.run(ask())
    assert (refused.status_code, is_refusal(refused.content)) == (503, True)
    assert int(refused.headers["Retry-After"]) >= 1
    assert [answer.status_code for answer in answers] == [200] * 3


def test_a_bug_of_ours_says_nothing_of_the_inside(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    engine.served.predictor.predict = lambda *_, **__: [][1]  # type: ignore[method-assign]

    async def ask() -> httpx.Response:
        async with client(engine, Settings()) as asking:
            return await asking.post("/score", content=SCAN, headers={**RAW, "X-Request-Id": "broken"})

    answer = asyncio.run(ask())
    assert (answer.status_code, is_refusal(answer.content)) == (500, True)
    assert "IndexError" not in answer.text
    record = next(record for record in caplog.records if "failed" in record.message)
    assert json.loads(record.message)["request_id"] == "broken"
    assert "IndexError" in (caplog.text)


def test_two_reloads_at_once_are_one(engine: Engine, source: Source) -> None:
    async def ask() -> list[httpx.Response]:
        async with client(engine, Settings(admin_token=TOKEN), source) as asking:
            return await asyncio.gather(*(asking.post("/admin/reload", headers=ADMIN) for _ in range(2)))

    answers = asyncio.run(ask())
    assert sorted(answer.status_code for answer in answers) == [200, 409]


@pytest.mark.parametrize("name", ["A" * 300, "~nobodyhere/x"])
def test_a_name_that_cannot_be_is_no_fault_of_the_service(name: str, engine: Engine, source: Source) -> None:
    async def ask() -> httpx.Response:
        async with client(engine, Settings(admin_token=TOKEN), source) as asking:
            return await asking.post("/admin/reload", headers=ADMIN, json={"checkpoint": name})

    assert asyncio.run(ask()).status_code == 422


def test_without_a_token_there_is_no_reload(engine: Engine, source: Source) -> None:
    async def ask() -> httpx.Response:
        async with client(engine, Settings(), source) as asking:
            return await asking.post("/admin/reload", headers=ADMIN)

    assert asyncio.run(ask()).status_code == 404


def test_while_it_stops_it_is_not_ready(engine: Engine) -> None:
    async def ask() -> list[httpx.Response]:
        async with client(engine, Settings()) as asking:
            asking._transport.app.state.scoring.draining = True  # type: ignore[attr-defined]
            return [
                await asking.get("/readyz"),
                await asking.get("/healthz"),
                await asking.post("/score", content=SCAN, headers=RAW),
            ]

    assert [answer.status_code for answer in asyncio.run(ask())] == [503, 200, 503]


@pytest.mark.slow
def test_the_latest_version_is_that_of_the_services_own_registry(
    source: Source, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from mlflow import MlflowClient

    shutil.copy(empty_database(tmp_path_factory), tmp_path / "own.db")
    own = Source("models:/street/latest", tracking_uri="own.db", start_dir=tmp_path)
    registry = MlflowClient(f"sqlite:///{tmp_path / 'own.db'}")
    registry.create_registered_model("street")
    for number in ("1", "2"):
        assert str(registry.create_model_version("street", source.checkpoint).version) == number
        assert own.load().model["version"] == number
    for wrong, said in (("models:/street@nobody", "nobody"), ("models:/street/9", "9"), ("models:/street", "name")):
        with pytest.raises(TrackingError, match=said):
            own.load(wrong)


# ---- keys ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_only_loopback_needs_no_key(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    check_exposure(host, "a-key-of-16-characters")
    if not loopback:
        with pytest.raises(ConfigError, match="key_file"):
            check_exposure(host, None)


def test_a_key_is_read_from_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    assert read_secret(str(tmp_path / "key"), "TEST_KEY", "key_file") == "0123456789abcdef"
    monkeypatch.setenv("TEST_KEY", "fedcba9876543210")
    assert read_secret(None, "TEST_KEY", "key_file") == "fedcba9876543210"
    with pytest.raises(ConfigError, match="both"):
        read_secret(str(tmp_path / "key"), "TEST_KEY", "key_file")
    monkeypatch.setenv("TEST_KEY", "0123 456789abcdef")
    with pytest.raises(ConfigError, match="spaces"):
        read_secret(None, "TEST_KEY", "key_file")


def test_a_refusal_says_when_to_come_again() -> None:
    assert Refusal.busy("full", 0.2).headers == {"Retry-After": "1"}
