"""`compute=aml_*` as one word on any verb, without Azure: the job as a file, and what is refused before."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import scan_points
from verbs import run

from pointseg.engine.bundle import TrainedModel, save_bundle

WORKSPACE = {
    "AZURE_SUBSCRIPTION_ID": "11111111-2222-3333-4444-555555555555",
    "AZURE_RESOURCE_GROUP": "rg",
    "AZURE_ML_WORKSPACE": "ml-tests",
}


def dry(verb: str, *words: str, cwd: Path) -> dict[str, object]:
    done = run(verb, *words, "compute.dry_run=true", "hydra.run.dir=run", cwd=cwd)
    assert done.code == 0, done.err
    assert "az ml job create -f" in done.out
    content: dict[str, object] = yaml.safe_load((cwd / "run/job/job.yaml").read_text())
    return content


def taken_along(cwd: Path, job: str = "run/job") -> Any:
    """The configuration that a job's command begins with."""
    return yaml.safe_load((cwd / job / "code/config.yaml").read_text())


@pytest.mark.parametrize(
    ("place", "nodes", "processes"), [("aml_gpu", 1, 1), ("aml_cpu", 1, 1), ("aml_spot", 1, 1), ("aml_multinode", 2, 4)]
)
def test_training(place: str, nodes: int, processes: int, tmp_path: Path) -> None:
    (tmp_path / "kitti").mkdir()
    job = dry("train", "+experiment=kitti", "data.root=kitti", "optimizer.lr=0.003", f"compute={place}", cwd=tmp_path)
    assert job["command"] == (
        "python -m pointseg.train --config-dir . --config-name config data.root=${{inputs.data_root}} "
        "resume=auto hydra.run.dir=${{outputs.run}}"
    )
    config = taken_along(tmp_path)
    assert (config["optimizer"]["lr"], config["data"]["root"], config["compute"]["name"]) == (0.003, None, "local")
    assert config["job_context"]["compute"]["name"] == place
    runs = "azureml://datastores/workspaceblobstore/paths/pointseg/runs/"
    run_folder = job["outputs"]["run"]["path"]  # type: ignore[index]
    assert run_folder.startswith(runs)
    assert run_folder.endswith("/")  # so that fetching it fetches no folder whose name only begins like it
    assert job["inputs"] == {
        "data_root": {"type": "uri_folder", "path": str(tmp_path / "kitti"), "mode": "ro_mount"},
    }
    assert job["resources"]["instance_count"] == nodes  # type: ignore[index]
    if processes > 1:
        assert job["distribution"] == {"type": "pytorch", "process_count_per_instance": processes}
    assert ("queue_settings" in job) == (place == "aml_spot")


def test_the_same_folder_takes_another_try(tmp_path: Path) -> None:
    for rate in ("0.003", "0.004"):
        words = ("+experiment=quick", f"optimizer.lr={rate}", "compute=aml_cpu")
        dry("train", *words, cwd=tmp_path)
        assert taken_along(tmp_path)["optimizer"]["lr"] == float(rate)


def test_prediction_takes_its_model_and_files_along(trained: TrainedModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", trained)
    scan_points(10).tofile(tmp_path / "one.bin")
    words = ("checkpoint=bundle", "input=one.bin", "output=out", "compute=aml_cpu", "compute.data_mode=download")
    job = dry("predict", *words, cwd=tmp_path)
    assert job["inputs"] == {
        "checkpoint": {"type": "uri_folder", "path": str(tmp_path / "bundle"), "mode": "download"},
        "input": {"type": "uri_file", "path": str(tmp_path / "one.bin"), "mode": "download"},
    }
    assert set(job["outputs"]) == {"run", "result"}  # type: ignore[call-overload]
    assert "output=${{outputs.result}}" in str(job["command"])


def test_addresses_in_azure_stay(tmp_path: Path) -> None:
    words = ("checkpoint=models:/net@champion", "data=semantickitti", "data.root=azureml:kitti:3", "compute=aml_cpu")
    job = dry("evaluate", *words, cwd=tmp_path)
    assert job["inputs"] == {"data_root": {"type": "uri_folder", "path": "azureml:kitti:3", "mode": "ro_mount"}}
    assert taken_along(tmp_path)["checkpoint"] == "models:/net@champion"


def test_where_to_submit_is_not_told_to_the_job(tmp_path: Path) -> None:
    words = ("+experiment=quick", "azure.workspace=ml", "azure.auth=cli", "seed=3", "compute=aml_cpu")
    assert "azure" not in str(dry("train", *words, cwd=tmp_path)["command"])
    config = taken_along(tmp_path)
    assert "azure" not in config
    assert config["seed"] == 3


@pytest.mark.parametrize(
    ("verb", "words", "file", "packages"),
    [
        ("export", ["checkpoint=bundle"], "", {"onnx", "onnxruntime"}),
        ("evaluate", ["checkpoint=bundle"], "", set()),
        ("evaluate", ["checkpoint=exported"], "", {"onnx", "onnxruntime"}),
        ("predict", ["checkpoint=bundle", "output=out", "input=scans"], "0.bin", set()),
        ("predict", ["checkpoint=bundle", "output=out", "input=scans"], "a/0.LAZ", {"laspy", "lazrs"}),
        ("predict", ["checkpoint=bundle", "output=out", "input=azureml:tiles:1"], "", {"laspy", "lazrs"}),
        ("report", ["against=bundle", "drift=scans"], "0.pcd", {"pypcd4"}),
    ],
)
def test_a_job_has_the_extras_that_it_needs(
    verb: str, words: list[str], file: str, packages: set[str], trained: TrainedModel, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "bundle", trained)
    for made in ("exported/model.onnx", *([f"scans/{file}"] if file else [])):
        (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made).touch()
    dry(verb, *words, "compute=aml_cpu", cwd=tmp_path)
    lines = yaml.safe_load((tmp_path / "run/job/conda.yaml").read_text())["dependencies"][-1]["pip"]
    of_extras = {"onnx", "onnxruntime", "laspy", "lazrs", "pypcd4", "plyfile"}
    found = {line.partition("==")[0] for line in lines} & of_extras
    assert found >= packages
    assert bool(found) == bool(packages)


@pytest.mark.parametrize(("given", "own"), [("azureml:tiles:1", False), ("azureml://datastores/d/paths/a.laz", True)])
def test_an_environment_of_the_workspace_is_trusted_with_what_is_not_seen(
    given: str, own: bool, trained: TrainedModel, tmp_path: Path
) -> None:
    save_bundle(tmp_path / "bundle", trained)
    words = ("checkpoint=bundle", "output=out", f"input={given}", "compute.environment=azureml:env:1")
    job = dry("predict", *words, "compute=aml_cpu", cwd=tmp_path)
    assert isinstance(job["environment"], dict) == own


# ---- results -------------------------------------------------------------------------------------------------------


def test_an_archive_for_the_benchmark_is_an_output(trained: TrainedModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", trained)
    (tmp_path / "kitti").mkdir()
    words = ("checkpoint=bundle", "input=kitti", "submission=to/my archive.zip", "compute=aml_cpu")
    job = dry("predict", *words, cwd=tmp_path)
    assert "submission=${{outputs.archive}}/my archive.zip" in shlex.split(str(job["command"]))
    assert set(job["outputs"]) == {"run", "archive"}  # type: ignore[call-overload]


def test_an_archive_that_is_checked_is_an_input(tmp_path: Path) -> None:
    (tmp_path / "kitti").mkdir()
    (tmp_path / "mine.zip").write_bytes(b"PK")
    words = ("submission=mine.zip", "data=semantickitti", "data.root=kitti", "compute=aml_cpu")
    job = dry("evaluate", *words, cwd=tmp_path)
    assert "submission=${{inputs.submission}}" in str(job["command"])
    assert job["inputs"]["submission"]["type"] == "uri_file"  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["run=old"], "output=${{outputs.result}}/report.html"),
        (["run=old", "against=other"], "output=${{outputs.result}}/report_against_other.html"),
        (["run=old", "output=pages/one.html"], "output=${{outputs.result}}/one.html"),
        (["checkpoint=old"], None),
        (["drift=old", "against=other"], None),
        (["drift=old", "against=other", "output=pages/new.html"], "output=${{outputs.result}}/new.html"),
    ],
)
def test_a_page_has_its_name_in_an_output(words: list[str], word: str | None, tmp_path: Path) -> None:
    for name in ("old", "other"):
        (tmp_path / name).mkdir()
    job = dry("report", *words, "compute=aml_cpu", cwd=tmp_path)
    said = [each for each in shlex.split(str(job["command"])) if each.startswith("output=")]
    assert said == ([word] if word else [])
    assert ("result" in job["outputs"]) == bool(word)  # type: ignore[operator]


# ---- what is read --------------------------------------------------------------------------------------------------

STORE = "azureml://datastores/scans/paths"


@pytest.mark.parametrize(
    ("verb", "word", "kind"),
    [
        ("predict", f"input={STORE}/tile.laz", "uri_file"),
        ("predict", "input=https://host/tile.laz", "uri_file"),
        ("predict", f"input={STORE}/tiles", "uri_folder"),
        ("predict", f"input={STORE}/tiles.bin/", "uri_folder"),
        ("predict", "input=azureml:tiles:1.bin", "uri_folder"),
        ("predict", f"checkpoint={STORE}/run/best.ckpt", "uri_file"),
        ("predict", f"checkpoint={STORE}/run", "uri_folder"),
        ("predict", "checkpoint=azureml:street:3", "custom_model"),
        ("prepare", f"manifest={STORE}/manifest", "uri_file"),
        ("prepare", f"labels={STORE}/mine.yaml", "uri_file"),
    ],
)
def test_addresses_are_of_files_or_folders(verb: str, word: str, kind: str, tmp_path: Path) -> None:
    given = {"predict": {"input": "kitti", "checkpoint": "bundle", "output": "o"}, "prepare": {"input": "kitti"}}[verb]
    for name in ("kitti", "bundle"):
        (tmp_path / name).mkdir()
    key, _, value = word.partition("=")
    words = [f"{key}={value}" for key, value in {**given, "output": "out", key: value}.items()]
    job = dry(verb, *words, "compute=aml_cpu", cwd=tmp_path)
    assert job["inputs"][key] == {"type": kind, "path": value, "mode": "ro_mount"}  # type: ignore[index]


def test_label_maps_of_ones_own_go_along_and_shipped_ones_are_names(tmp_path: Path) -> None:
    (tmp_path / "kitti").mkdir()
    (tmp_path / "mine.yaml").write_text("name: mine")
    words = ("input=kitti", "output=store", "compute=aml_cpu")
    job = dry("prepare", *words, "labels=mine.yaml", cwd=tmp_path)
    assert "labels=${{inputs.labels}}" in str(job["command"])
    assert job["inputs"]["labels"]["path"] == str(tmp_path / "mine.yaml")  # type: ignore[index]
    job = dry("prepare", *words, "labels=semantickitti", cwd=tmp_path)
    assert set(job["inputs"]) == {"input"}  # type: ignore[call-overload]


def write_run(folder: Path, root: str, **record: object) -> None:
    """As much of a run folder as a job's file is made of."""
    folder.mkdir()
    data = {"_target_": "pointseg.data.SemanticKITTIDataModule", "root": root, "labels": "semantickitti"}
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "best.ckpt").write_bytes(b"weights")


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("evaluate", ["checkpoint=old"]),
        ("report", ["run=old"]),
        ("report", ["checkpoint=old"]),
        ("export", ["checkpoint=old", "format=onnx-int8"]),
    ],
)
def test_the_data_of_the_run_go_along(verb: str, words: list[str], tmp_path: Path) -> None:
    (tmp_path / "kitti").mkdir()
    write_run(tmp_path / "old", str(tmp_path / "kitti"))
    job = dry(verb, *words, "compute=aml_cpu", cwd=tmp_path)
    assert job["inputs"]["data_root"]["path"] == str(tmp_path / "kitti")  # type: ignore[index]
    assert "data.root=${{inputs.data_root}}" in shlex.split(str(job["command"]))


def test_an_export_that_is_only_compared_uploads_no_data(tmp_path: Path) -> None:
    (tmp_path / "kitti").mkdir()
    write_run(tmp_path / "old", str(tmp_path / "kitti"))
    assert set(dry("export", "checkpoint=old", "compute=aml_cpu", cwd=tmp_path)["inputs"]) == {"checkpoint"}  # type: ignore[call-overload]


@pytest.mark.parametrize("verb", ["evaluate", "export"])
def test_the_asset_of_a_run_that_a_job_made_goes_along(verb: str, tmp_path: Path) -> None:
    write_run(tmp_path / "old", "/mnt/azureml/data_root", inputs={"data.root": "azureml:kitti:3"})
    job = dry(verb, "checkpoint=old", "compute=aml_cpu", cwd=tmp_path)
    assert job["inputs"]["data_root"]["path"] == "azureml:kitti:3"  # type: ignore[index]


def test_a_checkpoint_goes_with_its_run_which_says_how_the_data_are_split(tmp_path: Path) -> None:
    (tmp_path / "kitti").mkdir()
    write_run(tmp_path / "old", str(tmp_path / "kitti"))
    job = dry("evaluate", "checkpoint=old/best.ckpt", "compute=aml_cpu", cwd=tmp_path)
    assert job["inputs"]["checkpoint"]["path"] == str(tmp_path / "old")  # type: ignore[index]
    assert "checkpoint=${{inputs.checkpoint}}/best.ckpt" in str(job["command"])


def test_data_of_a_run_that_cannot_go_along(tmp_path: Path) -> None:
    write_run(tmp_path / "old", "/mnt/azureml/data_root")
    done = run("evaluate", "checkpoint=old", "compute=aml_cpu", "compute.dry_run=true", cwd=tmp_path)
    assert "is not on this machine: checkpoint=old: data.root=/mnt/azureml/data_root" in done.message


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    [
        "tracking.uri=https://me:open-sesame@host",
        "data.root=https://a.blob.core.windows.net/kitti?sv=1&sig=open-sesame",
    ],
)
def test_a_secret_does_not_go_along(word: str, tmp_path: Path) -> None:
    words = ("data=semantickitti", word, "compute=aml_cpu", "compute.dry_run=true", "hydra.run.dir=run")
    done = run("train", *words, cwd=tmp_path)
    assert "can be read by all who see the job" in done.message
    assert "open-sesame" not in done.out + done.err
    assert not (tmp_path / "run/job/job.yaml").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tracking.uri=https://me:open-sesame@host", "compute.dry_run=true"], "tracking.uri=https://***@host"),
        (["data=semantickitti", "data.root=nowhere"], "no such file or folder: data.root=nowhere"),
        (["compute.cluster=gpu_cluster"], "compute.cluster"),
        (["compute.shm=64gigs"], "compute.shm"),
        (["compute.nodes=0"], "compute.nodes"),
        (["compute.clutser=x"], "compute.cluster"),
        (["azure.auth=magic"], "azure.auth"),
    ],
)
def test_what_is_refused(words: list[str], says: str, tmp_path: Path) -> None:
    message = run("train", "compute=aml_gpu", *words, cwd=tmp_path, **WORKSPACE).message
    assert says in message


def test_no_workspace_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WORKSPACE:
        monkeypatch.delenv(name, raising=False)
    message = run("train", "compute=aml_gpu", cwd=tmp_path).message
    assert "no Azure ML workspace is named (subscription, group, name)" in message
    assert ".azureml" in message


def test_patterns_are_of_this_machine(trained: TrainedModel, tmp_path: Path) -> None:
    save_bundle(tmp_path / "bundle", trained)
    words = ("checkpoint=bundle", "input=scans/*.bin", "output=out", "compute=aml_cpu", "compute.dry_run=true")
    assert "a pattern is looked up on this machine" in run("predict", *words, cwd=tmp_path).message


def test_a_sweep_writes_a_job_for_each_run(tmp_path: Path) -> None:
    words = ("-m", "seed=0,1", "compute=aml_gpu", "compute.dry_run=true", "hydra.sweep.dir=sweep")
    done = run("train", *words, cwd=tmp_path)
    assert done.code == 0, done.err
    for number in range(2):
        job = yaml.safe_load((tmp_path / f"sweep/{number}/job/job.yaml").read_text())
        assert job["command"].startswith("python -m pointseg.train --config-dir . --config-name config")
        assert taken_along(tmp_path, f"sweep/{number}/job")["seed"] == number
