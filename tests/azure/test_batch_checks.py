"""What Azure would not take of a batch endpoint, or take and not do, is refused by name before anybody is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from batch_helpers import batch_settings, write_bundle, write_scans
from verbs import own_environment, run

from pointseg.azure.endpoints.batch import BatchDeployment
from pointseg.azure.endpoints.deployment import BATCH_DRIVER, copy_scoring_code
from pointseg.azure.names import check_endpoint_name
from pointseg.azure.resources.environments import JobEnvironment
from pointseg.azure.resources.models import ModelAsset, read_address
from pointseg.cli.override_checks import compose_checked
from pointseg.core.errors import ConfigError
from pointseg.jobs.environment import read_pins
from pointseg.workflows.labelling.batch_job import stage_input

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize(
    ("values", "key", "says"),
    [
        ({"cluster": "1st"}, "batch.cluster", "2 to 32 letters"),
        ({"cluster": None}, "batch.cluster", "no cluster name is given"),
        ({"instances": 0}, "batch.instances", "1 to 1,000"),
        ({"instances": True}, "batch.instances", "whole number"),
        ({"concurrency": 2.5}, "batch.concurrency", "whole number"),
        ({"mini_batch_size": 0}, "batch.mini_batch_size", "1 to"),
        ({"retries": -1}, "batch.retries", "0 to"),
        ({"seconds": 0}, "batch.seconds", "1 to"),
        ({"error_threshold": -2}, "batch.error_threshold", "-1 to"),
        ({"output_file": "a/b.csv"}, "batch.output_file", "not a valid file name"),
        ({"remission_scale": 0}, "batch.remission_scale", "not a positive number"),
    ],
)
def test_settings_that_cannot_be(values: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        batch_settings(**values)
    assert str(caught.value.where) == key
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["ab", "Street", "1st-batch", "street-", "street_batch", "a" * 33, "", None])
def test_names_of_endpoints_that_azure_does_not_take(name: str | None) -> None:
    with pytest.raises(ConfigError, match="3 to 32 lower-case letters"):
        check_endpoint_name("endpoint", name)


def test_a_deployment_is_called_after_its_content(tmp_path: Path) -> None:
    environment = JobEnvironment("env", "example.azurecr.io/x:1", "dependencies: []")
    settings = batch_settings()
    one = BatchDeployment("street-batch", ModelAsset("net", "1"), environment, tmp_path, "code", settings)
    assert check_endpoint_name("name", one.name) == one.name
    assert replace(one, code=tmp_path / "elsewhere").name == one.name
    others = {
        one.name,
        replace(one, model=ModelAsset("net", "2")).name,
        replace(one, code_sha256="other").name,
        replace(one, environment=replace(environment, image="example.azurecr.io/x:2")).name,
        replace(one, settings=replace(settings, mini_batch_size=3)).name,
    }
    assert len(others) == 5


@pytest.mark.parametrize(
    "given", ["azureml:net", "azureml:net:", "azureml:net@champion", "azureml:a b:1", "azureml://x"]
)
def test_addresses_that_name_no_model(given: str) -> None:
    with pytest.raises(ConfigError, match="azureml:NAME:VERSION"):
        read_address("checkpoint", given)


def test_the_code_is_the_package_with_a_script_at_its_root(tmp_path: Path) -> None:
    first, second = copy_scoring_code(tmp_path / "first"), copy_scoring_code(tmp_path / "second")
    assert first == second
    assert {path.name for path in (tmp_path / "first").iterdir()} == {"pointseg", BATCH_DRIVER}
    (tmp_path / "first/pointseg/changed.py").write_text("")


def test_the_environment_has_exact_versions_of_what_the_driver_needs() -> None:
    pins = read_pins(SCRIPTS.parent / "environments/batch.txt")
    serving = read_pins(SCRIPTS.parent / "environments/serving.txt")
    assert {"azureml-core", "azureml-dataset-runtime", "fusepy", "torch", "numpy", "filelock"} <= set(pins)
    assert pins["torch"] == serving["torch"]


def test_help_is_quick_and_begins_with_examples() -> None:
    program = (
        "import runpy, sys\nsys.argv = ['deploy.py', '--help']\n"
        f"try:\n    runpy.run_path({str(SCRIPTS / 'deploy.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('END', end.code, [m for m in ('torch', 'mlflow', 'azure.ai.ml', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=own_environment(), capture_output=True, text=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "END 0 []", done.stderr
    assert "scripts/deploy.py target=batch checkpoint=RUN_FOLDER plan=true" in done.stdout
    assert "mini_batch_size" in done.stdout


def test_keys_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean batch\.mini_batch_size"):
        compose_checked("deploy", ["batch.minibatch_size=3"], multirun=False)
    with pytest.raises(ConfigError):
        compose_checked("deploy", ["compute=aml_cpu"], multirun=False)


ENDPOINT = "endpoint=street-batch"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "no target is named"),
        (["target=moon"], "there is no 'moon'"),
        pytest.param(["target=batch", ENDPOINT], "no checkpoint is given", marks=pytest.mark.slow),
        pytest.param(["target=batch", ENDPOINT, "checkpoint=nowhere"], "nowhere", marks=pytest.mark.slow),
        pytest.param(
            ["target=batch", ENDPOINT, "checkpoint=azureml:net"], "azureml:NAME:VERSION", marks=pytest.mark.slow
        ),
        pytest.param(
            ["target=batch", ENDPOINT, "checkpoint=x", "name=a b"], "not a valid model name", marks=pytest.mark.slow
        ),
        (["target=batch", "checkpoint=x"], "no endpoint name is given"),
        (["target=batch", "checkpoint=x", "endpoint=Street"], "lower-case"),
        pytest.param(
            ["target=batch", ENDPOINT, "checkpoint=x", "batch.instances=0"], "batch.instances", marks=pytest.mark.slow
        ),
        pytest.param(
            ["target=batch", ENDPOINT, "checkpoint=x", "batch.environment=none.txt"],
            "list of versions",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["target=batch", ENDPOINT, "checkpoint=x", "batch.image=no image"],
            "not a valid container image",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            ["target=batch", ENDPOINT, "checkpoint=x", "azure.auth=me"], "there is no 'me'", marks=pytest.mark.slow
        ),
    ],
)
def test_what_is_wrong_with_a_deployment_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / ".azureml").mkdir()
    ids = {"subscription_id": "11111111-2222-3333-4444-555555555555", "resource_group": "rg", "workspace_name": "ws-1"}
    (tmp_path / ".azureml/config.json").write_text(json.dumps(ids))
    assert says in run("deploy", *words, cwd=tmp_path).message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["endpoint=street-batch", "input=x"], "endpoint=batch:NAME"),
        pytest.param(["endpoint=batch:Street", "input=x"], "lower-case", marks=pytest.mark.slow),
        pytest.param(["endpoint=batch:street"], "no input is given", marks=pytest.mark.slow),
        pytest.param(
            ["endpoint=batch:street", "input=x", "job=y", "output=z"], "both input and job", marks=pytest.mark.slow
        ),
        pytest.param(["endpoint=batch:street", "input=x", "wait=true"], "no output folder", marks=pytest.mark.slow),
        (["endpoint=batch:street", "input=x", "output=y"], "Add wait=true"),
        pytest.param(["endpoint=batch:street", "input=nowhere"], "the input does not exist", marks=pytest.mark.slow),
        pytest.param(["endpoint=batch:street", "input=x", "url=http://127.0.0.1:1"], "url", marks=pytest.mark.slow),
        pytest.param(
            ["endpoint=batch:street", "input=x", "probabilities=true"], "scripts/deploy.py", marks=pytest.mark.slow
        ),
        pytest.param(
            ["url=http://127.0.0.1:1", "input=x", "wait=true"], "only a batch endpoint has jobs", marks=pytest.mark.slow
        ),
    ],
)
def test_what_is_wrong_with_a_call_is_said(tmp_path: Path, words: list[str], says: str) -> None:
    assert says in run("invoke", *words, cwd=tmp_path).message


def test_of_a_folder_the_scans_alone_are_uploaded(tmp_path: Path) -> None:
    tree = write_scans(tmp_path / "kitti")
    staged = Path(stage_input(str(tree.root / "sequences/08"), tmp_path / "staged"))
    found = sorted(path.relative_to(staged).as_posix() for path in staged.rglob("*") if path.is_file())
    assert found == [f"sequences/08/velodyne/{frame:06d}.bin" for frame in (0, 3, 7)]
    assert (staged / found[0]).readlink() == (tree.bin("08/000000").resolve())


def test_a_bundle_has_the_version_of_its_content(tmp_path: Path) -> None:
    from pointseg.engine import bundle
    from pointseg.tracking.packaging import bundle_sha256

    given = write_bundle(tmp_path / "given")
    again = bundle.save_bundle(tmp_path / "again", bundle.load(given))
    assert bundle_sha256(again) == bundle_sha256(given)
    other = write_bundle(tmp_path / "other", seed=1)
    assert bundle_sha256(other) != bundle_sha256(given)
