"""A real `python -m pointseg.serve` for tests, and what is said to it byte by byte."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from conftest import small_model
from verbs import command, own_environment

from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.engine.bundle import TrainedModel, save_bundle

KEY, TOKEN = "a-key-for-tests-0123456789", "a-token-for-tests-9876543210"
OCTETS = "application/octet-stream"
STARTED = re.compile(r"^Serving (\S+) at (https?)://([\d.]+):(\d+) with \d+ threads?\. Ctrl-C stops\.$")


def write_bundle(folder: Path, seed: int = 0) -> Path:
    """A model of a few channels."""
    features = FeatureSpec(use=("x", "y", "z", "remission", "range", "height", "extent", "count"))
    inference = {"points_per_pass": 700, "votes": 1, "remission_mean": 0.25}
    model = small_model(len(features), seed=seed)
    return save_bundle(folder, TrainedModel(model, features, LabelMap.load("semantickitti"), inference))


@dataclass
class Service:
    """A running service.

    Attributes:
        model: NAME/VERSION, as it says at its start.
        log: what it writes to standard error.
    """

    process: subprocess.Popen[bytes]
    scheme: str
    host: str
    port: int
    model: str
    log: Path

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def lines(self) -> list[dict[str, Any]]:
        """Of the log, as far as it is written."""
        text = self.log.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def line_of(self, request_id: str) -> dict[str, Any]:
        """The log's line of a request, which may come after its answer."""
        end = time.monotonic() + 30
        while True:
            for line in self.lines():
                if line.get("request_id") == request_id:
                    return line
            assert time.monotonic() < end, f"no line of {request_id}"
            time.sleep(0.02)

    def rss(self) -> float:
        """Resident memory, MiB."""
        return psutil.Process(self.process.pid).memory_info().rss / 2**20

    def connect(self, seconds: float = 30.0) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=seconds)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(seconds)


@contextmanager
def serving(folder: Path, words: Sequence[str], **environment: str) -> Iterator[Service]:
    """A service on a free port, ended by SIGTERM where the test has not done so."""
    out, err = (Path(tempfile.mkstemp(dir=folder, suffix=suffix)[1]) for suffix in (".out", ".err"))
    with open(out, "wb") as stdout, open(err, "wb") as stderr:
        process = subprocess.Popen(
            command("serve", ["port=0", *words]),
            cwd=folder,
            env=own_environment(**environment),
            stdout=stdout,
            stderr=stderr,
        )
    try:
        yield _started(process, out, err)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _started(process: subprocess.Popen[bytes], out: Path, err: Path) -> Service:
    end = time.monotonic() + 120
    while not (said := out.read_text(encoding="utf-8")).endswith("\n"):
        assert process.poll() is None, said + err.read_text(encoding="utf-8")
        assert time.monotonic() < end
        time.sleep(0.05)
    match = STARTED.match(said.strip())
    assert match, said
    return Service(process, match[2], match[3], int(match[4]), match[1], err)


def head(path: str = "/score", **headers: str) -> bytes:
    """The head of a POST; `Content_Length="5"` becomes Content-Length: 5."""
    given = {"Host": "x", "Authorization": f"Bearer {KEY}", "Content_Type": OCTETS, **headers}
    lines = [f"POST {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer, read to its length; (0, b"") where the connection was closed instead."""
    received = b""
    try:
        while b"\r\n\r\n" not in received:
            part = connection.recv(65536)
            if not part:
                return 0, received
            received += part
        start, _, body = received.partition(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", start, re.IGNORECASE)[1])  # type: ignore[index]
        while len(body) < length:
            part = connection.recv(65536)
            if not part:
                return 0, received
            body += part
    except ConnectionError:
        return 0, received
    return int(start.split()[1]), body


def is_refusal(body: bytes) -> bool:
    """Whether an answer is an error of the contract."""
    try:
        content = json.loads(body)
    except ValueError:
        return False
    error = content.get("error", {})
    return (
        set(content) == {"error", "request_id"}
        and set(error) == {"what", "where", "remedy"}
        and isinstance(error["what"], str)
        and "Traceback" not in error["what"] + error["remedy"]
    )
