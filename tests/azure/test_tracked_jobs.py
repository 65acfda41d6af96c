"""A job's run through azureml-mlflow, against a real MLflow server without the routes that Azure ML lacks: nothing is lost."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import pytest
from azure_fixtures import azure, client, cluster, code, here, running, scans, started
from registry_helpers import server
from verbs import run

pytestmark = [pytest.mark.azure, pytest.mark.slow]


def test_one_run_with_all_that_a_training_tells(azure: Any, cluster: str, here: Path, tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from stand_in.mlflow_server import MlflowServer

    with server(tmp_path / "server") as address:
        azure.tracking.instead = tracking = MlflowServer(address)
        azure.execute_jobs(sys.executable, {"OMP_NUM_THREADS": "1"})
        words = ("+experiment=quick", "trainer.max_epochs=2", "compute=aml_cpu", f"compute.cluster={cluster}")
        words += ("compute.experiment=streets", "compute.wait=true", "hydra.run.dir=run", "optimizer.lr=0.0035")
        done = run("train", *words, cwd=here)
        assert done.code == 0, done.err
        ((name, identity),) = tracking.runs.items()

        known = MlflowClient(address)
        (experiment,) = [e for e in known.search_experiments() if e.name != "Default"]
        (found,) = known.search_runs([experiment.experiment_id])
        assert (experiment.name, found.info.run_id) == ("streets", identity)  # which ends with the job
        assert found.data.params["optimizer.lr"] == "0.0035"
        assert found.data.tags["git_commit"]
        with (here / "run/history.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        told = known.get_metric_history(identity, "val/miou")
        assert [metric.value for metric in told] == [float(row["val/miou"]) for row in rows]

        azure.client().jobs.download(name, download_path=tmp_path / "all")
        for part in ("checkpoints/best.ckpt", "bundle/weights.safetensors", "bundle/model.yaml", "metrics.json"):
            kept = tmp_path / "all/artifacts" / part
            assert kept.read_bytes() == (here / "run" / part).read_bytes()

        assert not tracking.refused
