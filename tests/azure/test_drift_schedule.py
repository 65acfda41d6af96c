"""The drift report by a schedule: published, run on request on what Azure's data collector has written, its page fetched."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from azure_fixtures import azure, client, cluster, here, running, started
from collected_helpers import event, records_of, write_lines
from verbs import Done, kitti_folder, run, succeed, trained_run

from pointseg.azure.endpoints.data_collection import collected_address

pytestmark = pytest.mark.azure

COLLECTED = collected_address("street", "blue")
PLACE = COLLECTED.partition("/paths/")[2]


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory)


def pipeline(*words: str, here: Path) -> Done:
    return run("pipeline", "steps=[drift]", *words, "compute=aml_cpu", "hydra.run.dir=chain", cwd=here)


def collect(azure: Any, folder: Path, records: list[Any], place: str = PLACE) -> Path:
    """Lines as the data collector writes them, in the workspace's storage and in a folder here."""
    for number, record in enumerate(records):
        write_lines(folder / f"2026/11/14/{number + 6:02d}/0b8867.jsonl", [event(record)])
    store = azure.store.get(f"{azure.arm.scope.workspace(azure.workspace)}/datastores/workspaceblobstore")
    azure.blobs.upload(store["properties"]["containerName"], place, folder)
    return folder


@pytest.mark.slow
def test_a_drift_report_is_scheduled_and_runs_on_what_was_collected(
    azure: Any, cluster: str, here: Path, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    kitti = kitti_folder(tmp_path_factory)
    local = collect(azure, here / "collected", records_of(kitti))
    words = [f"input={COLLECTED}", f"checkpoint={model}"]
    done = succeed(pipeline(*words, "publish=street-drift", "schedule='0 6 * * 1'", here=here))
    assert "Published street-drift, version " in done.out
    assert azure.calls.matching("PUT components/street_drift/versions/.*")  # no - in the name of a component
    step = azure.calls.body("PUT components/pointseg_drift/versions/.*")["componentSpec"]
    assert step["is_deterministic"] is False  # the folder's name is the same each week
    schedule = azure.calls.body("PUT schedules/street-drift")
    assert schedule["trigger"]["expression"] == "0 6 * * 1"
    assert schedule["action"]["jobDefinition"]["inputs"]["drift"]["uri"] == COLLECTED

    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    done = succeed(pipeline(*words, "invoke=street-drift", "compute.wait=true", here=here))
    found = json.loads((here / "chain/drift/drift.json").read_text())
    assert "<h1>" in (here / "chain/drift/drift.html").read_text(encoding="utf-8")
    succeed(run("report", f"drift={local}", f"against={model}", "output=here/drift.html", cwd=here))
    expected = json.loads((here / "here/drift.json").read_text())
    assert {**found, "drift": "", "against": ""} == {**expected, "drift": "", "against": ""}

    collect(azure, here / "dim", records_of(kitti, factor=0.05), "dim")
    dim = "input=azureml://datastores/workspaceblobstore/paths/dim"
    alarm = ["drift=[fail_on_drift=true]", "compute.wait=true"]
    done = pipeline(dim, f"checkpoint={model}", *alarm, here=here)
    assert "the step drift ended as Failed: the scans have drifted in" in done.message


def test_a_registered_model_is_looked_up_by_the_job(tmp_path: Path) -> None:
    words = [f"input={COLLECTED}", "checkpoint=models:/street@champion", "drift=[days=7,fail_on_drift=true]"]
    succeed(pipeline(*words, "compute.dry_run=true", here=tmp_path))
    component = yaml.safe_load((tmp_path / "chain/pipeline/components/drift.yaml").read_text())
    assert component["is_deterministic"] is False
    assert component["inputs"].keys() == {"drift"}
    assert "-m pointseg.report" in component["command"]
    taken_along = yaml.safe_load((tmp_path / "chain/pipeline/code/drift/config.yaml").read_text())
    told = {key: taken_along[key] for key in ("against", "days", "fail_on_drift")}
    assert told == {"against": "models:/street@champion", "days": 7, "fail_on_drift": True}
    assert taken_along["tracking"]["uri"] == "auto"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["steps=[train,drift]", "input=x"], "stands alone"),
        (["checkpoint=models:/street@champion"], "input"),
        ([f"input={COLLECTED}"], "checkpoint"),
        ([f"input={COLLECTED}", "checkpoint=models:/s@c", "drift=[drift=x]"], "the pipeline sets this itself"),
        ([f"input={COLLECTED}", "checkpoint=models:/s@c", "drift=[days=0]"], "drift: 0 is not a number of days"),
        ([f"input={COLLECTED}", "checkpoint=models:/s@c", "drift=[dayz=7]"], "days"),
        ([f"input={COLLECTED}", "checkpoint=models:/s@c", "gate.miou=0.5"], "gate"),
    ],
)
def test_what_is_refused(words: list[str], named: str, tmp_path: Path) -> None:
    assert named in pipeline(*words, "compute.dry_run=true", here=tmp_path).message
