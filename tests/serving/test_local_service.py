"""Services in the background, by the script that starts, exchanges and stops them: real processes, real scans."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import scan_points
from service import KEY, write_bundle
from verbs import Done, run, succeed

from pointseg.engine.bundle import WEIGHTS
from pointseg.engine.predictor import Predictor
from pointseg.serving.client import Client
from pointseg.serving.local_service import Process, ServiceRecord

POINTS = scan_points(2000, seed=5)


def deploy(here: Path, *words: str, **environment: str) -> Done:
    return run("deploy", "target=local", *words, cwd=here, **environment)


def record(here: Path, name: str = "local") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((here / f".pointseg/services/{name}.json").read_text())
    return content


def pid(here: Path, name: str = "local") -> int:
    return int(record(here, name)["process"][0])


def running(number: int) -> bool:
    with suppress(psutil.Error):
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    return False


def labels(here: Path, name: str = "local", key: str | None = None) -> Any:
    with Client(record(here, name)["url"], key) as client:
        return client.score(POINTS).labels


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return write_bundle(folder / "one"), write_bundle(folder / "two", seed=1)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A folder whose services are ended afterwards, by their numbers."""
    yield tmp_path
    for file in (tmp_path / ".pointseg/services").glob("*.json"):
        with suppress(psutil.Error, ValueError, KeyError):
            process = psutil.Process(json.loads(file.read_text())["process"][0])
            if "pointseg.serve" in process.cmdline():
                process.kill()


def write_record(here: Path, process: Process, name: str = "local") -> None:
    settings = {"drain_seconds": 1.0, "port": 1}
    content = ServiceRecord(
        name, process, True, "http://127.0.0.1:1", {"sha256": "a" * 64, "from": "x"}, settings, False, ""
    )
    folder = here / ".pointseg/services"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(asdict(content)))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no checkpoint is given"),
        (["checkpoint=nowhere"], "nowhere"),
        (["checkpoint=azureml:street:1"], "this target cannot use an asset of a workspace"),
        (["checkpoint=x", "endpoint=Street_1"], "not a valid service name"),
        (["checkpoint=x", "local.port=70000"], "there is no port 70000"),
        (["checkpoint=x", "local.time_limit=0"], "0 seconds are not enough"),
        (["checkpoint=x", "local.host=0.0.0.0"], "no key is given"),
        (["local.action=restart"], "Use start | status | stop"),
        (["local.action=stop", "endpoint=other"], "there is no such service: endpoint=other"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path, words: list[str], says: str) -> None:
    assert says in deploy(tmp_path, *words).message
    assert not (tmp_path / ".pointseg").exists()


def test_keys_that_differ_or_are_short_are_refused(tmp_path: Path) -> None:
    message = deploy(tmp_path, "checkpoint=x", POINTSEG_KEY=KEY, POINTSEG_API_KEY=f"{KEY}-").message
    assert "differ" in message
    assert KEY not in message
    assert "fewer than 16" in deploy(tmp_path, "checkpoint=x", POINTSEG_KEY="short").message


def test_a_plan_starts_nothing(tmp_path: Path, bundles: tuple[Path, Path]) -> None:
    done = succeed(deploy(tmp_path, f"checkpoint={bundles[0]}", "local.port=0", "plan=true"))
    assert "Nothing was changed: plan=true. 1 step to do" in done.out
    assert not (tmp_path / ".pointseg").exists()


def test_a_number_that_another_process_has_now_is_left_alone(tmp_path: Path) -> None:
    write_record(tmp_path, Process(os.getpid(), "an earlier boot:17"))
    assert "dead" in succeed(deploy(tmp_path, "local.action=status")).out
    done = succeed(deploy(tmp_path, "local.action=stop"))  # this very process would have ended
    assert "it had ended before" in done.out
    assert not list((tmp_path / ".pointseg/services").glob("*.json"))


def test_a_damaged_file_and_a_folder_that_cannot_be_written_are_said(
    tmp_path: Path, bundles: tuple[Path, Path]
) -> None:
    write_record(tmp_path, Process(1, ""))
    (tmp_path / ".pointseg/services/local.json").write_text('{"name": "lo')
    assert "it is damaged" in deploy(tmp_path, "local.action=status").message
    (tmp_path / "file").write_text("")
    words = (f"checkpoint={bundles[0]}", "local.port=0", f"local.folder={tmp_path}/file/x")
    assert "local.folder" in deploy(tmp_path, *words).message


def test_several_services_are_not_stopped_at_once(tmp_path: Path) -> None:
    write_record(tmp_path, Process(os.getpid(), "earlier"), "a")
    write_record(tmp_path, Process(os.getpid(), "earlier"), "b")
    assert "Name one of a, b" in deploy(tmp_path, "local.action=stop").message


# ---- real services ---------------------------------------------------------------------------------------------------


@contextmanager
def asked(here: Path) -> Iterator[list[Any]]:
    """The service is asked without a pause meanwhile, each time by a new connection; what came back."""
    answers: list[Any] = []
    url, stopping = record(here)["url"], threading.Event()

    def ask() -> None:
        while not stopping.is_set():
            try:
                with Client(url, retries=4) as client:
                    answers.append(client.score(POINTS).labels)
            except Exception as error:
                answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stopping.set()
        thread.join()


@pytest.mark.slow
def test_another_model_and_other_settings_take_over_without_a_lost_request(
    here: Path, bundles: tuple[Path, Path]
) -> None:
    one, two = bundles
    done = succeed(deploy(here, f"checkpoint={one}", "local.port=0"))
    url, first = record(here)["url"], pid(here)
    assert "112,692 points" in done.out
    assert f"invoke.py url={url}" in done.out
    done = succeed(deploy(here, f"checkpoint={one}", "local.port=0"))
    assert "Nothing to do" in done.out
    with asked(here) as answers:
        succeed(deploy(here, f"checkpoint={two}", "local.port=0"))  # into the same process
        assert (pid(here), record(here)["url"]) == (first, url)
        done = succeed(deploy(here, f"checkpoint={two}", "local.port=0", "local.threads=1"))
        assert "threads: None -> 1" in done.out
    assert record(here)["url"] == url
    assert pid(here) != first
    assert not running(first)
    expected = [Predictor.load(bundle)(POINTS) for bundle in bundles]
    assert len(answers) > 10
    assert [answer for answer in answers if isinstance(answer, Exception)] == []
    assert all(any(np.array_equal(answer, wanted) for wanted in expected) for answer in answers)
    assert np.array_equal(answers[-1], expected[1])
    models = [path.name for path in (here / ".pointseg/services/local").glob("model-*")]
    assert models == [f"model-{record(here)['model']['sha256'][:12]}"]
    last = pid(here)
    assert "local: stopped" in succeed(deploy(here, "local.action=stop")).out
    assert not running(last)
    assert [path.name for path in (here / ".pointseg/services").iterdir()] == [".local.lock"]
    assert "Nothing to stop" in succeed(deploy(here, "local.action=stop")).out


@pytest.mark.slow
def test_a_failed_test_leaves_what_was_there(here: Path, bundles: tuple[Path, Path]) -> None:
    one, two = bundles
    hopeless = ("local.port=0", "local.time_limit=0.001")  # every scan is answered by 504
    message = deploy(here, f"checkpoint={one}", *hopeless).message
    assert "the test with a scan failed" in message
    assert not list((here / ".pointseg/services").glob("*.json"))
    assert _services(here) == set()
    succeed(deploy(here, f"checkpoint={one}", "local.port=0"))
    kept = record(here)
    message = deploy(here, f"checkpoint={two}", *hopeless).message
    assert "local serves as before" in message
    assert record(here) == kept
    assert np.array_equal(labels(here), Predictor.load(one)(POINTS))
    assert _services(here) == {kept["process"][0]}
    damaged = write_bundle(here / "damaged", seed=3)
    (damaged / WEIGHTS).write_bytes(b"no weights")
    assert "not those that were written" in deploy(here, f"checkpoint={damaged}", "local.port=0").message
    message = deploy(here, f"checkpoint={one}", "local.port=0", "local.threads=100000").message
    assert "the service ended at its start" in message  # with what it said itself
    assert "more than this machine can use" in message
    assert record(here) == kept


def _services(here: Path) -> set[int]:
    """Processes that serve a model of this folder."""
    found = set()
    for process in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if "pointseg.serve" in words and str(here) in words and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.add(process.pid)
    return found


@pytest.mark.slow
def test_a_killed_service_is_dead_and_starts_again_beside_another(here: Path, bundles: tuple[Path, Path]) -> None:
    succeed(deploy(here, f"checkpoint={bundles[0]}", "endpoint=one", "local.port=0"))
    done = succeed(deploy(here, f"checkpoint={bundles[1]}", "endpoint=two", "local.port=0", POINTSEG_KEY=KEY))
    assert "Ask it (its key in POINTSEG_KEY): python" in done.out
    for file in (here / ".pointseg").rglob("*"):
        assert not file.is_file() or KEY not in file.read_text(errors="ignore")
    assert KEY not in " ".join(psutil.Process(pid(here, "two")).cmdline())
    url, number = record(here, "one")["url"], pid(here, "one")
    os.kill(number, signal.SIGKILL)
    end = time.monotonic() + 20
    while running(number):
        assert time.monotonic() < end
        time.sleep(0.05)
    lines = succeed(deploy(here, "local.action=status")).out.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["one", "dead"], ["two", "running"]]
    port = url.rpartition(":")[2]
    with socket.create_server(("127.0.0.1", int(port))):
        message = deploy(here, f"checkpoint={bundles[0]}", "endpoint=one", f"local.port={port}").message
        assert "cannot be listened on" in message
    taken = record(here, "two")["url"].rpartition(":")[2]
    message = deploy(here, f"checkpoint={bundles[0]}", "endpoint=three", f"local.port={taken}").message
    assert "cannot be listened on" in message  # two services with one port would share its callers
    done = succeed(deploy(here, f"checkpoint={bundles[0]}", "endpoint=one", "local.port=0"))
    assert "it is dead" in done.out
    assert record(here, "one")["url"] == url
    message = deploy(here, f"checkpoint={bundles[1]}", "endpoint=two", "local.port=0").message
    assert "asks for a key" in message
    assert np.array_equal(labels(here, "two", KEY), Predictor.load(bundles[1])(POINTS))
    for name in ("one", "two"):
        assert f"{name}: stopped" in succeed(deploy(here, "local.action=stop", f"endpoint={name}")).out
