"""A built wheel, installed elsewhere and run from another folder, finds its configs and label maps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points
from verbs import SMALL

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
from pointseg.compute.azureml import AzureCompute, write_job
from pointseg.compute.spec import JobSpec
job = write_job(JobSpec("pointseg.train"), AzureCompute(cluster="gpu-cluster"), pathlib.Path("job"))
assert "torch==" in (job.parent / "conda.yaml").read_text()
assert (job.parent / "code/pointseg/configs/train.yaml").is_file()
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


BLOCKER = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("azure", "azureml", "msrest", "msal"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


@pytest.mark.slow
def test_without_the_azure_extra_all_but_azure_works(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    np.save(tmp_path / "scan.npy", scan_points(50))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}

    def verb(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"pointseg.{name}", *words]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    for name, *words in (
        ("prepare", "output=raw", "synthetic.scans=2", "synthetic.beams=16", "synthetic.azimuth_steps=64"),
        ("train", *SMALL, "hydra.run.dir=run"),
        ("evaluate", "checkpoint=run"),
        ("predict", "checkpoint=run", "input=scan.npy", "output=labels"),
        ("report", "run=run"),
    ):
        done = verb(name, *words)
        assert done.returncode == 0, done.stderr
    workspace = ("azure.subscription=11111111-2222-3333-4444-555555555555", "azure.group=rg", "azure.workspace=ml-ws")
    refused = verb("train", *SMALL, "compute=aml_cpu", *workspace)
    assert refused.returncode == 1
    assert "-c environments/constraints.txt -e '.[azure]'" in refused.stderr
    assert "Traceback" not in refused.stderr
