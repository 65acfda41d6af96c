"""`python -m pointseg.models`: what the list says of each model, of the user's too, and of one that does not work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from my_networks import Pointwise
from torch import Tensor
from verbs import Done, run, spawn, succeed

from pointseg import workflows
from pointseg.models import PointNetSeg
from pointseg.workflows import ModelsConfig

SHIPPED = ["frnet", "frnet_small", "pointnet", "pointnet_paper", "waffleiron", "waffleiron_small"]
PLAIN_INPUTS = ["features.use=[x,y,z,remission,range]", "features.knots=[]"]


class Failing(Pointwise):
    """Is built, and cannot be called."""

    def forward(self, features: Tensor) -> Tensor:
        raise RuntimeError("the shapes do not fit")


def models(*words: str, cwd: Path) -> Done:
    return run("models", *words, cwd=cwd)


def content(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def own_options(tmp_path: Path) -> Path:
    """A folder for --config-dir with networks of the user's, some of which cannot be used."""
    options = {
        "mine": "_target_: my_networks.Pointwise\nwidth: 12\n",
        "wider": "defaults:\n  - mine\n  - _self_\nwidth: 24\n",
        "misspelt": "_target_: my_networks.Pointwise\nwidht: 12\n",
        "nowhere": "_target_: my_networks.Nothing\n",
        "unresolved": "_target_: my_networks.Pointwise\nwidth: ${nothing.at.all}\n",
        "failing": f"_target_: {__name__}.Failing\n",
    }
    (tmp_path / "conf/model").mkdir(parents=True)
    for name, text in options.items():
        (tmp_path / f"conf/model/{name}.yaml").write_text(text, encoding="utf-8")
    return tmp_path / "conf"


def row(done: Done, name: str) -> str:
    (line,) = (line for line in done.out.splitlines() if line.split()[:1] == [name])
    return line


def test_the_shipped_models_are_listed_with_parameters_and_papers(tmp_path: Path) -> None:
    done = succeed(models("measure=false", *PLAIN_INPUTS, cwd=tmp_path))
    names = [line.split()[0] for line in done.out.splitlines() if "20" in line and "," in line]
    assert names == SHIPPED
    assert "6,840,615" in row(done, "waffleiron")  # 6.84 million, as published
    for name, paper in (("frnet", "FRNet, IEEE TIP 2025"), ("pointnet", "CVPR 2017"), ("waffleiron", "ICCV 2023")):
        assert paper in row(done, name)
    assert "5 features of each point and 19 classes" in done.out
    assert list(tmp_path.iterdir()) == []  # a list leaves no run folder behind


def test_one_s_own_are_listed_beside_them_and_one_that_does_not_work_says_why(
    own_options: Path, tmp_path: Path
) -> None:
    done = succeed(models("measure=false", "--config-dir", str(own_options), "output=table.json", cwd=tmp_path))
    entries = {entry["name"]: entry for entry in content(tmp_path / "table.json")["models"]}
    assert sorted(entries) == sorted([*SHIPPED, *(file.stem for file in (own_options / "model").iterdir())])
    assert entries["mine"]["parameters"] == (156 + 1) * 12 + (12 + 1) * 19
    assert entries["wider"]["parameters"] == (156 + 1) * 24 + (24 + 1) * 19
    assert "Did you mean model.width?" in entries["misspelt"]["error"]
    assert "my_networks has no Nothing" in entries["nowhere"]["error"]
    assert "model=unresolved" in entries["unresolved"]["error"]
    assert [name for name, entry in entries.items() if entry["error"]] == ["misspelt", "nowhere", "unresolved"]
    assert "has no Nothing" in row(done, "nowhere")


def test_models_are_measured_each_in_a_process_of_its_own(own_options: Path, tmp_path: Path) -> None:
    words = ["--config-dir", str(own_options), "names=[mine,failing,frnet_small]", "points=2000", "repeats=1"]
    done = succeed(models(*words, "output=new/table.json", cwd=tmp_path))
    table = content(tmp_path / "new/table.json")
    assert {key: table[key] for key in ("points", "repeats", "features", "classes")} == {
        "points": 2000, "repeats": 1, "features": 156, "classes": 19,
    }  # fmt: skip
    mine, failing, small = table["models"]
    assert mine["multiply_adds"] == 2000 * (156 * 12 + 12 * 19)
    assert failing["error"] == "RuntimeError: the shapes do not fit"
    assert failing["parameters"] and failing["milliseconds"] is None
    assert small["multiply_adds"] > 1e9
    assert small["milliseconds"] > mine["milliseconds"] > 0
    assert f"{small['multiply_adds'] / 1e9:.2f} G" in row(done, "frnet_small")
    assert "the shapes do not fit" in row(done, "failing")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["table.json"]


def test_the_command_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = succeed(spawn("models", "names=[pointnet]", "points=2000", "repeats=1", cwd=tmp_path))
    assert "1 thread" in done.out
    assert "179,155" in row(done, "pointnet")
    assert done.err == ""


def test_help_begins_with_worked_examples(tmp_path: Path) -> None:
    done = succeed(spawn("models", "--help", cwd=tmp_path))
    assert "python -m pointseg.models " in "\n".join(done.out.splitlines()[:5])
    assert "measure=true" in done.out
    assert "features.knots" in done.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["names=[frnet_smal]"], "Did you mean frnet_small? There is: frnet, "),
        (["mesure=false"], "Did you mean measure?"),
        (["points=0"], "points"),
        (["points=10000000"], "points"),
        (["repeats=0"], "repeats"),
        (["output=."], "is a folder"),
        (["compute=local_ddp"], "compute=local_ddp"),
        (["-m", "points=1000,2000"], "-m"),
        (["measure=false", "features.use=[x,hight]"], "hight"),
    ],
)
def test_what_cannot_be_used_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    assert message in models(*words, cwd=tmp_path).message
    assert list(tmp_path.iterdir()) == []


def test_if_no_model_can_be_listed_the_command_fails_and_an_earlier_table_stays(
    own_options: Path, tmp_path: Path
) -> None:
    (tmp_path / "table.json").write_text("{}", encoding="utf-8")
    words = ["measure=false", "--config-dir", str(own_options), "output=table.json"]
    assert "error: model=nowhere: my_networks.Nothing" in models(*words, "names=[nowhere]", cwd=tmp_path).message
    assert "none of 2 models" in models(*words, "names=[nowhere,misspelt]", cwd=tmp_path).message
    assert content(tmp_path / "table.json") == {}


# ---- the library ---------------------------------------------------------------------------------------------------


def test_the_call_of_the_library_reads_the_shipped_options() -> None:
    entries = workflows.list_models(ModelsConfig(measure=False))
    assert [entry.name for entry in entries] == SHIPPED
    assert not any(entry.error for entry in entries)
    (pointnet,) = workflows.list_models(ModelsConfig(names=["pointnet"], measure=False, classes=5))
    built = PointNetSeg(
        156, 5, local_widths=(64, 64), global_widths=(64, 128, 256), head_widths=(256, 128),
        input_transform=False, feature_transform=False,
    )  # fmt: skip
    assert pointnet.parameters == sum(parameter.numel() for parameter in built.parameters())
    assert pointnet.multiply_adds is pointnet.milliseconds is pointnet.mebibytes is None


def test_the_command_and_the_library_see_the_same_options(tmp_path: Path) -> None:
    succeed(models("measure=false", "output=table.json", cwd=tmp_path))
    told = {entry["name"]: entry["parameters"] for entry in content(tmp_path / "table.json")["models"]}
    assert told == {entry.name: entry.parameters for entry in workflows.list_models(ModelsConfig(measure=False))}


def test_the_call_takes_sections_of_one_s_own() -> None:
    sections = {"tiny": {"_target_": "my_networks.Pointwise", "width": 3}}
    (entry,) = workflows.list_models(ModelsConfig(measure=False), sections=sections)
    assert (entry.name, entry.parameters, entry.paper) == ("tiny", 157 * 3 + 4 * 19, "")
