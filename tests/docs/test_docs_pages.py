"""The pages and pictures of docs/ that are made or that list others: current and complete."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from house_graph import FILES as FILES_OF_CODE

from pointseg.azure import job_file as azureml
from pointseg.azure import sign_in
from pointseg.azure.resources import compute as clusters
from pointseg.azure.resources import compute as computes
from pointseg.cli.hydra_options import config_folder
from pointseg.cli.schema import find_key
from pointseg.data import sampling, tables
from pointseg.data.scan_datamodule import SPLITS
from pointseg.engine.losses import CLASS_WEIGHTINGS
from pointseg.engine.prediction import files as prediction_files
from pointseg.engine.prediction import inputs
from pointseg.engine.training import devices
from pointseg.jobs import search_space as sweep
from pointseg.models.pointnet.network import IMPLEMENTATIONS
from pointseg.models.waffleiron.blocks import ACTIVATIONS, NORMS
from pointseg.models.waffleiron.network import HEADS
from pointseg.serving.client import COMPRESSIONS
from pointseg.tracking import packaging
from pointseg.workflows.pipelines.chain import OWN_KEYS
from pointseg.workflows.settings import export, prepare

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
sys.path.append(str(DOCS / "generate"))

import config_page  # noqa: E402
import house  # noqa: E402

FILES = [file for file in sorted(config_folder().glob("*/*.yaml")) if file.parent.name != "hydra"]


# ---- the configuration reference ---------------------------------------------------------------------------------


def test_the_configuration_page_is_what_the_configurations_say() -> None:
    assert config_page.PAGE.read_text(encoding="utf-8") == config_page.page(), "run `make docs`"


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.parent.name != "experiment"],
    ids=lambda file: f"{file.parent.name}={file.stem}",
)
def test_every_key_of_an_option_is_described(file: Path) -> None:
    """By a comment beside it or above it; what an option takes over from another one is described there."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    told = {line.split(":")[0].strip() for one in file.parent.glob("*.yaml") for line in _described(one)}
    keys = [line for line in lines if re.match(r" *[\w-]+: ?[^ ]", line) and "_target_" not in line]
    assert [line for line in keys if line.split(":")[0].strip() not in told] == [], f"comments are missing in {file}"


def _described(file: Path) -> list[str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [
        line for above, line in zip(["", *lines], lines, strict=False) if " #" in line or above.strip().startswith("# ")
    ]


def test_every_option_of_a_group_is_on_the_configuration_page() -> None:
    page = config_page.PAGE.read_text(encoding="utf-8")
    assert [file for file in FILES if file.read_text(encoding="utf-8").strip() not in page] == []


DECLARED = [
    ("prepare", "format", prepare.FORMATS),
    ("export", "format", export.FORMATS),
    ("register_model", "format", packaging.MODEL_FORMATS),
    ("predict", "write", inputs.LABEL_TARGETS),
    ("predict", "on_error", prediction_files.ON_ERROR),
    ("invoke", "write", inputs.LABEL_TARGETS),
    ("invoke", "compression", COMPRESSIONS),
    ("provision", "clusters.NAME.tier", clusters.TIERS),
    ("provision", "clusters.NAME.kind", tuple(computes.KINDS)),
    ("provision", "azure.auth", sign_in.AUTH),
    ("evaluate", "split", SPLITS),
    ("report", "split", SPLITS),
    ("export", "split", SPLITS),
    ("register_model", "split", SPLITS),
    ("pipeline", "steps", tuple(OWN_KEYS)),
]
IN_COMMENTS = [
    ("data/synthetic.yaml", "residency", tables.RESIDENCIES),
    ("data/semantickitti.yaml", "residency", tables.RESIDENCIES),
    ("data/synthetic.yaml", "method", sampling.METHODS),
    ("data/semantickitti.yaml", "method", sampling.METHODS),
    ("loss/cross_entropy.yaml", "class_weighting", CLASS_WEIGHTINGS),
    ("model/pointnet.yaml", "implementation", IMPLEMENTATIONS),
    ("model/pointnet_paper.yaml", "implementation", IMPLEMENTATIONS),
    ("model/waffleiron.yaml", "norm", tuple(NORMS)),
    ("model/waffleiron.yaml", "activation", tuple(ACTIVATIONS)),
    ("model/waffleiron.yaml", "head", HEADS),
    ("compute/aml_cpu.yaml", "identity", tuple(azureml.IDENTITIES)),
    ("compute/aml_cpu.yaml", "sampling", sweep.SAMPLINGS["azure"]),
    ("compute/aml_cpu.yaml", "early_termination", sweep.TERMINATIONS["azure"]),
    ("compute/local.yaml", "sampling", sweep.SAMPLINGS["local"]),
    ("compute/local.yaml", "early_termination", sweep.TERMINATIONS["local"]),
]


@pytest.mark.parametrize(("verb", "path", "taken"), DECLARED)
def test_the_declared_choices_are_those_of_the_code(verb: str, path: str, taken: tuple[str, ...]) -> None:
    declared = find_key(verb, path)
    assert declared is not None
    assert set(declared.choices) == set(taken)


@pytest.mark.parametrize(("file", "key", "taken"), IN_COMMENTS)
def test_the_choices_of_a_comment_are_those_of_the_code(file: str, key: str, taken: tuple[str, ...]) -> None:
    text = (config_folder() / file).read_text(encoding="utf-8")
    (comment,) = re.findall(rf"^ *{key}: [^#]*# (.*)$", text, re.MULTILINE)
    assert set(taken) <= set(re.findall(r"[\w-]+", comment))
    assert comment.count(" | ") == len(taken) - 1


def test_the_choices_of_the_precision_are_in_its_meaning() -> None:
    declared = find_key("train", "trainer.precision")
    assert declared is not None
    assert [one for one in devices.PRECISIONS if one not in declared.what] == []


# ---- the picture of the house ------------------------------------------------------------------------------------


def test_the_picture_is_what_the_imports_are() -> None:
    assert house.PICTURE.read_text(encoding="utf-8") == house.picture(), "run `make docs`"


def test_the_list_of_files_is_what_their_docstrings_say() -> None:
    assert house.PAGE.read_text(encoding="utf-8") == house.page(), "run `make docs`"


def test_every_file_says_what_it_is() -> None:
    allowed = {"pointseg", "pointseg.errors"}
    assert [name for name, path in FILES_OF_CODE.items() if not house.summary(path) and name not in allowed] == []


def test_no_room_of_the_picture_lies_on_another() -> None:
    places = list(house.boxes().values())
    for number, (x, y) in enumerate(places):
        for u, v in places[number + 1 :]:
            assert abs(x - u) >= house.ROOM_WIDTH or abs(y - v) >= house.ROOM_HEIGHT


# ---- the index ---------------------------------------------------------------------------------------------------


def test_the_index_names_every_page_once() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"\]\((\w+)\.md\)", index)
    pages = sorted(page.stem for page in DOCS.glob("*.md") if page.name != "README.md")
    assert sorted(named) == pages
