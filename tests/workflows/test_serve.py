"""`workflows.serve`, called as a program of one's own calls it: in a thread beside its caller."""

from __future__ import annotations

import queue
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import scan_points

from pointseg import Client, workflows
from pointseg.core.errors import CheckpointError, ConfigError
from pointseg.engine.bundle import TrainedModel, save_bundle
from pointseg.engine.predictor import Predictor
from pointseg.workflows import ServeConfig, Service
from pointseg.workflows.settings.serve import LimitsConfig, QueueConfig, TlsConfig


@pytest.fixture
def config(trained: TrainedModel, tmp_path: Path) -> ServeConfig:
    return ServeConfig(checkpoint=str(save_bundle(tmp_path / "model", trained)), port=0, threads=1)


def test_it_answers_until_it_is_stopped(config: ServeConfig) -> None:
    announced: queue.Queue[Service] = queue.Queue()
    thread = threading.Thread(target=workflows.serve, args=(config,), kwargs={"started": announced.put}, daemon=True)
    thread.start()
    service = announced.get(timeout=60)
    assert service.address.startswith("http://127.0.0.1:")
    assert (service.model.partition("/")[0], service.threads, service.workers) == ("PointNetSeg", 1, 1)
    points = scan_points(300, seed=1)
    with Client(service.address) as client:
        labels = client.score(points).labels
    assert np.array_equal(labels, Predictor.load(str(config.checkpoint))(points))
    service.stop()
    thread.join(30)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"checkpoint": None}, "checkpoint"),
        ({"port": 70000}, "port"),
        ({"workers": 2}, "workers"),
        ({"threads": 0}, "threads"),
        ({"queue": QueueConfig(clouds=0)}, "queue.clouds"),
        ({"limits": LimitsConfig(body="much")}, "limits.body"),
        ({"limits": LimitsConfig(held=1000)}, "limits.held"),
        ({"time_limit": 0.0}, "time_limit"),
        ({"collect_rate": 2.0}, "collect_rate"),
        ({"accelerator": "tpu"}, "accelerator"),
        ({"tls": TlsConfig(key="key.pem")}, "tls"),
    ],
)
def test_what_is_wrong_is_said_before_the_model_is_loaded(
    changed: dict[str, object], where: str, config: ServeConfig
) -> None:
    config = replace(config, checkpoint="nowhere")
    with pytest.raises(ConfigError) as refused:
        workflows.serve(replace(config, **changed))
    assert refused.value.where == where


def test_a_model_that_is_not_there_is_said(config: ServeConfig) -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        workflows.serve(replace(config, checkpoint="nowhere"))
