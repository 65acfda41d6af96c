"""What jobs read and write: models of the workspace, and results where they were asked for."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, here, running, started
from batch_helpers import hashes, write_bundle, write_scans
from verbs import KITTI_SPLIT, SMALL_TRAINING, kitti_folder, run, succeed, trained_run

from pointseg.azure.assets import settled
from pointseg.core.errors import ConfigError
from pointseg.jobs.spec import Place

pytestmark = pytest.mark.azure

WAIT = ("compute=aml_cpu", "compute.wait=true")


@pytest.fixture
def old(here: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of a small synthetic run."""
    return Path(shutil.copytree(trained_run(tmp_path_factory), here / "old"))


# ---- models --------------------------------------------------------------------------------------------------------


def register(client: Any, name: str, folder: Path, kind: str = "custom_model") -> None:
    from azure.ai.ml.entities import Model

    client.models.create_or_update(Model(name=name, version="3", path=str(folder), type=kind))


@pytest.mark.parametrize("kind", ["custom_model", "mlflow_model"])
@pytest.mark.parametrize("label", [":3", "@latest"])
def test_a_model_is_told_from_data(client: Any, azure: Any, here: Path, kind: str, label: str) -> None:
    register(client, f"places-{kind}", write_bundle(here / "model"), kind)
    place = settled(client, "checkpoint", Place(f"azureml:places-{kind}{label}"))
    assert place == Place(f"azureml:places-{kind}:3", kind)
    kept = settled(client, "checkpoint", Place(f"azureml:places-{kind}{label}"), now=False)
    assert (kept.path, kept.kind) == (f"azureml:places-{kind}{label}", kind)


def test_data_that_holds_a_model(client: Any, azure: Any, here: Path) -> None:
    from azure.ai.ml.entities import Data

    file = here / "best.ckpt"
    file.write_bytes(b"weights")
    client.data.create_or_update(Data(name="places-run", version="1", path=str(file), type="uri_file"))
    for address in ("azureml:places-run:1", "azureml:places-run@latest"):
        assert settled(client, "checkpoint", Place(address)) == Place("azureml:places-run:1", "uri_file")


@pytest.mark.parametrize("key", ["checkpoint", "data.root"])
@pytest.mark.parametrize("label", [":4", "@latest"])
def test_what_is_not_there(client: Any, azure: Any, key: str, label: str) -> None:
    with pytest.raises(ConfigError, match=f"the workspace has no such .*{key}=azureml:places-none{label}"):
        settled(client, key, Place(f"azureml:places-none{label}"))


def test_a_kind_that_jobs_do_not_read(client: Any, azure: Any, here: Path) -> None:
    register(client, "places-triton", write_bundle(here / "model"), "triton_model")
    with pytest.raises(ConfigError, match="of the type triton_model"):
        settled(client, "against", Place("azureml:places-triton:3"))


@pytest.mark.slow
def test_a_job_works_with_a_model_of_the_workspace(azure: Any, client: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    bundle, scans = write_bundle(here / "model"), write_scans(here / "scans").root
    register(client, "places-street", bundle)
    words = ("checkpoint=azureml:places-street@latest", f"input={scans}", "output=labels")
    succeed(run("predict", *words, *WAIT, cwd=here))
    given = azure.calls.body("PUT jobs/.*")["inputs"]["checkpoint"]
    assert given["jobInputType"] == "custom_model"
    assert given["uri"].endswith("/models/places-street/versions/3")
    succeed(run("predict", f"checkpoint={bundle}", f"input={scans}", "output=local", cwd=here))
    assert hashes(here / "labels") == hashes(here / "local")


# ---- results -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_pages_come_to_where_they_come_here(azure: Any, cluster: str, here: Path, old: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    few = ("scans_shown=0", "worst=0", "bootstrap=100")
    succeed(run("report", "run=old", *few, *WAIT, cwd=here))
    assert "Learning curves" in (old / "report.html").read_text(encoding="utf-8")
    succeed(run("report", "checkpoint=old", "output=pages/one.html", *few, *WAIT, cwd=here))
    assert "<h1" in (here / "pages/one.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_what_is_prepared_comes_back(azure: Any, cluster: str, here: Path, tmp_path_factory: Any) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    words = (f"input={kitti_folder(tmp_path_factory)}", "report=false", "processes=1")
    succeed(run("prepare", *words, "output=store", *WAIT, cwd=here))
    succeed(run("prepare", *words, "output=local", cwd=here))
    assert (here / "store/store.json").read_bytes() == (here / "local/store.json").read_bytes()


@pytest.mark.slow
def test_the_data_of_a_run_are_scored_there_too(
    azure: Any, cluster: str, here: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kitti = kitti_folder(tmp_path_factory)
    words = ("data=semantickitti", f"data.root={kitti}", *SMALL_TRAINING, *KITTI_SPLIT, "trainer.max_epochs=1")
    succeed(run("train", *words, "hydra.run.dir=real", cwd=here))
    random.seed()  # the training has set it, and the SDK draws the names of jobs by it
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    done = succeed(run("evaluate", "checkpoint=real", "output=scores", *WAIT, cwd=here))
    assert f"What the run was made of goes along: data.root={kitti}" in done.out
    found = json.loads((here / "scores/metrics.json").read_text())
    assert found["points"] == json.loads((here / "real/metrics.json").read_text())["points"]


@pytest.mark.slow
def test_a_job_that_failed_before_it_wrote_anything(azure: Any, cluster: str, here: Path) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    (here / "none").mkdir()
    (here / "none/readme.txt").write_text("no scans")
    words = (f"checkpoint={write_bundle(here / 'model')}", "input=none", "output=labels")
    done = run("predict", *words, *WAIT, cwd=here)
    assert "the job ended as Failed" in done.message
    assert "https://ml.azure.com/runs/" in done.message
    assert "Nothing is fetched: the job has written nothing to its output result" in done.out
