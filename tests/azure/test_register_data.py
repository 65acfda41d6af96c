"""`scripts/register_data.py`: real uploads to Azurite by the real SDK, and the asset that a job read in its bundle."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from azure_fixtures import azure, client, cluster, here, running, started
from verbs import KITTI_SPLIT, SMALL_TRAINING, Done, kitti_folder, run, succeed

import pointseg
from pointseg.core.labels import LabelMap
from pointseg.engine.bundle import load

pytestmark = pytest.mark.azure

CHANGES = "(PUT|PATCH|DELETE) .*"


@pytest.fixture
def home(azure: Any, here: Path) -> Iterator[Path]:
    """Versions are content: those that a test registers must not be those that the next one finds."""
    yield here
    for asset in azure.store.list(f"{azure.arm.scope.workspace(azure.workspace)}/data"):
        azure.store.delete(asset["id"])


@pytest.fixture
def kitti(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small data set in SemanticKITTI's layout, to be changed."""
    return Path(shutil.copytree(kitti_folder(tmp_path_factory), tmp_path / "kitti"))


def register(cwd: Path, *words: str) -> Done:
    return run("register_data", *words, cwd=cwd)


def version_of(done: Done, name: str = "semantic-kitti") -> str:
    line = next(line for line in succeed(done).out.splitlines() if line.startswith(f"azureml:{name}:"))
    return line.rsplit(":", 1)[1]


def blobs(azure: Any, client: Any, name: str, version: str) -> dict[str, Any]:
    """What lies at the place that an asset points at, by relative names."""
    place = client.data.get(name, version).path.split("/datastores/workspaceblobstore/paths/")[1]
    container = client.datastores.get("workspaceblobstore").container_name
    return {each.removeprefix(place).lstrip("/"): each for each in azure.blobs.list(container, place)}


@pytest.mark.slow
def test_a_folder_is_uploaded_once_and_a_changed_one_is_another_version(
    azure: Any, client: Any, home: Path, kitti: Path
) -> None:
    done = register(home, "path=kitti", "tags.site=north")
    first = version_of(done)
    assert f"data.root=azureml:semantic-kitti:{first}" in done.out
    files = {file.relative_to(kitti).as_posix() for file in kitti.rglob("*") if file.is_file()}
    assert set(blobs(azure, client, "semantic-kitti", first)) == files
    body = azure.calls.body(f"PUT data/semantic-kitti/versions/{first}")
    assert body["dataType"] == "uri_folder"
    tags = body["tags"]
    points = sum(np.fromfile(file, np.float32).size // 4 for file in kitti.rglob("*.bin"))
    assert (tags["layout"], tags["scans"], tags["points"]) == ("semantickitti", "3", str(points))
    label_map = LabelMap.load("semantickitti")
    assert (tags["label_map"], tags["label_map_hash"]) == (label_map.name, label_map.hash)
    assert (tags["pointseg_version"], tags["site"]) == (pointseg.__version__, "north")
    assert tags["content_sha256"].startswith(first)

    azure.calls.clear()
    sent = len(azure.blobs.calls)
    shutil.move(kitti, home / "elsewhere")
    assert version_of(register(home, "path=elsewhere", "tags.site=north")) == first
    assert not azure.calls.matching(CHANGES)
    assert len(azure.blobs.calls) == sent

    scan = next((home / "elsewhere").rglob("*.bin"))
    scan.write_bytes(scan.read_bytes()[16:] + scan.read_bytes()[:16])
    second = version_of(register(home, "path=elsewhere"))
    assert second != first
    assert client.data.get("semantic-kitti", label="latest").version == second


@pytest.mark.slow
def test_a_plan_uploads_nothing(azure: Any, home: Path, kitti: Path) -> None:
    sent = len(azure.blobs.calls)
    done = succeed(register(home, "path=kitti", "plan=true"))
    assert "create  data asset  semantic-kitti:" in done.out
    files = sum(file.is_file() for file in kitti.rglob("*"))
    assert f"uploads {files} files" in done.out
    assert not azure.calls.matching(CHANGES)
    assert len(azure.blobs.calls) == sent


@pytest.mark.slow
def test_a_version_of_ones_own_that_holds_other_content_is_refused(azure: Any, home: Path, kitti: Path) -> None:
    assert version_of(register(home, "path=kitti", "version=7")) == "7"
    assert version_of(register(home, "path=kitti", "version=7")) == "7"
    next(kitti.rglob("poses.txt")).write_text("1 0 0 0 0 1 0 0 0 0 1 0\n")
    message = register(home, "path=kitti", "version=7").message
    assert "the version exists and holds other content: semantic-kitti:7" in message
    assert len(azure.calls.matching("PUT data/.*/versions/.*")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_tables_as_prepare_writes_them(azure: Any, client: Any, home: Path, kitti: Path, kind: str) -> None:
    succeed(run("prepare", "input=kitti", "output=tables", f"format={kind}", cwd=home))
    written = (home / "tables/MLTable").read_text()
    version = version_of(register(home, "path=tables", "type=mltable"), "semantic-kitti-tabular")
    body = azure.calls.body("PUT data/semantic-kitti-tabular/versions/.*")
    assert body["dataType"] == "mltable"
    assert body["referencedUris"] == [f"./*.{kind}"]
    assert {"MLTable", f"part-00000.{kind}"} == set(blobs(azure, client, "semantic-kitti-tabular", version))

    (home / "tables/MLTable").unlink()  # as of tables that other programs write: the same file is written again
    done = succeed(register(home, "path=tables", "type=mltable", "plan=true"))
    assert "it would be written" in done.out
    assert not (home / "tables/MLTable").exists()
    assert version_of(register(home, "path=tables", "type=mltable"), "semantic-kitti-tabular") == version
    assert yaml.safe_load((home / "tables/MLTable").read_text()) == yaml.safe_load(written)


@pytest.mark.slow
def test_a_place_is_pointed_at(azure: Any, home: Path) -> None:
    place = "azureml://datastores/workspaceblobstore/paths/kitti"
    first = version_of(register(home, f"path={place}"))
    assert azure.calls.body("PUT data/semantic-kitti/versions/.*")["dataUri"].endswith(
        "/workspaceblobstore/paths/kitti"
    )
    azure.calls.clear()
    assert version_of(register(home, f"path={place}/")) == first
    assert not azure.calls.matching(CHANGES)
    assert version_of(register(home, f"path={place}", "version=3")) == "3"
    assert "points at" in register(home, f"path={place}2", "version=3").message
    assert version_of(register(home, "path=abfss://scans@account.dfs.core.windows.net/kitti", "name=lake"), "lake")
    message = register(home, "path=azureml://datastores/nowhere/paths/kitti").message
    assert "the workspace has no datastore nowhere" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pattern", "status", "says"),
    [
        ("PUT data/.*", 403, "AzureML Data Scientist"),
        ("PUT data/.*", 409, "another name or version"),
        ("GET data/.*", 401, "Sign in (az login)"),
        ("POST datastores/.*/listSecrets", 403, "AzureML Data Scientist"),
    ],
)
def test_what_azure_refuses_is_said_plainly(
    azure: Any, home: Path, kitti: Path, pattern: str, status: int, says: str
) -> None:
    azure.faults.add(pattern, status)
    message = register(home, "path=kitti").message
    assert says in message
    azure.faults.clear()
    version_of(register(home, "path=kitti"))  # nothing half done is in its way


@pytest.mark.slow
def test_azure_that_asks_to_wait_is_asked_again(azure: Any, home: Path, kitti: Path) -> None:
    azure.faults.add("PUT data/.*", 429, times=1, headers={"Retry-After": "0"})
    version_of(register(home, "path=kitti"))
    assert len(azure.calls.matching("PUT data/.*/versions/.*")) == 2


@pytest.mark.slow
def test_connections_that_break_for_good(azure: Any, home: Path, kitti: Path) -> None:
    azure.faults.add("PUT data/.*", 0)
    message = register(home, "path=kitti").message
    assert "registering the data asset semantic-kitti: Azure cannot be reached" in message
    azure.faults.clear()
    sent = len([call for call in azure.blobs.calls if call.startswith("PUT")])
    version_of(register(home, "path=kitti"))
    again = [call for call in azure.blobs.calls if call.startswith("PUT")][sent:]
    assert not [call for call in again if call.endswith(".bin")]  # what was uploaded is not sent again


@pytest.mark.slow
def test_a_training_names_the_asset_that_it_read(azure: Any, cluster: str, home: Path, kitti: Path) -> None:
    version = version_of(register(home, "path=kitti"))
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = ["data=semantickitti", *SMALL_TRAINING, *KITTI_SPLIT, "compute=aml_cpu", "compute.wait=true"]
    root = "data.root=azureml:semantic-kitti@latest"
    succeed(run("train", *words, root, "hydra.run.dir=run", cwd=home))
    asset = f"azureml:semantic-kitti:{version}"
    sent = azure.calls.body("PUT jobs/.*")
    assert sent["inputs"]["data_root"]["uri"].endswith(f"/data/semantic-kitti/versions/{version}")
    carried = yaml.safe_load((home / "run/job/code/config.yaml").read_text())
    assert carried["job_context"]["inputs"] == {"data.root": asset}
    assert load(home / "run").provenance["data"]["asset"] == asset
    assert json.loads((home / "run/run.json").read_text())["inputs"] == {"data.root": asset}
    tags = [tag for call in azure.calls for tag in (call.body or {}).get("tags", []) if isinstance(tag, dict)]
    assert {"key": "input.data.root", "value": asset} in tags

    config = yaml.safe_load((home / "run/config.yaml").read_text())
    config["data"]["root"] = "/mnt/azureml/data_root"  # of a machine that is gone: the stand-in's is this one
    (home / "run/config.yaml").write_text(yaml.safe_dump(config))
    message = run("evaluate", "checkpoint=run", cwd=home).message
    assert f"the run was made in Azure ML, from {asset}" in message
    assert "data.root=DIR" in message
    succeed(run("evaluate", "checkpoint=run", "data=semantickitti", "data.root=kitti", cwd=home))
    succeed(run("evaluate", "checkpoint=run", "compute=aml_cpu", "hydra.run.dir=again", cwd=home))
    assert yaml.safe_load((home / "again/job/job.yaml").read_text())["inputs"]["data_root"]["path"] == asset

    done = run("register_model", "run=run", "tracking.uri=sqlite:///registry.db", cwd=home)
    assert succeed(done)
    from pointseg.tracking.model_registry import Registry

    registered = Registry("sqlite:///registry.db", home, None).version("pointnet-semseg", "1")
    assert registered.tags["data.asset"] == asset


@pytest.mark.slow
def test_a_label_stays_in_a_dry_run(tmp_path: Path) -> None:
    words = ["data=semantickitti", "compute=aml_cpu", "compute.dry_run=true", "hydra.run.dir=run"]
    succeed(run("train", *words, "data.root=azureml:semantic-kitti@latest", cwd=tmp_path))
    job = yaml.safe_load((tmp_path / "run/job/job.yaml").read_text())
    assert job["inputs"]["data_root"]["path"] == "azureml:semantic-kitti@latest"
    carried = yaml.safe_load((tmp_path / "run/job/code/config.yaml").read_text())
    assert carried["job_context"]["inputs"] == {"data.root": "azureml:semantic-kitti@latest"}


@pytest.mark.slow
def test_a_label_that_names_nothing(azure: Any, cluster: str, home: Path) -> None:
    words = ["data=semantickitti", "compute=aml_cpu", "data.root=azureml:no-such-data@latest"]
    message = run("train", *words, cwd=home).message
    assert "the workspace has no such data: data.root=azureml:no-such-data@latest" in message
    assert not azure.calls.matching("PUT jobs/.*")
