"""A built wheel, installed elsewhere and run from another folder, finds its configs and label maps."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bare_environment import bare_environment
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
    with zipfile.ZipFile(wheel) as content:
        assert "hydra_plugins/pointseg_schema.py" in content.namelist()
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--quiet", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    code = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import pointseg
from pointseg.cli.hydra_options import config_folder
from pointseg.cli import override_checks
assert pathlib.Path(pointseg.__file__).is_relative_to(sys.argv[1])
assert config_folder().is_relative_to(sys.argv[1])
config, _ = override_checks.compose_checked("train", ["+experiment=kitti"], multirun=False)
from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.job_file import write_job
from pointseg.jobs.spec import JobSpec
job = write_job(JobSpec("pointseg.train"), AzureCompute(cluster="gpu-cluster"), pathlib.Path("job"))
assert "torch==" in (job.parent / "conda.yaml").read_text()
assert (job.parent / "code/pointseg/configs/train.yaml").is_file()
assert (job.parent / "code/pointseg/core/shipped_models/street/weights.safetensors").is_file()
assert pointseg.Predictor.load("street").label_map.num_classes == 19
import hydra
with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
    assert hydra.compose("train", ["+experiment=kitti"]).trainer.max_epochs == 8
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


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has what `make demo` installs, and no extra."""
    return bare_environment(tmp_path_factory.mktemp("bare"), ["pointseg"], ROOT)


@pytest.mark.slow
def test_without_extras_all_but_their_own_commands_work(bare_python: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", scan_points(50))

    def verb(name: str, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(bare_python), "-m", f"pointseg.{name}", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    for name, *words in (
        ("prepare", "output=raw", "synthetic.scans=2", "synthetic.beams=16", "synthetic.azimuth_steps=64"),
        ("train", *SMALL, "tracking=mlflow", "hydra.run.dir=run"),
        ("evaluate", "checkpoint=run"),
        ("predict", "checkpoint=run", "input=scan.npy", "output=labels"),
        ("report", "run=run"),
        ("register_model", "run=run", "name=street"),
    ):
        done = verb(name, *words)
        assert done.returncode == 0, done.stderr
    workspace = ("azure.subscription=11111111-2222-3333-4444-555555555555", "azure.group=rg", "azure.workspace=ml-ws")
    for extra, name, *words in (
        ("azure", "train", *SMALL, "compute=aml_cpu", *workspace),
        ("export", "export", "checkpoint=run", "output=exported"),
        ("serve", "serve", "checkpoint=run"),
        ("serve", "deploy", "target=local", "checkpoint=run"),
        ("sweep", "train", "-m", *SMALL, "compute.sweep.trials=2", "optimizer.lr=interval(1e-4,1e-2)"),
    ):
        refused = verb(name, *words)
        assert refused.returncode == 1, refused.stdout
        assert f"-c environments/constraints.txt -e '.[{extra}]'" in refused.stderr
        assert "Traceback" not in refused.stderr
