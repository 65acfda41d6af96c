"""A built wheel, installed elsewhere and run from another folder, finds its configs and label maps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_wheel_works_from_another_folder(tmp_path: Path) -> None:
    wheels, site, work = tmp_path / "wheels", tmp_path / "site", tmp_path / "work"
    work.mkdir()
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    wheel = next(wheels.glob("pointseg-*.whl"))
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    code = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import pointseg
from pointseg.cli import checks
assert pathlib.Path(pointseg.__file__).is_relative_to(sys.argv[1])
assert checks.config_folder().is_relative_to(sys.argv[1])
config, _ = checks.compose_checked("train", ["+experiment=kitti"], multirun=False)
print(pointseg.LabelMap.load(config.data.labels).num_classes)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(site)],
        cwd=work,
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "19", done.stderr
