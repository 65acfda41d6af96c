"""What collecting costs a service: the time of its thread for a scan, and what it adds to answers.

    python tests/benchmarks/collection.py --checkpoint RUN_FOLDER [--points 120000] [--pairs 20] [--threads 1]

One service with collect_rate=0.5 answers blocks of requests in turn: of ids that are collected, and of ids that are not,
so that both see the same process and the same machine. Between blocks it is quiet. Requests of a block come one right
after another, where measuring one scan meets the next request, or at ten a second, as a sensor turns.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
import uuid
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "support")]

from service import OCTETS, serving  # noqa: E402
from serving import Client, scan_of  # noqa: E402

from pointseg.engine.predictor import Predictor  # noqa: E402
from pointseg.quality.scan_record import make_record  # noqa: E402
from pointseg.serving.collection import Collection  # noqa: E402

RATE, BLOCK, QUIET, TURN = 0.5, 4, 0.3, 0.1


class Nothing:
    """A sink that keeps nothing: the collection beside it only says which ids are chosen."""

    def write(self, record: object, request_id: str) -> None:
        pass

    def flush(self, *, all_of_it: bool) -> None:
        pass


def quartiles(values: list[float], digits: int = 1) -> str:
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{digits}f} (quartiles {low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--points", type=int, default=120_000)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    points, predictor = scan_of(given.points), Predictor.load(given.checkpoint)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{platform.machine()}, {os.cpu_count()} CPUs, {given.threads} threads, load average {load}")
    ids, known = predictor(points), {"time": datetime.now(UTC), "request_id": "a", "model": "m/1", "seconds": 0.1}
    taken = []
    for _ in range(given.pairs):
        began = time.thread_time()
        make_record(points, ids, predictor.label_map, **known)
        taken.append(1000 * (time.thread_time() - began))
    print(f"  a record of {len(points):,} points: {quartiles(taken)} ms of processor time")
    chooses = Collection(Nothing(), rate=RATE)
    words = [f"checkpoint={given.checkpoint}", f"threads={given.threads}", "idle_seconds=600"]
    collecting = [*words, "collect=collected", f"collect_rate={RATE}"]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), collecting) as service:
        client, body = Client(service.url), points.tobytes()

        def block(collected: bool, turn: float) -> float:
            """Mean milliseconds of the answers of a block."""
            time.sleep(QUIET)
            seconds = []
            while len(seconds) < BLOCK:
                request_id = uuid.uuid4().hex
                if chooses.wants(request_id) is not collected:
                    continue
                began = time.perf_counter()
                headers = {"Content-Type": OCTETS, "Accept": OCTETS, "X-Request-Id": request_id}
                assert client.post("/score", body, headers)[0] == 200
                seconds.append(time.perf_counter() - began)
                time.sleep(max(0.0, turn - seconds[-1]))
            return 1000 * float(np.mean(seconds))

        block(collected=True, turn=0)
        for name, turn in (("one after another", 0.0), ("ten a second", TURN)):
            found: dict[bool, list[float]] = {False: [], True: []}
            for number in range(given.pairs):
                for collected in (False, True) if number % 2 else (True, False):
                    found[collected].append(block(collected, turn))
            ratios = [with_it / without for with_it, without in zip(found[True], found[False], strict=True)]
            print(f"  {name}: {np.median(found[False]):.1f} ms without, ratio with it {quartiles(ratios, 3)}")
        time.sleep(1)
        wanted = ("pointseg_collected_total", "pointseg_dropped_total")
        metrics = service_metrics(service.url)
        print("  " + ", ".join(line for line in metrics.splitlines() if line.startswith(wanted)))
    chooses.close()


def service_metrics(url: str) -> str:
    client = Client(url)
    client.connection.request("GET", "/metrics")
    return client.connection.getresponse().read().decode()


if __name__ == "__main__":
    main()
