"""PointNetSeg against a plain PointNet: whole-scan prediction and training steps, interleaved in one process.

    make bench
    python tests/benchmarks/pointnet.py [--points 124000] [--rounds 5] [--threads 1 2] [--json FILE]

Both networks have the paper's widths and both T-Nets, x, y, z and remission, 19 classes. Ratios are medians over
interleaved rounds of seconds of the reference (`reference.py`) by ours. Where onnxruntime is installed, exported files of the
fast form are among them, float32 and 8 bits; on a processor for which the fast forms choose oneDNN, also those by MKL. Extra
memory is measured in a process of its own for each form, as the growth of its largest resident size over one call (Linux). On
a machine with a GPU the same is done there, with the share of the arithmetic's peak that `--peak-tflops` names.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from reference import ReferencePointNet
from torch import Tensor, nn
from torch.nn import functional as F

from pointseg.models import PointNetSeg
from pointseg.models.pointnet import products

FORMS = ("reference", "plain", "fast")
MULTIPLY_ADDS = {"predict": 621_568, "train": 1_220_000}  # of the restructured forms, a point


def model_of(form: str, device: str) -> nn.Module:
    torch.manual_seed(0)
    model = ReferencePointNet() if form == "reference" else PointNetSeg(4, 19, implementation=form)
    return model.to(device)


def blocks(model: nn.Module, x: Tensor, size: int = 4096) -> Tensor:
    """The reference in blocks of points, as it is run where a whole scan does not fit."""
    return torch.cat([model(part) for part in x.split(size, dim=1)], dim=1)


def training_step(model: nn.Module, clouds: int, points: int, device: str) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.randn(clouds, points, 4, device=device), torch.randint(0, 19, (clouds * points,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(x).flatten(0, 1), y).backward()
        optimizer.step()

    return step


def interleaved(ways: dict[str, Callable[[], object]], rounds: int, device: str) -> dict[str, float]:
    """Median seconds of each way; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values[1:])) for name, values in seconds.items()}


def by_mkl(way: Callable[[], object]) -> Callable[[], None]:
    """The fast form with the products of torch's own library, where it would take the other one."""

    def run() -> None:
        with patch.object(products, "onednn_is_faster", lambda: False):
            way()

    return run


def exported(model: nn.Module, folder: Path) -> dict[str, nn.Module]:
    """ONNX Runtime with the float32 and the 8-bit file of a model; none where it is not installed."""
    try:
        from pointseg.engine.onnx_model import OnnxModel
        from pointseg.exporting.int8 import quantize
        from pointseg.exporting.onnx_file import build_graph
    except ImportError:
        return {}
    whole, small = folder / "model.onnx", folder / "int8.onnx"
    whole.write_bytes(build_graph(model).SerializeToString())  # type: ignore[arg-type]
    quantize(whole, small, model.float32_nodes)  # type: ignore[arg-type]
    threads = torch.get_num_threads()
    return {"ONNX Runtime": OnnxModel(whole, threads), "ONNX Runtime, 8 bits": OnnxModel(small, threads)}


def predict(points: int, rounds: int, device: str) -> dict[str, float]:
    x = torch.randn(1, points, 4, device=device)
    models = {form: model_of(form, device).eval() for form in FORMS}
    ways: dict[str, Callable[[], object]] = {form: (lambda m=model: m(x)) for form, model in models.items()}
    if products.onednn_is_faster():
        ways["fast, by MKL"] = by_mkl(ways["fast"])
    ways["reference in blocks of 4096"] = lambda: blocks(models["reference"], x)
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        for name, model in exported(models["fast"], Path(folder)).items() if device == "cpu" else ():
            ways[name] = lambda m=model: m(x)
        return interleaved(ways, rounds, device)


def train(clouds: int, points: int, rounds: int, device: str) -> dict[str, float]:
    ways: dict[str, Callable[[], object]] = {
        form: training_step(model_of(form, device).train(), clouds, points, device) for form in FORMS
    }
    if products.onednn_is_faster():
        ways["fast, by MKL"] = by_mkl(ways["fast"])
    return interleaved(ways, rounds, device)


def memory(task: str, form: str, points: int) -> int:
    """Extra MiB of one call, measured in a small process of its own."""
    command = [sys.executable, __file__, "--measure", task, form, "--points", str(points)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout)


def measure_memory(task: str, form: str, points: int) -> None:
    torch.set_num_threads(1)
    if task == "predict":
        model, x = model_of(form, "cpu").eval(), torch.randn(1, points, 4)

        def call(n: int) -> None:
            with torch.no_grad():
                model(x[:, :n])
    else:
        network = model_of(form, "cpu").train()

        def call(n: int) -> None:
            training_step(network, 8, n, "cpu")()

    call(64)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew; ru_maxrss would be inherited from the parent
    before = peak()
    call(points)
    print((peak() - before) // 1024)


def peak() -> int:
    """Largest resident size since it was reset, KiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=124_000, help="of the scan that is predicted")
    parser.add_argument("--clouds", type=int, default=8, help="of a training step")
    parser.add_argument("--cloud-points", type=int, default=4096)
    parser.add_argument("--memory-points", type=int, default=8192, help="of each of the 8 clouds of a step, for memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--peak-tflops", type=float, help="of the GPU, float32 or as torch is set")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_memory(*arguments.measure, arguments.points)
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else processor()
    print(f"{name}, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    found: dict[str, object] = {"device": name, "load": os.getloadavg()[0]}
    shape = f"{arguments.clouds} x {arguments.cloud_points:,}"
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        word = "" if threads == 1 else f" {threads} threads"
        seconds = predict(arguments.points, arguments.rounds, device)
        found[f"predict{word}"] = show(
            f"whole scan of {arguments.points:,} points, threads: {threads}", seconds, arguments.points
        )
        seconds = train(arguments.clouds, arguments.cloud_points, arguments.rounds, device)
        found[f"train{word}"] = show(
            f"training step of {shape} points, threads: {threads}", seconds, arguments.clouds * arguments.cloud_points
        )
    if device == "cpu":
        for task, points, what in (
            ("predict", arguments.points, "whole scan"),
            ("train", arguments.memory_points, f"training step, 8 x {arguments.memory_points:,}"),
        ):
            extra = {form: memory(task, form, points) for form in FORMS}
            found[f"{task} MiB"] = extra
            print(f"extra memory, {what}: " + ", ".join(f"{form} {mib:,} MiB" for form, mib in extra.items()))
    else:
        roofline(found, arguments)
    print(f"load at the end {os.getloadavg()[0]:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


def show(what: str, seconds: dict[str, float], points: int) -> dict[str, float]:
    print(what)
    for name, value in seconds.items():
        ratio = seconds["reference"] / value
        print(f"  {name:<30} {1e3 * value:10.1f} ms   {ratio:6.2f} x   {points / value / 1e6:8.2f} M points/s")
    return seconds


def roofline(found: dict[str, object], arguments: argparse.Namespace) -> None:
    """Shares of the GPU's peaks, and an epoch over the whole data set."""
    for task, points in (("predict", arguments.points), ("train", arguments.clouds * arguments.cloud_points)):
        seconds = found[task]["fast"]  # type: ignore[index]
        tflops = 2 * MULTIPLY_ADDS[task] * points / seconds / 1e12
        share = f", {100 * tflops / arguments.peak_tflops:.0f} % of the peak" if arguments.peak_tflops else ""
        print(f"{task}: {tflops:.1f} TFLOP/s{share}")
    epoch = 2.33e9 / (arguments.clouds * arguments.cloud_points / found["train"]["fast"])  # type: ignore[index]
    print(f"an epoch over 2.33 billion points: {epoch:.0f} s of training steps")


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
