"""`python scripts/register_model.py`: what a user gets, in a real SQLite registry."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import scan_points
from registry_helpers import always, saved_again
from verbs import SMALL, SMALL_WORLD, Done, command, empty_database, own_environment, run, spawn, succeed, trained_run

from pointseg.core.labels import LabelMap
from pointseg.engine.bundle import TrainedModel, load, save_bundle
from pointseg.tracking import download_model
from pointseg.tracking.model_registry import Registry
from pointseg.tracking.packaging import bundle_sha256

WORLD = ["data=synthetic", *SMALL_WORLD]
FAST = ["format=custom_model", "name=street", "accelerator=cpu"]
ALL = ["margin=1.0", "class_margin=1.0"]


@pytest.fixture
def home(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, with a fresh database."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "mlruns.db").write_bytes(empty_database(tmp_path_factory).read_bytes())
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundles that always answer one class: of the validation scan more points are road than vegetation, so it scores better."""
    folder, labels = tmp_path_factory.mktemp("models"), LabelMap.load("semantickitti")
    for name in ("road", "vegetation", "bicycle"):
        always(folder / name, name, labels)
    always(folder / "overlapping", "road", labels, world=1)  # its training scans are others' validation scans
    always(folder / "silent", "road", labels, world=None)
    return folder


def register(home: Path, *words: object) -> Done:
    return run("register_model", *FAST, *map(str, words), cwd=home)


def refusal(done: Done) -> str:
    """What is said by a promotion that is refused."""
    assert done.code == 3, f"exit code {done.code}\n{done.out}\n{done.err}"
    lines = done.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: version ")
    assert "Traceback" not in done.out
    return lines[0]


def tags(home: Path, number: int) -> dict[str, str]:
    return Registry("auto", home).version("street", str(number)).tags


def champion(home: Path) -> str | None:
    return Registry("auto", home).holder("street", "champion")


# ---- registering ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_folder_becomes_a_version_that_says_what_it_is(
    home: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = trained_run(tmp_path_factory)
    words = ["name=net", "description=Of the north, as of May.", "tracking.tags.site=north", "hydra.run.dir=here"]
    done = succeed(run("register_model", f"run={folder}", *words, cwd=home))
    assert "Registered net version 1 (mlflow_model)" in done.out
    assert "models:/net@candidate" in done.out
    registry = Registry("auto", home)
    version, metrics = registry.version("net", "1"), json.loads((folder / "metrics.json").read_text())
    trained = load(folder / "bundle")
    assert float(version.tags["metrics.miou"]) == metrics["miou"]
    assert json.loads(version.tags["metrics.iou"])["road"] == round(metrics["iou"]["road"], 4)
    assert version.tags["data.sha256"] == trained.provenance["data"]["sha256"]
    assert version.tags["bundle.sha256"] == bundle_sha256(folder / "bundle")
    assert version.tags["label_map.hash"] == trained.label_map.hash
    wanted = {
        "architecture": "PointNetSeg",
        "site": "north",
        "pointseg.format": "mlflow_model",
        "label_map.name": "semantickitti",
    }
    assert wanted.items() <= version.tags.items()
    description = registry.client.get_model_version("net", "1").description
    assert description.startswith("Of the north, as of May.\n\n| | |\n| --- | --- |\n| architecture | PointNetSeg, ")
    assert json.loads((home / "here" / "registration.json").read_text())["version"] == "1"
    assert bundle_sha256(download_model("models:/net@candidate", "auto", home)) == bundle_sha256(folder / "bundle")


@pytest.mark.slow
def test_checkpoints_and_bundles_are_taken_too(
    home: Path, models: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = trained_run(tmp_path_factory)
    succeed(register(home, f"run={folder}/checkpoints/last.ckpt"))
    succeed(register(home, f"run={models}/road"))
    assert [tags(home, n)["data.scans"] for n in (1, 2)] == ["2", "2"]
    assert "metrics.miou" not in tags(home, 2)


@pytest.mark.slow
def test_what_cannot_be_registered_is_refused(home: Path, models: Path) -> None:
    for word, said in {
        "format=pickle": "triton_model",
        "name=a/b": "cannot be the name of a model",
        "version=3": "both run and version",
        "promote=latest": "promote=champion",
        "promote=v2": "promote=champion",
        "tracking.uri=off": "tracking is off",
        "nmae=x": "Did you mean name?",
        "margin=2.0": "between 0 and 1",
    }.items():
        words = [w for w in FAST if w.partition("=")[0] != word.partition("=")[0]]
        more = ["promote=champion"] if word.startswith("margin") else []
        assert said in run("register_model", *words, f"run={models}/road", word, *more, cwd=home).message
    assert "run=RUN_FOLDER" in register(home).message
    assert "does not exist" in register(home, "run=nowhere").message
    assert "already registered" in register(home, "run=models:/street@candidate").message
    assert "nothing to promote" in register(home, "promote=champion").message
    assert Registry("auto", home).holder("street", "candidate") is None


# ---- promoting -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_without_a_champion_the_candidate_is_it(home: Path, models: Path) -> None:
    done = succeed(register(home, f"run={models}/silent", "promote=champion"))
    assert "There was no champion: version 1 is it now, without a comparison." in done.out
    assert champion(home) == "1"
    wanted = {
        "promotion.decision": "promoted",
        "promotion.champion": "none",
        "promotion.reason": "there was no champion",
    }
    assert wanted.items() <= tags(home, 1).items()
    again = succeed(register(home, "promote=champion"))
    assert "Version 1 is already street@champion" in again.out


@pytest.mark.slow
def test_a_better_candidate_is_promoted_and_a_worse_one_refused(home: Path, models: Path) -> None:
    succeed(register(home, f"run={models}/vegetation", "promote=champion"))
    done = succeed(register(home, f"run={models}/road", "promote=champion", *WORLD, "class_margin=1.0"))
    assert "Version 2 is champion now, in place of version 1" in done.out
    assert (champion(home), tags(home, 2)["promotion.decision"]) == ("2", "promoted")
    assert float(tags(home, 2)["promotion.miou"]) > float(tags(home, 2)["promotion.champion_miou"]) > 0
    # the other way round
    words = ["promote=champion", "hydra.run.dir=refused", "class_points=50", *WORLD]
    refused = register(home, f"run={models}/vegetation", *words)
    assert "version 3 is not promoted: mIoU: " in refusal(refused)
    assert "force=true" in refused.err
    table = [line.split() for line in refused.out.splitlines() if line.startswith(("mIoU", "vegetation", "road"))]
    assert [row[0] for row in table] == ["mIoU", "road", "vegetation"]
    assert [row[-1] for row in table] == ["worse", "points", "better"]
    assert champion(home) == "2"
    assert tags(home, 3)["promotion.decision"] == "refused"
    assert tags(home, 3)["promotion.champion"] == "2"
    record = json.loads((home / "refused" / "promotion.json").read_text())
    assert (record["decision"], record["scores"]["accepted"]) == ("refused", False)
    # and by force
    forced = succeed(register(home, "promote=champion", "version=3", *WORLD, "force=true"))
    assert "Forced in spite of this: mIoU" in forced.out
    assert (champion(home), tags(home, 3)["promotion.decision"]) == ("3", "forced")
    assert tags(home, 3)["promotion.reason"].startswith("mIoU: ")


@pytest.mark.slow
def test_a_class_that_loses_too_much_stops_a_promotion(home: Path, models: Path) -> None:
    succeed(register(home, f"run={models}/vegetation", "promote=champion"))
    words = [f"run={models}/road", "promote=champion", "margin=1.0", *WORLD, "class_points=50"]
    said = refusal(register(home, *words))
    assert "version 2 is not promoted: vegetation: 0.00 % against " in said
    assert "mIoU" not in said
    succeed(register(home, *words, "class_margin=1.0"))
    assert champion(home) == "3"


@pytest.mark.slow
def test_scans_that_one_was_trained_on_decide_nothing(home: Path, models: Path) -> None:
    succeed(register(home, f"run={models}/overlapping", "promote=champion"))
    said = refusal(register(home, f"run={models}/road", "promote=champion", *WORLD, *ALL))
    assert "version 1 was trained on 1 of these 1 scan" in said
    said = refusal(register(home, "promote=champion", *WORLD, *ALL, "split=train"))
    assert "it was trained on 2 of these 2 scans" in said
    assert "promotion.miou" not in tags(home, 2)
    succeed(register(home, "promote=champion", *WORLD, *ALL, "split=test"))
    assert champion(home) == "2"


@pytest.mark.slow
def test_a_model_that_does_not_say_what_it_was_trained_on_is_promoted_by_force_only(home: Path, models: Path) -> None:
    succeed(register(home, f"run={models}/road", "promote=champion"))
    words = [f"run={models}/silent", "promote=champion", *WORLD]
    assert "it does not say which scans it was trained on" in refusal(register(home, *words))
    assert champion(home) == "1"
    succeed(register(home, *words, "force=true"))
    assert (champion(home), tags(home, 3)["promotion.decision"]) == ("3", "forced")
    assert float(tags(home, 3)["promotion.difference"]) == 0


@pytest.mark.slow
def test_a_champion_of_other_classes_is_not_replaced(home: Path, models: Path, tmp_path: Path) -> None:
    always(tmp_path / "poss", "road" if "road" in LabelMap.load("semanticposs").class_names else "building",
           LabelMap.load("semanticposs"), world=None)  # fmt: skip
    succeed(register(home, f"run={tmp_path}/poss", "promote=champion"))
    said = refusal(register(home, f"run={models}/road", "promote=champion", *WORLD))
    assert "label map 'semantickitti'" in said and "those of 'semanticposs'" in said
    assert champion(home) == "1"


@pytest.mark.slow
def test_nothing_is_registered_where_the_scans_to_compare_on_are_not_named(home: Path, models: Path) -> None:
    succeed(register(home, f"run={models}/road", "promote=champion"))
    message = register(home, f"run={models}/vegetation", "promote=champion").message
    assert "data=semantickitti data.root=DIR" in message
    assert Registry("auto", home).holder("street", "candidate") == "1"


@pytest.mark.slow
def test_a_run_folder_brings_its_own_data(home: Path, tmp_path_factory: pytest.TempPathFactory, models: Path) -> None:
    succeed(register(home, f"run={models}/bicycle", "promote=champion"))
    done = succeed(register(home, f"run={trained_run(tmp_path_factory)}", "promote=champion"))
    assert "Comparing on 1 scan of Synthetic val" in done.out
    assert champion(home) == "2"


# ---- as a program ------------------------------------------------------------------------------------------------


def test_help_begins_with_examples_and_is_light(tmp_path: Path) -> None:
    script = command("register_model", [])[1]
    probe = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({script!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print('END', end.code, [n for n in ('torch', 'mlflow', 'numpy') if n in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env=own_environment(), capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "END 0 []"
    examples = [line for line in lines[:8] if line.strip().startswith("python scripts/register_model.py")]
    assert len(examples) >= 3
    assert "class_margin" in done.stdout


@pytest.mark.slow
def test_the_run_that_was_tracked_holds_the_model_and_pyfunc_is_served(home: Path) -> None:
    """The whole way as a user goes it, each command in a process of its own; the script needs no PYTHONPATH."""
    succeed(spawn("train", *SMALL, "tracking=mlflow", "tracking.system_metrics=false", "hydra.run.dir=first", cwd=home))
    words = command("register_model", ["run=first", "name=street", "promote=champion"])
    environment = {k: v for k, v in own_environment().items() if k != "PYTHONPATH"}
    done = subprocess.run(words, cwd=home, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    registry = Registry("auto", home)
    tracked = json.loads((home / "first" / "run.json").read_text())["tracking"]["run_id"]
    assert registry.version("street", "1").run_id == tracked
    run_status = registry.client.get_run(tracked).info.status
    assert run_status == "FINISHED"
    scores: list[Any] = []
    for checkpoint in ("first", "models:/street@champion"):
        succeed(spawn("evaluate", f"checkpoint={checkpoint}", *WORLD, "tracking=mlflow", "output=scores", cwd=home))
        scores.append(json.loads((home / "scores" / "metrics.json").read_text()))
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_of_two_promotions_at_once_one_wins(home: Path, models: Path) -> None:
    succeed(register(home, f"run={models}/bicycle", "promote=champion"))
    for name in ("vegetation", "road"):
        succeed(register(home, f"run={models}/{name}"))
    words = [*FAST, "promote=champion", *WORLD, *ALL]
    both = [
        subprocess.Popen(
            command("register_model", [*words, f"version={number}"]),
            cwd=home, env=own_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in (2, 3)
    ]  # fmt: skip
    said = {
        number: (*process.communicate(timeout=200), process.returncode)
        for number, process in zip((2, 3), both, strict=True)
    }
    for _, err, _ in said.values():
        assert "Traceback" not in err
    ended = sorted(code for _, _, code in said.values())
    # either the second saw that the alias had moved, or it began late enough to be compared with the first
    assert ended in ([0, 0], [0, 1])
    if ended == [0, 1]:
        loser = next(err for _, err, code in said.values() if code == 1)
        assert "run the command again" in loser
        winner = next(number for number, (_, _, code) in said.items() if code == 0)
        assert champion(home) == str(winner)
        assert tags(home, 5 - winner)["promotion.decision"] == "overtaken"


@pytest.mark.slow
def test_changing_the_provenance_changes_the_bundle(models: Path, tmp_path: Path) -> None:
    """The fingerprint of a bundle is of all of it."""
    copy = saved_again(tmp_path / "copy", models / "road")
    assert bundle_sha256(copy) == bundle_sha256(models / "road")
    other = saved_again(tmp_path / "other", models / "road", seed=7)
    assert bundle_sha256(other) != bundle_sha256(copy)


@pytest.mark.slow
def test_a_model_without_provenance_is_registered(home: Path, trained: TrainedModel, tmp_path: Path) -> None:
    succeed(register(home, f"run={save_bundle(tmp_path / 'bare', trained)}"))
    assert "data.sha256" not in tags(home, 1)


@pytest.mark.slow
def test_verbs_that_record_nothing_find_a_registered_model(home: Path, models: Path) -> None:
    """As docs/register.md has it: without a word of tracking."""
    succeed(register(home, f"run={models}/road", "promote=champion"))
    street = "models:/street@champion"
    (home / "scans").mkdir()
    scan_points(300, seed=1).tofile(home / "scans" / "a.bin")
    before = len(Registry("auto", home).client.search_runs(["0", "1"]))
    succeed(run("predict", f"checkpoint={street}", "input=scans", "output=labels", "accelerator=cpu", cwd=home))
    assert set(np.fromfile(home / "labels" / "a.label", "<u4").tolist()) == {40}  # road
    succeed(run("evaluate", f"checkpoint={street}", *WORLD, "output=scores", cwd=home))
    words = [f"checkpoint={models}/vegetation", f"against={street}", *WORLD, "bootstrap=100", "output=page.html"]
    succeed(run("report", *words, cwd=home))
    assert street in (home / "page.html").read_text(encoding="utf-8")
    assert len(Registry("auto", home).client.search_runs(["0", "1"])) == before
