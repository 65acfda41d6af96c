"""The scoring service against its own model, a plain scoring script, and `mlflow models serve`.

    python tests/benchmarks/serving.py --checkpoint RUN_FOLDER [--points 120000] [--pairs 20] [--seconds 60] [--threads 1]
    python tests/benchmarks/serving.py --checkpoint RUN_FOLDER --mlflow models:/NAME@ALIAS     # with MLFLOW_TRACKING_URI

End to end: from a cloud in memory to its labels in memory, over a kept connection on this machine, in pairs with the model
alone, which go first in turn. Load: so many clients for so many seconds, each asking again as soon as it has its answer.
Everything shares the machine: the load average is printed with the figures.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import orjson
import psutil
import torch
from numpy.typing import NDArray

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "support")]

from service import OCTETS, serving  # noqa: E402

from pointseg.data.synthetic import SyntheticWorld  # noqa: E402
from pointseg.engine.predictor import Predictor  # noqa: E402

Call = Callable[[], NDArray[np.uint32]]
JSON = {"Content-Type": "application/json"}


class Client:
    """A kept connection."""

    def __init__(self, url: str) -> None:
        address = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, bytes]:
        self.connection.request("POST", path, body, headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read()


def octets(url: str, points: NDArray[np.float32]) -> Call:
    client = Client(url)

    def call() -> NDArray[np.uint32]:
        status, body = client.post("/score", points.tobytes(), {"Content-Type": OCTETS, "Accept": OCTETS})
        assert status == 200, body
        return np.frombuffer(body, "<u4")

    return call


def text(url: str, path: str, key: str, points: NDArray[np.float32]) -> Call:
    """JSON; the body is made once, since clients differ in how they make it."""
    client, body = Client(url), orjson.dumps({key: points.tolist()})

    def call() -> NDArray[np.uint32]:
        status, answer = client.post(path, body, JSON)
        assert status == 200, answer[:300]
        content = orjson.loads(answer)
        return np.array(content.get("labels", content.get("predictions")), np.uint32).reshape(-1)

    return call


def in_pairs(first: Call, others: dict[str, Call], rounds: int) -> None:
    """Medians, and the median of the ratios of each round."""
    times: dict[str, list[float]] = {name: [] for name in ("alone", *others)}
    expected = first()
    for name, call in others.items():
        assert np.array_equal(call(), expected), name
    for number in range(rounds):
        calls = list({"alone": first, **others}.items())
        for name, call in calls if number % 2 else reversed(calls):
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    alone = np.array(times["alone"])
    for name, values in times.items():
        ratios = np.array(values) / alone
        low, high = np.percentile(ratios, [25, 75])
        print(
            f"  {name:<24} {1000 * np.median(values):8.1f} ms   ratio {np.median(ratios):.3f} (quartiles {low:.3f} to {high:.3f})"
        )


def under_load(url: str, points: NDArray[np.float32], clients: int, seconds: float, pid: int) -> None:
    expected = octets(url, points)().tobytes()
    taken: list[float] = []
    found: Counter[str] = Counter()
    end = time.perf_counter() + seconds
    process = psutil.Process(pid)
    before = process.memory_info().rss

    def ask() -> None:
        client, body = Client(url), points.tobytes()
        while time.perf_counter() < end:
            began = time.perf_counter()
            status, answer = client.post("/score", body, {"Content-Type": OCTETS, "Accept": OCTETS})
            taken.append(time.perf_counter() - began)
            found["right" if status == 200 and answer == expected else f"wrong ({status})"] += 1

    began = time.perf_counter()
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - began
    p50, p95, p99 = 1000 * np.percentile(taken, [50, 95, 99])
    growth = (process.memory_info().rss - before) / 2**20
    print(
        f"  {clients:2d} clients, {whole:.0f} s: {dict(found)}, {len(taken) / whole:.2f} scans/s, p50 {p50:.0f} ms, "
        f"p95 {p95:.0f} ms, p99 {p99:.0f} ms, RSS {process.memory_info().rss / 2**20:.0f} MiB ({growth:+.0f})"
    )


@contextmanager
def other_service(words: list[str], port: int) -> Iterator[str]:
    with tempfile.TemporaryFile() as log:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # it starts uvicorn by name
        settings = {"env": {**os.environ, "PATH": path}, "start_new_session": True}
        process = subprocess.Popen(words, stdout=log, stderr=log, **settings)
        try:
            end = time.monotonic() + 180
            while time.monotonic() < end:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{' '.join(words)} ended:\n{log.read().decode(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            if process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.terminate()
            process.terminate()
            process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def scan_of(count: int) -> NDArray[np.float32]:
    points = SyntheticWorld(60, 64, 2200).scan(0, 0).points
    return np.ascontiguousarray(points[:count], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--points", type=int, default=120_000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--mlflow", help="models:/NAME@ALIAS of the registry at MLFLOW_TRACKING_URI")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    points, predictor = scan_of(given.points), Predictor.load(given.checkpoint)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {given.threads} threads, load average {load}"
    )
    print(
        f"{len(points):,} points, {points.nbytes / 1e6:.1f} MB as octets, {len(orjson.dumps(points.tolist())) / 1e6:.1f} MB as JSON"
    )
    words = [f"checkpoint={given.checkpoint}", f"threads={given.threads}", "idle_seconds=600"]
    plain = free_port()
    script = [
        sys.executable,
        str(Path(__file__).with_name("plain_service.py")),
        given.checkpoint,
        str(plain),
        str(given.threads),
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder), words) as ours,
        other_service(script, plain) as theirs,
    ):
        print("end to end, and the model alone:")
        calls = {"octets": octets(ours.url, points), "JSON": text(ours.url, "/score", "data", points)}
        calls["plain script, JSON"] = text(theirs, "/score", "data", points)
        in_pairs(lambda: predictor(points), calls, given.pairs)
        print("under load, octets:")
        for clients in (1, 4, 16):
            under_load(ours.url, points, clients, given.seconds, ours.process.pid)
    if given.mlflow:
        port = free_port()
        serve = [
            sys.executable,
            "-m",
            "mlflow",
            "models",
            "serve",
            "-m",
            given.mlflow,
            "--env-manager",
            "local",
            "-p",
            str(port),
        ]
        with other_service(serve, port) as theirs:
            print("mlflow models serve:")
            in_pairs(
                lambda: predictor(points), {"mlflow, JSON": text(theirs, "/invocations", "inputs", points)}, given.pairs
            )


if __name__ == "__main__":
    main()
