"""`--help` is quick, begins with worked examples, and lists what can be set."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from verbs import own_environment

HEAVY = ("torch", "mlflow", "pytorch_lightning", "matplotlib", "numpy")
PROBE = """
import runpy, sys, time
sys.argv = ["pointseg", "{flag}"]
try:
    runpy.run_module("pointseg.{verb}", run_name="__main__")
except SystemExit as end:
    print("\\nEND", end.code, [name for name in {heavy} if name in sys.modules])
"""


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("verb", ["train", "evaluate", "predict", "prepare", "export", "report", "serve", "pipeline"])
def test_help(verb: str, flag: str) -> None:
    code = PROBE.format(verb=verb, flag=flag, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], env=own_environment(), capture_output=True, text=True, timeout=60, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "END 0 []"
    examples = [line for line in lines[:5] if line.strip().startswith(f"python -m pointseg.{verb}")]
    assert len(examples) >= 2
    assert "Configuration groups" in done.stdout
    assert "compute" in done.stdout
    if verb == "train":
        assert {"kitti", "kitti_frnet_small", "quick"} <= set(re.findall(r"\w+", done.stdout))
        assert "max_epochs" in done.stdout
