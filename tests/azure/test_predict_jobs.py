"""Prediction as a job of several processes: they share the folder, and the labels are those of one process here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from batch_helpers import hashes, write_bundle, write_scans
from verbs import run

pytestmark = [pytest.mark.azure, pytest.mark.slow]


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_of_a_job_label_as_one_does(azure: Any, cluster: str, here: Path, damaged: bool) -> None:
    azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
    bundle, scans = write_bundle(here / "model"), write_scans(here / "scans", damaged=damaged).root
    words = ("compute=aml_cpu", "compute.nodes=2", "compute.processes=1", "compute.wait=true")
    done = run("predict", f"checkpoint={bundle}", f"input={scans}", "output=labels", *words, cwd=here)
    assert done.code == (1 if damaged else 0), done.out + done.err
    expected = run("predict", f"checkpoint={bundle}", f"input={scans}", "output=local", cwd=here)
    assert expected.code == (2 if damaged else 0), expected.err
    assert len(hashes(here / "local")) == (6 if damaged else 7)
    assert hashes(here / "labels") == hashes(here / "local")
    body = azure.calls.body("PUT jobs/.*")
    assert body["distribution"]["processCountPerInstance"] == 1
    assert body["resources"]["instanceCount"] == 2
