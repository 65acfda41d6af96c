"""The job file for Azure ML: what it says, that it may be moved, and what is refused before anything is sent."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from pointseg.azure.job_compute import AzureCompute
from pointseg.azure.job_file import command_job, write_job
from pointseg.core.errors import ConfigError
from pointseg.core.processor import NEEDS_GPU
from pointseg.data.formats import KINDS
from pointseg.jobs import JobSpec
from pointseg.jobs.environment import read_pins, requirements_of
from pointseg.jobs.snapshot import refuse_secret, take_snapshot
from pointseg.jobs.spec import Place

ROOT = Path(__file__).parents[2]
CLUSTER = AzureCompute(cluster="gpu-cluster")
PINS = read_pins(ROOT / "environments/constraints.txt")


def spec(**changes: Any) -> JobSpec:
    settings = {"arguments": ("data.root=${{inputs.data}}", "hydra.run.dir=${{outputs.run}}", "seed=1")}
    places = {"inputs": {"data": Place("azureml:kitti:3")}, "outputs": {"run": Place("")}}
    return JobSpec("pointseg.train", **{**settings, **places, **changes})


def test_one_process_on_a_cluster() -> None:
    job = command_job(spec(), CLUSTER, "azureml:env:1")
    assert job == {
        "$schema": "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "type": "command",
        "experiment_name": "pointseg",
        "command": "python -m pointseg.train data.root=${{inputs.data}} hydra.run.dir=${{outputs.run}} seed=1",
        "code": "code",
        "environment": "azureml:env:1",
        "inputs": {"data": {"type": "uri_folder", "path": "azureml:kitti:3", "mode": "ro_mount"}},
        "outputs": {"run": {"type": "uri_folder", "mode": "rw_mount"}},
        "compute": "azureml:gpu-cluster",
        "resources": {"instance_count": 1},
    }


def test_everything_that_can_be_said() -> None:
    on = AzureCompute(
        vm_size="Standard_NC24ads_A100_v4",
        spot=True,
        shm="64g",
        seconds=3600,
        identity="managed",
        experiment="nightly",
        display_name="a night's run",
        description="of two machines",
        tags={"team": "perception"},
    )
    job = command_job(spec(nodes=2, processes=4, variables={"LEVEL": "3"}), on, "azureml:env:1")
    assert job["distribution"] == {"type": "pytorch", "process_count_per_instance": 4}
    assert job["resources"] == {"instance_count": 2, "instance_type": "Standard_NC24ads_A100_v4", "shm_size": "64g"}
    assert job["queue_settings"] == {"job_tier": "spot"}
    assert job["limits"] == {"timeout": 3600}
    assert job["identity"] == {"type": "managed_identity"}
    assert job["environment_variables"] == {"LEVEL": "3", "LOCAL_WORLD_SIZE": "4"}
    assert (job["tags"], job["display_name"], job["description"]) == (
        {"team": "perception"},
        "a night's run",
        "of two machines",
    )
    assert "compute" not in job


@pytest.mark.parametrize(
    "word",
    [
        "a b", "it's", "data.split.train=[00,01]", "x='y z'", "a;b", "$(id)", "`id`", "a&b", "é", "~root",
        "tracking.tags={team:maps,project:x}", "x=${data.points}", "x=$HOME/scans", "x={1..3}",
    ],
)  # fmt: skip
def test_words_reach_the_program_as_they_are(word: str) -> None:
    command = command_job(spec(arguments=(word, "last")), CLUSTER, "azureml:env:1")["command"]
    printed = command.replace("python -m pointseg.train", "printf '%s\\n'")
    said = subprocess.run(["bash", "-c", printed], capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [word, "last"]


def test_a_path_is_filled_in_before_the_shell_reads_it() -> None:
    words = ("data.root=${{inputs.data}}", "x={a,b}/${{inputs.data}}")
    command = command_job(spec(arguments=words), CLUSTER, "azureml:env:1")["command"]
    assert command == "python -m pointseg.train data.root=${{inputs.data}} 'x={a,b}/${{inputs.data}}'"


def test_the_folder_may_be_moved(tmp_path: Path) -> None:
    path = write_job(spec(), CLUSTER, tmp_path / "job")
    shutil.move(tmp_path / "job", tmp_path / "elsewhere")
    job = yaml.safe_load((tmp_path / "elsewhere" / path.name).read_text())
    for relative in (job["code"], job["environment"]["conda_file"]):
        assert (tmp_path / "elsewhere" / relative).exists()
    assert str(tmp_path) not in (tmp_path / "elsewhere" / path.name).read_text()


def test_the_environment_is_whole_and_pinned(tmp_path: Path) -> None:
    write_job(spec(), CLUSTER, tmp_path / "job")
    lines = yaml.safe_load((tmp_path / "job/conda.yaml").read_text())["dependencies"][-1]["pip"]
    assert lines[0] == "--extra-index-url https://download.pytorch.org/whl/cpu"
    versions = dict(line.split("==") for line in lines[1:])
    assert versions.pop("torch") == f"{PINS['torch']}+cpu"
    pins = PINS
    for name in (
        "pytorch-lightning",
        "hydra-core",
        "mlflow",
        "azureml-mlflow",
        "numpy",
        "lightning-utilities",
    ):
        assert versions[name] == pins[name]
    assert not {"pytest", "ruff", "laspy", "fastapi-cli"} & set(versions)
    assert {name for name, version in versions.items() if name in pins and version != pins[name]} == set()


@pytest.mark.parametrize(("build", "index"), [("cu126", ["/cu126"]), (None, [])])
def test_a_build_of_torch_comes_from_its_index(tmp_path: Path, build: str | None, index: list[str]) -> None:
    write_job(spec(), AzureCompute(cluster="gpu-cluster", torch=build), tmp_path / "job")
    lines = yaml.safe_load((tmp_path / "job/conda.yaml").read_text())["dependencies"][-1]["pip"]
    assert [line.rpartition("/whl")[2] for line in lines if line.startswith("-")] == index
    assert f"torch=={PINS['torch']}" + (f"+{build}" if build else "") in lines


def test_a_gpu_job_says_that_it_needs_one_and_its_variables() -> None:
    on = AzureCompute(cluster="gpu-cluster", gpu=True, env={"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": 4})
    variables = command_job(spec(), on, "azureml:env:1")["environment_variables"]
    assert variables == {"NCCL_DEBUG": "INFO", "OMP_NUM_THREADS": "4", NEEDS_GPU: "1"}


def test_people_can_look_into_a_job(tmp_path: Path) -> None:
    (tmp_path / "id.pub").write_text("ssh-ed25519 AAAAC3Nz me@here\n")
    on = AzureCompute(cluster="c1", services=["vs_code", "tensor_board", "ssh"], ssh_key=str(tmp_path / "id.pub"))
    assert command_job(spec(), on, "azureml:env:1")["services"] == {
        "vs_code": {"type": "vs_code"},
        "tensor_board": {"type": "tensor_board", "log_dir": "${{outputs.run}}"},
        "ssh": {"type": "ssh", "ssh_public_keys": "ssh-ed25519 AAAAC3Nz me@here"},
    }


def test_a_run_folder_becomes_an_asset() -> None:
    job = command_job(spec(), AzureCompute(cluster="c1", asset="street-runs"), "azureml:env:1")
    assert job["outputs"]["run"]["name"] == "street-runs"


def test_a_job_on_kubernetes_says_what_it_gets() -> None:
    job = command_job(spec(), AzureCompute(cluster="aks", instance_type="gpu-large"), "azureml:env:1")
    assert job["resources"]["instance_type"] == "gpu-large"
    assert job["compute"] == "azureml:aks"


def test_an_extra_that_an_environment_of_the_workspace_may_lack_is_written_beside(tmp_path: Path) -> None:
    there = AzureCompute(cluster="gpu-cluster", environment="azureml:env:1")
    jobs = [
        yaml.safe_load(write_job(spec(extras=extras), there, tmp_path / name).read_text())
        for name, extras in (("without", ()), ("with", ("export",)))
    ]
    assert [job["environment"] for job in jobs] == ["azureml:env:1", {"image": there.image, "conda_file": "conda.yaml"}]
    assert not (tmp_path / "without/conda.yaml").exists()
    assert "onnxruntime==" in (tmp_path / "with/conda.yaml").read_text()


def test_what_reads_a_kind_is_named_by_the_extra_itself() -> None:
    """Not only by a package of it, whose own needs are not known where it is not installed."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {Requirement(line).name for line in extras["formats"]}
    assert {package for kind in KINDS.values() for package in kind.packages} <= named


def test_needs_are_followed_through() -> None:
    found = requirements_of("pointseg")
    assert {"torch", "mlflow", "mlflow-skinny", "antlr4-python3-runtime", "lightning-utilities"} <= found
    assert "pointseg" not in found


def test_the_snapshot_is_the_code_and_nothing_else(tmp_path: Path) -> None:
    folder = take_snapshot(tmp_path / "code")
    assert {path.name for path in folder.iterdir()} <= {
        "pointseg", "configs", "environments", "scripts", "pyproject.toml", "LICENSE", "README.md",
    }  # fmt: skip
    assert (folder / "pointseg/train.py").is_file()
    assert (folder / "configs/train.yaml").is_file()
    assert not list(folder.rglob("__pycache__"))
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 10 << 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".env", "X=1"),
        ("id_rsa", "x"),
        ("server.pem", "x"),
        ("a/credentials.json", "{}"),
        ("notes.md", "-----BEGIN RSA PRIVATE KEY-----\nabc"),
        ("store.py", "s = 'AccountKey=abcdefghijklmnopqrstuvwxyz0123456789=='"),
        ("link.txt", "https://x.blob.core.windows.net/c/f?sv=1&sig=abcdefghijklmnopqrstuvwxyz0123"),
        ("settings.yaml", "api_key: abcdefghijklmnop0123"),
        ("settings.ini", "password = abcdefghijklmnop0123"),
    ],
)
def test_a_secret_does_not_go_along(name: str, content: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    with pytest.raises(ConfigError, match="would go along") as caught:
        refuse_secret(file, tmp_path)
    assert "abcdefghij" not in str(caught.value)


def test_what_only_talks_of_secrets_goes_along(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("keyframes: 3\nkey_file: null\napi_key: null\ntoken: ${oc.env:TOKEN}\n")
    refuse_secret(tmp_path / "a.yaml", tmp_path)


# ---- what the SDK lets through, and Azure refuses later or does not do ---------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({}, "compute"),
        ({"cluster": "a", "vm_size": "Standard_D4s_v3"}, "compute"),
        ({"cluster": "gpu-cluster", "spot": True}, "spot"),
        ({"vm_size": "Standard_D4s_v3", "instance_type": "gpu"}, "instance_type"),
        ({"cluster": "gpu-cluster", "instance_type": "GPU!"}, "instance_type"),
        ({"cluster": "gpu-cluster", "torch": "cuda12"}, "torch"),
        ({"cluster": "gpu-cluster", "services": ["telnet"]}, "services"),
        ({"cluster": "gpu-cluster", "services": ["ssh"]}, "ssh_key"),
        ({"cluster": "gpu-cluster", "services": ["ssh"], "ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "ssh_key"),
        ({"cluster": "gpu-cluster", "asset": "a name"}, "asset"),
        ({"cluster": "gpu-cluster", "env": {"AZUREML_RUN_ID": "x"}}, "env.AZUREML_RUN_ID"),
        ({"cluster": "gpu-cluster", "env": {"API_KEY": "x"}}, "env.API_KEY"),
        ({"cluster": "1gpu"}, "cluster"),
        ({"cluster": "gpu_cluster"}, "cluster"),
        ({"cluster": "g" * 33}, "cluster"),
        ({"vm_size": "NC24"}, "vm_size"),
        ({"cluster": "gpu-cluster", "shm": "64gigs"}, "shm"),
        ({"cluster": "gpu-cluster", "shm": "0g"}, "shm"),
        ({"cluster": "gpu-cluster", "shm": "16"}, "shm"),
        ({"cluster": "gpu-cluster", "seconds": 0}, "seconds"),
        ({"cluster": "gpu-cluster", "seconds": 1.5}, "seconds"),
        ({"cluster": "gpu-cluster", "identity": "me"}, "identity"),
        ({"cluster": "gpu-cluster", "environment": "azureml:env"}, "environment"),
        ({"cluster": "gpu-cluster", "environment": "azureml:my env:1"}, "environment"),
        ({"cluster": "gpu-cluster", "image": "Not An Image"}, "image"),
        ({"cluster": "gpu-cluster", "experiment": "a/b"}, "experiment"),
        ({"cluster": "gpu-cluster", "experiment": "e" * 256}, "experiment"),
        ({"cluster": "gpu-cluster", "display_name": "two\nlines"}, "display_name"),
        ({"cluster": "gpu-cluster", "tags": {"team": 3}}, "tags.team"),
        ({"cluster": "gpu-cluster", "tags": {"team": "x" * 257}}, "tags.team"),
        ({"cluster": "gpu-cluster", "tags": {"api_key": "abc"}}, "tags.api_key"),
        ({"cluster": "gpu-cluster", "tags": {"store": "https://me:open-sesame@host"}}, "tags.store"),
    ],
)
def test_settings_that_azure_would_not_take(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AzureCompute(**settings)
    assert key in str(caught.value.where)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arguments": ("data.root=${{inputs.nope}}",)}, "no input 'nope'"),
        ({"arguments": ("x=${{outputs.nope}}",)}, "no output 'nope'"),
        ({"arguments": ("x=${{parameters.lr}}",)}, "placeholder"),
        ({"arguments": ("x=${{inputs.data",)}, "placeholder"),
        (
            {"arguments": ("tracking.uri=https://me:open-sesame@host",)},
            r"secret in a job's words .*: .*=https://\*\*\*@host",
        ),
        ({"nodes": 0}, "compute.nodes"),
        ({"processes": 0}, "compute.processes"),
        ({"variables": {"A-B": "1"}}, "no name of a variable"),
        ({"variables": {"MLFLOW_TRACKING_URI": "x"}}, "Azure ML sets"),
        ({"variables": {"STORAGE_ACCESS_KEY": "x"}}, "secret"),
        ({"inputs": {"data": Place("azureml:kitti")}}, "names no data asset"),
        ({"inputs": {"data": Place("nowhere/at/all")}}, "no such file or folder"),
        ({"inputs": {"data": Place("pyproject.toml")}}, "a folder is needed"),
        ({"inputs": {"data": Place("pointseg", "uri_file")}}, "a file is needed"),
        ({"inputs": {"data": Place("pointseg", "mltable")}}, "MLTable"),
        ({"inputs": {"data": Place("azureml:kitti:3", mode="upload")}}, "no way to read"),
        ({"outputs": {"run": Place("", mode="download")}}, "no way to write"),
        ({"outputs": {"run": Place("/home/me/out")}}, "cannot be written by a job"),
    ],
)
def test_jobs_that_would_fail_later(
    changes: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=says):
        write_job(spec(**changes), CLUSTER, tmp_path / "job")
    assert not (tmp_path / "job/job.yaml").exists()
