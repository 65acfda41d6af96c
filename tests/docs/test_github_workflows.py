"""The workflows of GitHub: what is careless or wrong in them, and every step that runs a command, run here."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from verbs import own_environment
from workflow_steps import FILES, FOLDER, ROOT, VALUES, Step, jobs, read, step, steps

from pointseg.azure.workspace import VARIABLES
from pointseg.cli.override_checks import compose_checked

SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")  # as GitHub runs a step
PINNED = re.compile(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40}) # (v[0-9]+\.[0-9]+\.[0-9]+)")


def tool(*words: str) -> None:
    done = subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- what can be said by looking -----------------------------------------------------------------------------------


def test_nothing_in_them_is_careless() -> None:
    tool("zizmor", "--offline", "--persona=auditor", "--quiet", str(FOLDER))


def test_github_would_take_them() -> None:
    tool("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, FILES))


def test_actions_are_pinned_and_the_same_everywhere() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FILES)
    pins = PINNED.findall(text)
    assert len(pins) == text.count("uses:")
    assert len(set(pins)) == len({action for action, _, _ in pins})


def test_nobody_gets_more_rights_than_the_job_needs() -> None:
    for path, name, job in jobs():
        assert read(path)["permissions"] == {}, path
        rights = {"contents": "read"} | ({"id-token": "write"} if path.stem == "train_and_deploy" else {})
        assert job["permissions"] == rights, name
        assert job["timeout-minutes"] <= 360, name
        assert ("environment" in job) == ("id-token" in rights), name


def test_commands_hold_no_expressions_and_no_secrets() -> None:
    for path in FILES:
        assert "secrets." not in path.read_text(encoding="utf-8")
    for each in steps():
        assert "${{" not in each.run, each.name
        done = subprocess.run(["bash", "-n"], input=each.run, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", each.run)) - {"GITHUB_OUTPUT"}
        assert used == set(each.env) & used, each.name
        assert used <= set(VALUES), each.name


def test_paths_that_start_a_training_are_there() -> None:
    for pattern in read(FOLDER / "train_and_deploy.yml")[True]["push"]["paths"]:  # YAML reads `on` as true
        assert (ROOT / pattern.removesuffix("/**")).exists(), pattern


def test_what_ci_runs_are_targets_that_are_run_before_a_change_is_taken() -> None:
    targets = {
        line.split(":")[0] for line in (ROOT / "Makefile").read_text().splitlines() if re.match(r"[\w-]+:", line)
    }
    here = (ROOT / ".ci/run").read_text()
    matrix = read(FOLDER / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["tier"]
    for each in steps():
        if each.workflow == "ci":
            target = shlex.split(each.run)[1]
            for name in matrix if target == "$TIER" else [target]:
                assert name in targets
                assert re.search(rf"^make {name}\b", here, re.M) or name == "bench", name


# ---- what can be said by running -----------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the steps find in a checkout, with a `python` that plans what would reach Azure."""
    for name in ("scripts", "environments", "pyproject.toml", "configs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(
        f"""#!/bin/sh
case "$*" in
  *pointseg.pipeline*) exec {sys.executable} "$@" compute.dry_run=true ;;
  *scripts/deploy.py*) exec {sys.executable} "$@" plan=true ;;
  *) exec {sys.executable} "$@" ;;
esac
"""
    )
    python.chmod(0o755)
    return tmp_path


def run(each: Step, folder: Path, **more: str) -> str:
    """The step as GitHub runs it, with the values of its variables; what it said."""
    clean = own_environment(GITHUB_OUTPUT=str(folder / "output"), **more)
    for names in VARIABLES.values():
        for name in names:
            clean.pop(name, None)
    values = {name: VALUES[name] for name in each.env}
    environment = {**clean, **values, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", **more}
    done = subprocess.run(
        [*SHELL, each.run], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_benchmarks_write_what_is_kept(checkout: Path) -> None:
    each = step("ci", "Benchmarks")
    listed = subprocess.run([*SHELL, each.run.replace("make", "make -n", 1)], cwd=ROOT, capture_output=True, text=True)
    words = shlex.split(next(line for line in listed.stdout.splitlines() if "benchmarks/pointnet.py" in line))
    quick = ["--points", "2000", "--rounds", "1", "--clouds", "2", "--cloud-points", "64", "--memory-points", "64"]
    subprocess.run([sys.executable, *words[1:], *quick], cwd=checkout, env=own_environment(), check=True, timeout=300)
    kept = next(job for _, name, job in jobs() if name == "benchmarks")["steps"][-1]["with"]["path"]
    assert (checkout / kept).stat().st_size > 100


@pytest.mark.slow
def test_the_pipeline_is_one_that_could_be_submitted(checkout: Path) -> None:
    said = run(step("train_and_deploy", "Prepare, train, evaluate, pass the gate, register"), checkout)
    assert "Not submitted" in said
    pipeline = yaml.safe_load((checkout / "trained/pipeline/pipeline.yaml").read_text())
    assert list(pipeline["jobs"]) == ["prepare", "train", "evaluate", "register"]
    text = (checkout / "trained/pipeline/pipeline.yaml").read_text()
    assert "azureml:semantic-kitti@latest" in text
    assert "0.15" in text


def test_the_version_that_was_registered_is_told_to_the_next_job(checkout: Path) -> None:
    (checkout / "trained/register").mkdir(parents=True)
    (checkout / "trained/register/registration.json").write_text('{"name": "street", "version": "7"}')
    run(step("train_and_deploy", "Which version it is"), checkout)
    assert (checkout / "output").read_text() == "version=7\n"


@pytest.mark.slow
def test_the_deployment_can_be_planned(checkout: Path) -> None:
    said = run(step("train_and_deploy", "Deploy beside the old version, then move the traffic"), checkout)
    assert "street-online" in said
    assert "azureml:street:3" in said
    assert "Nothing was changed: plan=true." in said


def trial_words() -> list[str]:
    """What scripts/invoke.py is given."""
    words = step("train_and_deploy", "Try the endpoint").commands[0]
    assert words[:2] == ["python", "scripts/invoke.py"]
    return words[2:]


def test_the_trial_is_a_call_that_there_is() -> None:
    config, *_ = compose_checked("invoke", trial_words(), multirun=False)
    assert config.endpoint == "online:street-online"
    assert config.azure.auth == "oidc"


def test_installing_is_what_the_readme_says() -> None:
    lines = {each.run for each in steps() if "pip install" in each.run}
    assert lines == {"python -m pip install -c environments/constraints.txt -e '.[azure]'"}
    assert lines.pop() in (ROOT / "README.md").read_text(encoding="utf-8")
