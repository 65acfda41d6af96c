"""Models for registries: small ones with known answers, and a real MLflow server with what stands before it."""

from __future__ import annotations

import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import torch
from conftest import small_model

from pointseg.core.labels import LabelMap
from pointseg.data.features import FeatureSpec
from pointseg.data.scan_hashes import KEY, hashes_of, write_hashes
from pointseg.data.sources import inspect
from pointseg.data.synthetic import SyntheticScans
from pointseg.engine.bundle import TrainedModel, load, save_bundle

__all__ = ["always", "free_port", "own_environment", "server", "trained_on", "without_logged_models"]


def trained_on(seed: int, label_map: LabelMap) -> dict[str, object]:
    """The provenance of a model that was trained on two scans of a small synthetic world, that of `SMALL_WORLD`."""
    scans = SyntheticScans(scans=2, seed=seed, beams=16, azimuth_steps=64, scans_per_street=1)
    summary = inspect(scans, label_map)
    data = {
        "class": "SyntheticDataModule",
        **summary.to_dict(label_map),
        KEY: write_hashes(hashes_of(summary.scan_counts)),
    }
    return {"pointseg": "0.1.0", "commit": "0" * 40, "data": data, "seed": seed}


def always(folder: Path, name: str, label_map: LabelMap, *, world: int | None = 0) -> Path:
    """A bundle that answers one class, whatever it sees; `world=None` does not say what it was trained on."""
    features = FeatureSpec(use=("x", "y", "z"))
    model = small_model(len(features), label_map.num_classes)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.zero_()
        model.classifier.bias[label_map.class_names.index(name)] = 5.0
    provenance = trained_on(world, label_map) if world is not None else {}
    return save_bundle(folder, TrainedModel(model, features, label_map, {"points_per_pass": 512}, provenance))


def saved_again(folder: Path, source: Path, **changes: object) -> Path:
    """A copy of a bundle with another provenance."""
    trained = load(source)
    trained.provenance.update(changes)
    return save_bundle(folder, trained)


# ---- servers -------------------------------------------------------------------------------------------------------


def own_environment(**more: str) -> dict[str, str]:
    """Of a process that knows this checkout and nothing of MLflow's settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    root, programs = str(Path(__file__).parents[2]), str(Path(sys.executable).parent)
    path = f"{programs}{os.pathsep}{clean.get('PATH', '')}"  # `mlflow models serve` starts uvicorn by its name
    return {
        **clean,
        "PATH": path,
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **more,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(480):
        try:
            urllib.request.urlopen(address, timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.25)
    raise AssertionError(log.read_text())


@contextmanager
def running(words: list[str], folder: Path, port: int, page: str, **environment: str) -> Iterator[str]:
    """A process of MLflow's command line that listens on 127.0.0.1, with its children."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=folder,
            stdout=out,
            stderr=out,
            env=own_environment(**environment),
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        _answers(f"{address}/{page}", process, log)
        yield address
    finally:
        for blow in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):  # it has ended, and its children with it
                os.killpg(process.pid, blow)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of a real tracking server, which keeps the artifacts itself."""
    port = free_port()
    words = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "kept")]
    with running(words, folder, port, "health", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false") as address:
        yield address


@contextmanager
def without_logged_models(address: str) -> Iterator[tuple[str, list[str]]]:
    """The same server as one that knows MLflow's older API only, such as Azure ML's: /logged-models answers 404.

    Gives its address, and the paths that were refused.
    """
    target, refused = urlsplit(address), list[str]()

    class Relay(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "/logged-models" in self.path:
                refused.append(self.path)
                return self.answer(404, "text/plain", b"not found")
            connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "transfer-encoding")}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            self.answer(answer.status, answer.headers.get("Content-Type", "text/plain"), answer.read())
            connection.close()

        def answer(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = relay

        def log_message(self, *args: object) -> None: ...

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    thread = threading.Thread(target=listener.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.server_port}", refused
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join(10)
