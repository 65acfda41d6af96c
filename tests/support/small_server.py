"""A real HTTP server that answers by the service's contract, or goes wrong on purpose. Its labels are the points' heights.

Used where a test is about the caller: it listens on 127.0.0.1, in a thread, and keeps what it was sent.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import zstandard
from numpy.typing import NDArray

from pointseg.engine.predictor import Predictor

CLASSES = 5


@dataclass
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    points: NDArray[np.float32] | None = None


@dataclass
class Service:
    """The running server; `faults` are used up first, one a request to /score."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    faults: list[Callable[[Handler], None]] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    predictor: Predictor | None = None  # labels as a model does, instead of the heights

    @property
    def scored(self) -> list[Seen]:
        return [request for request in self.seen if request.path.startswith("/score")]


def labels_of(points: NDArray[np.float32]) -> NDArray[np.uint32]:
    """What the server answers: a number that only these points, in this order, have."""
    return (np.abs(points[:, 2]) * 10).astype(np.uint32)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: Service

    def log_message(self, *_: object) -> None:
        pass

    def say(self, status: int, body: bytes, headers: dict[str, str], *, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, what: str, **headers: str) -> None:
        content = {"error": {"what": what, "where": None, "remedy": "Mend it."}, "request_id": "r-1"}
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.say(status, json.dumps(content).encode(), {"Content-Type": "application/json", **names})

    def do_GET(self) -> None:
        self.service.seen.append(Seen("GET", self.path, dict(self.headers), b""))
        if self.path == "/readyz":
            self.say(200, b"{}", {"Content-Type": "application/json"})
        elif self.path == "/metadata" and self.service.metadata is not None:
            self.say(200, json.dumps(self.service.metadata).encode(), {"Content-Type": "application/json"})
        else:
            self.refuse(404, "there is no such address")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        seen = Seen("POST", self.path, dict(self.headers), body)
        self.service.seen.append(seen)
        if self.service.faults:
            self.service.faults.pop(0)(self)
            return
        self.answer(seen)

    def answer_again(self) -> None:
        """No fault: as a place between faults."""
        self.answer(self.service.seen[-1])

    def answer(self, seen: Seen) -> None:
        query = parse_qs(urlsplit(self.path).query)
        unpack = {"gzip": gzip.decompress, "zstd": zstandard.ZstdDecompressor().decompress}
        raw = unpack.get(seen.headers.get("Content-Encoding", ""), bytes)(seen.body)
        seen.points = np.frombuffer(raw, "<f4").reshape(-1, int(query["columns"][0]))
        labels, rows = labels_of(seen.points), np.tile(np.arange(CLASSES, dtype="<f4"), (len(seen.points), 1))
        notes = ["a note, with a comma", "é"]
        if self.service.predictor is not None:
            labels, chances, said = self.service.predictor.predict(seen.points.copy(), probabilities=True)
            assert chances is not None
            rows, notes = chances, [note.text for note in said]
        answer = labels.astype("<u4").tobytes()
        if "probabilities" in query:
            answer += rows.astype("<f4").tobytes()
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Points": str(len(seen.points)),
            "X-Classes": str(rows.shape[1]),
            "X-Model": "street/3",
            "X-Notes": json.dumps(notes),
            "Server-Timing": "read;dur=1.5, wait;dur=0.1, predict;dur=20.25, write;dur=0.5",
            "X-Request-Id": seen.headers["X-Request-Id"],
        }
        self.say(200, answer, headers)


@contextlib.contextmanager
def small_service(certificate: Path | None = None) -> Iterator[Service]:
    """Args: certificate: a folder with cert.pem and key.pem, for https."""
    service = Service("")
    handler = type("Own", (Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # callers that give up are meant to
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    service.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
