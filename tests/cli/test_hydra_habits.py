"""What Hydra's own documentation says works: one habit a test, as commands in processes of their own; a training
runs in that of the tests, since its process would only import for seconds what this one has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from verbs import SMALL, command, own_environment, run, spawn, succeed

from pointseg.cli.hydra_options import config_folder

MINE = """
_target_: pointseg.models.PointNetSeg
local_widths: [8, 8]
global_widths: [8, 16]
head_widths: [16, 8]
input_transform: false
feature_transform: false
"""
EXPERIMENT = """
# @package _global_
defaults:
  - override /model: mine
seed: 11
optimizer: {lr: 0.007}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A folder of the user's with a model, an experiment, a group of their own and a configuration to begin with."""
    folder = tmp_path / "conf"
    for name, text in (
        ("model/mine.yaml", MINE),
        ("experiment/night.yaml", EXPERIMENT),
        ("data/augmentation/strong.yaml", "_target_: pointseg.data.Augmentation\nyaw: 45.0\n"),
        ("mine.yaml", "defaults: [train, _self_]\nseed: 5\n"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def shown(*words: str, cwd: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load(succeed(spawn("train", *words, cwd=cwd)).out)
    return content


def test_cfg_shows_the_job_and_runs_nothing(tmp_path: Path) -> None:
    config = shown("--cfg", "job", "seed=3", "experiment=kitti", "data.root=DIR", cwd=tmp_path)
    assert config["seed"] == 3
    assert config["data"]["root"] == "DIR"  # type: ignore[index]
    assert not (tmp_path / "outputs").exists()


def test_cfg_of_a_package_and_of_hydra(tmp_path: Path) -> None:
    assert "weight_decay" in shown("--cfg", "job", "--package", "optimizer", cwd=tmp_path)
    assert "hydra" in shown("--cfg", "hydra", cwd=tmp_path)


def test_resolve_fills_interpolations_in(tmp_path: Path) -> None:
    assert shown("--cfg", "job", "seed=7", "+copy=${seed}", cwd=tmp_path)["copy"] == "${seed}"
    config = shown("--cfg", "job", "--resolve", "seed=7", "+copy=${seed}", cwd=tmp_path)
    assert config["copy"] == 7


@pytest.mark.parametrize("what", ["searchpath", "defaults", "defaults-tree", "config", "plugins"])
def test_info_is_hydras(what: str, tmp_path: Path) -> None:
    done = succeed(spawn("train", "--info", what, cwd=tmp_path))
    said = {
        "searchpath": "main",
        "defaults": "model/pointnet",
        "defaults-tree": "train:",
        "config": "seed: 0",
        "plugins": "BasicLauncher",
    }
    assert said[what] in done.out


def test_hydra_help_and_version(tmp_path: Path) -> None:
    assert "--config-dir" in succeed(spawn("train", "--hydra-help", cwd=tmp_path)).out
    assert re.search(r"Hydra 1\.\d", succeed(spawn("train", "--version", cwd=tmp_path)).out)


def test_an_own_experiment_and_model_from_a_folder(conf: Path, tmp_path: Path) -> None:
    words = ["--config-dir", str(conf), "experiment=night", *(word for word in SMALL if not word.startswith("model."))]
    done = succeed(run("train", *words, "tracking=off", "hydra.run.dir=run", cwd=tmp_path))
    config = yaml.safe_load((tmp_path / "run/config.yaml").read_text())
    assert (config["seed"], config["optimizer"]["lr"], config["model"]["local_widths"]) == (11, 0.007, [8, 8])
    assert "mIoU" in done.out


def test_the_same_by_hydras_searchpath(conf: Path, tmp_path: Path) -> None:
    config = shown("--cfg", "job", f"hydra.searchpath=[file://{conf}]", "model=mine", cwd=tmp_path)
    assert config["model"]["head_widths"] == [16, 8]  # type: ignore[index]
    refused = spawn("train", f"hydra.searchpath=[file://{conf}]", "model=mne", cwd=tmp_path)
    assert "there is no model 'mne'" in refused.message
    assert "Did you mean 'mine'?" in refused.message


def test_a_group_within_a_group(conf: Path, tmp_path: Path) -> None:
    words = ("--config-dir", str(conf), "+data/augmentation=strong")
    assert shown(*words, "--cfg", "job", cwd=tmp_path)["data"]["augmentation"]["yaw"] == 45.0  # type: ignore[index]


def test_a_configuration_to_begin_with(conf: Path, tmp_path: Path) -> None:
    words = ("--config-dir", str(conf), "--config-name", "mine")
    assert shown(*words, "--cfg", "job", cwd=tmp_path)["seed"] == 5
    assert "optimizer.lr" in spawn("train", *words, "optimizer.lrr=1", cwd=tmp_path).message


def test_keys_of_a_verb_in_a_configuration_of_ones_own(tmp_path: Path) -> None:
    """By the schema alone, without the verb's own choice of options."""
    (tmp_path / "mine.yaml").write_text(
        "defaults: [tracking: 'off', compute: local, schema/evaluate, _self_]\nsplit: test\n"
    )
    words = ("--config-dir", ".", "--config-name", "mine", "--cfg", "job", "views.count=4")
    config: dict[str, Any] = yaml.safe_load(succeed(spawn("evaluate", *words, cwd=tmp_path)).out)
    assert (config["split"], config["views"]["count"], config["tracking"]["uri"]) == ("test", 4, "off")


def test_a_trainer_of_ones_own_takes_over_the_declared_one(conf: Path, tmp_path: Path) -> None:
    (conf / "trainer").mkdir()
    (conf / "trainer/long.yaml").write_text("defaults: [default, _self_]\nmax_epochs: 50\n")
    config = shown("--config-dir", str(conf), "trainer=long", "--cfg", "job", cwd=tmp_path)
    assert (config["trainer"]["max_epochs"], config["trainer"]["ema_decay"]) == (50, 0.98)  # type: ignore[index]


def test_composing_in_a_notebook(tmp_path: Path) -> None:
    """By Hydra alone, which learns the keys from a plugin."""
    code = f"""
import hydra, sys
with hydra.initialize_config_dir({str(config_folder())!r}, version_base="1.3"):
    config = hydra.compose("train", ["seed=3", "tracking=off", "+experiment=kitti"])
print(config.seed, config.tracking.uri, config.trainer.max_epochs, config.features.ground_cell)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=own_environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "3 off 8 1.0", done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# @package _global_\nseeed: 11\n", "unknown key seeed: the configuration. Did you mean seed?"),
        ("seed: 11\n", "Begin the experiment's file with the line `# @package _global_`."),
        ("# @package _global_\ncompute: {proceses: 2}\n", "unknown key compute.proceses"),
        ("# @package _global_\nseed: [1\nx: 2\n", "experiment/day.yaml, line 3"),
    ],
)
def test_a_mistake_in_an_own_experiment_is_named(text: str, says: str, conf: Path, tmp_path: Path) -> None:
    (conf / "experiment/day.yaml").write_text(text)
    assert says in run("train", "--config-dir", str(conf), "experiment=day", cwd=tmp_path).message


def test_an_own_experiment_may_have_values_that_others_refer_to(conf: Path, tmp_path: Path) -> None:
    (conf / "experiment/day.yaml").write_text("# @package _global_\nrate: 0.004\noptimizer: {lr: '${rate}'}\n")
    words = ("--config-dir", str(conf), "experiment=day", *SMALL, "hydra.run.dir=run")
    assert run("train", *words, cwd=tmp_path).code == 0
    assert yaml.safe_load((tmp_path / "run/config.yaml").read_text())["optimizer"]["lr"] == 0.004


def test_an_option_beside_an_experiment_leaves_out_what_that_set_for_another(tmp_path: Path) -> None:
    words = ("experiment=quick", "scheduler=one_cycle", "tracking=off", "hydra.run.dir=run")
    assert run("train", *words, cwd=tmp_path).code == 0
    assert "warmup_steps" not in yaml.safe_load((tmp_path / "run/config.yaml").read_text())["scheduler"]


def test_a_wrong_option_shown_is_named_without_a_stack(tmp_path: Path) -> None:
    done = spawn("train", "model=mime", "--cfg", "job", cwd=tmp_path)
    assert done.code != 0
    assert "Traceback" not in done.err
    assert "model/mime" in done.err


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert (
        "there is no such folder: --config-dir nowhere"
        in spawn("train", "--config-dir", "nowhere", cwd=tmp_path).message
    )


def test_shell_completion_knows_groups_options_and_keys(tmp_path: Path) -> None:
    def completed(line: str) -> str:
        environment = own_environment(COMP_LINE=line, COMP_POINT=str(len(line)))
        words = command("train", ["--shell-completion", "query=bash"])
        return subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "model=pointnet" in completed("python -m pointseg.train model=")
    assert "optimizer.lr=" in completed("python -m pointseg.train optimizer.l")
    assert "-F hydra_bash_completion" in succeed(spawn("train", "--shell-completion", "install=bash", cwd=tmp_path)).out


def test_completion_in_a_real_shell(tmp_path: Path) -> None:
    script = """
eval "$(python -m pointseg.train --shell-completion install=bash)"
COMP_LINE="python -m pointseg.train data=synthetic_"
COMP_WORDS=($COMP_LINE) COMP_CWORD=3 COMP_POINT=${#COMP_LINE}
hydra_bash_completion 2>/dev/null
echo "offers: ${COMPREPLY[@]}"
"""
    environment = own_environment(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "offers: data=synthetic_small" in done.stdout, done.stderr


def test_an_option_that_hydra_does_not_have(tmp_path: Path) -> None:
    assert "there is no option --fast" in spawn("train", "--fast", cwd=tmp_path).message
    assert "invalid choice: 'jobs'" in spawn("train", "--cfg", "jobs", cwd=tmp_path).message


@pytest.mark.slow
def test_a_launcher_that_is_installed(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ["-m", *SMALL, "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweep.dir=sweep"]
    done = succeed(spawn("train", *words, "tracking=off", cwd=tmp_path))
    assert {path.parent.name for path in (tmp_path / "sweep").glob("*/metrics.json")} == {"0", "1"}
    assert "The sweep, best first:" in done.out
    assert done.out.count("mIoU") >= 2


def test_verbs_are_modules_that_a_debugger_can_start(tmp_path: Path) -> None:
    """By `runpy`, as an IDE does."""
    code = "import runpy, sys; sys.argv = ['train', '--cfg', 'job']; runpy.run_module('pointseg.train', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=own_environment(), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "seed: 0" in done.stdout
    assert list(tmp_path.iterdir()) == []
