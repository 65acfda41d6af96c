"""Azure ML's own inference server with our scoring script, as a process of its own that listens on 127.0.0.1 alone.

It needs environments/serving.txt and serving-monitoring.txt: `make serving-env` puts it into .venv-serving; POINTSEG_SERVING_PYTHON names another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "pointseg" / "serving" / "score.py"
# The server has no option for its address; it reads this constant when it is imported.
LAUNCHER = """
from azureml_inference_server_http import constants
constants.DEFAULT_HOST = "127.0.0.1"
from azureml_inference_server_http.amlserver import run
run()
"""


@dataclass
class Server:
    """A running server."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def addresses(self) -> set[str]:
        """Where it and its workers listen."""
        master = psutil.Process(self.process.pid)
        family = [master, *master.children(recursive=True)]
        found = [c for one in family for c in one.net_connections() if c.status == psutil.CONN_LISTEN]
        return {connection.laddr.ip for connection in found}


def serving_python() -> str:
    """The interpreter of the server's environment; the test is skipped where there is none."""
    named = os.environ.get("POINTSEG_SERVING_PYTHON")
    path = Path(named) if named else Path(sys.prefix).parent / ".venv-serving" / "bin" / "python"
    if not path.is_file():
        pytest.skip(f"no environment of the inference server at {path}: make serving-env")
    return str(path)


def start(model: Path, folder: Path, port: int, script: Path = SCRIPT, **environment: str) -> Server:
    """Start it; it is not waited for."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    settings = {"HOME": str(folder), "PYTHONPATH": str(ROOT), "AZUREML_MODEL_DIR": str(model), **environment}
    settings["GUNICORN_CMD_ARGS"] = f"{environment.get('GUNICORN_CMD_ARGS', '')} --no-control-socket"
    log = folder / "server.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [serving_python(), "-c", LAUNCHER, "--entry_script", str(script), "--port", str(port)],
            cwd=folder,
            env=kept | settings,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    return Server(f"http://127.0.0.1:{port}", process, log)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def inference_server(model: Path, folder: Path, script: Path = SCRIPT, **environment: str) -> Iterator[Server]:
    """The server, ready; it is stopped at the end."""
    server = start(model, folder, free_port(), script, **{"OMP_NUM_THREADS": "1", **environment})
    try:
        until_ready(server, int(environment.get("WORKER_COUNT", "1")))
        assert server.addresses() == {"127.0.0.1"}
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


def until_ready(server: Server, workers: int = 1) -> None:
    """Wait until each worker has its model."""
    end = time.monotonic() + 120
    while server.said.count("ready for serving traffic") < workers or not _healthy(server.url):
        assert server.process.poll() is None, server.said
        assert time.monotonic() < end, server.said
        time.sleep(0.1)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url + "/", timeout=10) as answer:
            return bool(answer.read() == b"Healthy")
    except OSError:
        return False
