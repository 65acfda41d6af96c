"""The pages and pictures of docs/ that are made or that list others: current and complete."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from import_graph import IMPORTS
from omegaconf import DictConfig, OmegaConf

from pointseg.azure import batch, clusters, computes, data_assets, workspace
from pointseg.cli import checks, deploying, exporting, pipeline_steps, preparing
from pointseg.client import COMPRESSIONS
from pointseg.compute import azureml, sweep
from pointseg.data import residency, sampling
from pointseg.data.datamodule import SPLITS
from pointseg.losses import CLASS_WEIGHTINGS
from pointseg.models.pointnet import IMPLEMENTATIONS
from pointseg.prediction import files as prediction_files
from pointseg.prediction import inputs
from pointseg.tracking import packaging
from pointseg.training import devices

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "generate"))

import config_files  # noqa: E402
import config_page  # noqa: E402
import house  # noqa: E402

FILES = [str(file) for file in config_files.files()]


# ---- the configuration reference ---------------------------------------------------------------------------------


def test_the_configuration_page_is_what_the_configurations_say() -> None:
    assert config_page.PAGE.read_text(encoding="utf-8") == config_page.page(), "run `make docs`"


@pytest.mark.parametrize("file", FILES)
def test_keys_and_defaults_are_those_that_the_commands_read(file: str) -> None:
    read = OmegaConf.load(checks.config_folder() / file)
    keys = [key for key in config_files.load(file).keys if key.value]
    told = {key.path: OmegaConf.create(f"x: {key.value}").x for key in keys}
    assert told == {path: OmegaConf.select(read, path) for path in told}
    leaves = {path for path in _leaves(read) if path.split(".")[0] not in ("defaults", "hydra")}
    assert [path for path in leaves if not any(path == key or path.startswith(f"{key}.") for key in told)] == []


def _leaves(section: DictConfig, prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in section:
        inner = None if OmegaConf.is_missing(section, key) else section._get_node(key)
        path = f"{prefix}{key}"
        found += _leaves(inner, f"{path}.") if isinstance(inner, DictConfig) and not inner._is_none() else [path]
    return found


@pytest.mark.parametrize("file", [file for file in FILES if not file.startswith("experiment")])
def test_every_key_is_described(file: str) -> None:
    """By a comment beside it or above it; a key of a section also where another file describes that key."""
    group, _, option = file.removesuffix(".yaml").rpartition("/")
    keys = config_files.group_settings(group, option).keys if group else config_files.load(file).keys
    elsewhere = {k.path for f in FILES if "/" not in f for k in config_files.load(f).keys if k.what and "." in k.path}
    told = {row.path for row in config_page._rows(keys) if any(row.what.values())}
    leaves = [row.path for row in config_page._rows(keys) if any(row.defaults.values())]
    assert [path for path in leaves if path not in told | elsewhere] == [], f"comments are missing in configs/{file}"


CHOICES = [
    ("prepare.yaml", "format", ("auto", *preparing.FORMATS)),
    ("export.yaml", "format", exporting.FORMATS),
    ("register_model.yaml", "format", packaging.FORMATS),
    ("register_data.yaml", "type", data_assets.KINDS),
    ("predict.yaml", "write", inputs.WRITES),
    ("predict.yaml", "on_error", prediction_files.ON_ERROR),
    ("invoke.yaml", "write", inputs.WRITES),
    ("invoke.yaml", "compression", COMPRESSIONS),
    ("deploy.yaml", "batch.write", inputs.WRITES),
    ("deploy.yaml", "batch.output_action", batch.OUTPUT_ACTIONS),
    ("deploy.yaml", "target", tuple(deploying.TARGETS)),
    ("provision.yaml", "clusters.gpu-cluster.tier", clusters.TIERS),
    ("provision.yaml", "clusters.gpu-cluster.kind", (*computes.TYPES, "attached")),
    ("provision.yaml", "azure.auth", workspace.AUTH),
    ("evaluate.yaml", "split", SPLITS),
    ("report.yaml", "split", SPLITS),
    ("export.yaml", "split", SPLITS),
    ("register_model.yaml", "split", SPLITS),
    ("data/synthetic.yaml", "residency", residency.RESIDENCIES),
    ("data/semantickitti.yaml", "residency", residency.RESIDENCIES),
    ("data/synthetic.yaml", "sampling.method", sampling.METHODS),
    ("data/semantickitti.yaml", "sampling.method", sampling.METHODS),
    ("loss/cross_entropy.yaml", "class_weighting", CLASS_WEIGHTINGS),
    ("model/pointnet.yaml", "implementation", IMPLEMENTATIONS),
    ("model/pointnet_paper.yaml", "implementation", IMPLEMENTATIONS),
    ("trainer/default.yaml", "precision", devices.PRECISIONS),
    ("compute/aml_gpu.yaml", "compute.identity", tuple(azureml.IDENTITIES)),
    ("compute/aml_gpu.yaml", "compute.sweep.sampling", sweep.SAMPLINGS["azure"]),
    ("compute/aml_gpu.yaml", "compute.sweep.early_termination", sweep.TERMINATIONS["azure"]),
    ("compute/local.yaml", "sweep.sampling", sweep.SAMPLINGS["local"]),
    ("compute/local.yaml", "sweep.early_termination", sweep.TERMINATIONS["local"]),
]


@pytest.mark.parametrize(("file", "path", "taken"), CHOICES)
def test_the_choices_of_a_comment_are_those_of_the_code(file: str, path: str, taken: tuple[str, ...]) -> None:
    told = next(key.what for key in config_files.load(file).keys if key.path == path)
    assert set(config_files.choices(told)) == set(taken)


def test_the_steps_of_a_pipeline_are_in_its_default() -> None:
    told = next(key.value for key in config_files.load("pipeline.yaml").keys if key.path == "steps")
    assert [step for step in pipeline_steps.STEPS if step in told] == [
        word.strip() for word in told.strip("[]").split(",")
    ]


# ---- the picture of the house ------------------------------------------------------------------------------------


def test_the_picture_is_what_the_imports_are() -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "run `make docs`"


def test_rooms_do_not_stand_on_each_other_in_a_circle() -> None:
    downward, _ = house.arrows()
    assert [(a, b) for a, b in sorted(downward) if house._leads(b, a, downward)] == []


def test_a_broken_rule_would_be_seen() -> None:
    assert "models" in house.ROOMS and house.broken("models", "data") and house.broken("data", "training")
    assert not house.broken("training", "data")
    assert 'stroke="#c62828"' in house._arrow("models", "tracking")


def test_every_module_is_on_the_architecture_page() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    places = [name for line in page.splitlines() if line.startswith("| `") for name in _names(line.split("|")[1])]
    missing = [module for module in IMPORTS if module != "pointseg" and not _is_named(module.split(".")[1:], places)]
    assert missing == []


def _names(cell: str) -> list[str]:
    """The places that a cell names; those after the first lie in the folder of the first, if it has one."""
    names: list[str] = []
    for word in re.findall(r"`([^`]+)`", cell):
        folder = names[0].rpartition("/")[0] if names and not names[0].endswith("/") else ""
        names += [word] if "/" in word or not folder else [word, f"{folder}/{word}"]
    return names


def _is_named(parts: list[str], places: list[str]) -> bool:
    """Whether a module's file, or a folder above it, is named; of a package at least one of its files."""
    path = Path(*parts)
    if any(place.startswith(f"{path}/") for place in places):
        return True
    folders = {f"{parent}/" for parent in [path, *path.parents]}
    return any(place in folders or Path(f"{path}.py").match(place) for place in places)


def test_every_module_in_the_pictures_rooms_is_there() -> None:
    words = {word for room in house.ROOMS.values() for word in room.modules.split()} - {"Predictor"}
    assert [word for word in sorted(words) if f"pointseg.{word}" not in IMPORTS] == []


# ---- the index ---------------------------------------------------------------------------------------------------


def test_the_index_names_every_page_once() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((\w+)\.md\)", index)
    pages = sorted(page.stem for page in DOCS.glob("*.md") if page.name != "README.md")
    assert sorted(named) == pages
