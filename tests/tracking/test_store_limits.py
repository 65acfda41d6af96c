"""Runs stay within what Azure ML takes, by a real store with its limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pointseg.tracking import mlflow_run
from pointseg.tracking.store_limits import MetricNames, StoreLimits, limits_of

pytest.importorskip("mlflow", reason="MLflow is not installed")

AZURE = limits_of("azureml://westeurope.api.azureml.ms/mlflow/v1.0/subscriptions/s")


def test_only_azure_ml_has_so_narrow_limits() -> None:
    assert StoreLimits(50, 250, 1000) == AZURE
    assert limits_of("sqlite:///mlruns.db").metric_names is None
    assert limits_of("https://tracking.example.com").metric_names is None


def test_scores_of_classes_leave_room_for_the_others() -> None:
    names = MetricNames(AZURE.metric_names)
    taken = [names.take(f"val/iou/class {number}") for number in range(80)]
    assert taken == [True] * 35 + [False] * 45
    assert all(names.take(name) for name in ("train/loss", "val/miou", "val/accuracy", "lr"))
    assert names.take("val/iou/class 3")  # one that is there goes on
    assert not names.take("system/gpu_0_memory")
    assert len(names.left_out) == 46


def test_a_run_that_is_resumed_knows_its_names() -> None:
    names = MetricNames(50, [f"metric {number}" for number in range(50)])
    assert names.take("metric 7")
    assert not names.take("another")


def test_what_is_sent_keeps_within_the_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mlflow_run, "limits_of", lambda store: AZURE)
    tracker: Any = mlflow_run.start(
        f"sqlite:///{tmp_path}/mlruns.db", None, "run", start_dir=tmp_path, params={}, tags={}, system_metrics=False
    )
    sent: list[int] = []
    log_batch = tracker.client.log_batch
    monkeypatch.setattr(
        tracker.client, "log_batch", lambda *a, **k: (sent.append(len(k.get("metrics", ()))), log_batch(*a, **k))
    )
    monkeypatch.setattr(tracker, "flush", lambda **_: None)  # a backlog
    for step in range(20):
        tracker.log_metrics({"val/miou": 0.5, **{f"val/iou/{k}": 0.1 for k in range(60)}}, step=step)
    monkeypatch.undo()
    monkeypatch.setattr(
        tracker.client, "log_batch", lambda *a, **k: (sent.append(len(k.get("metrics", ()))), log_batch(*a, **k))
    )
    tracker.flush()
    tracker.set_tags({"note": "x" * 3000})
    run = tracker.client.get_run(tracker.run_id)
    assert len(run.data.metrics) == 35  # with val/miou, which came first
    assert "val/miou" in run.data.metrics
    assert max(sent) == 250
    assert sum(sent) == 20 * 35
    assert len(run.data.tags["note"]) == 1000
    assert [record.getMessage() for record in caplog.records if "names of metrics" in record.getMessage()]
