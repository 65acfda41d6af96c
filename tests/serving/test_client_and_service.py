"""The client and the service itself, over a real connection: they mean the same by the contract."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import uvicorn
from conftest import scan_points

from pointseg import Client, Predictor
from pointseg.core.errors import ServiceError
from pointseg.engine.bundle import TrainedModel
from pointseg.serving.app import create_app
from pointseg.serving.engine import Engine
from pointseg.serving.remote_predictor import RemotePredictor
from pointseg.serving.settings import Settings
from pointseg.serving.wire import Limits

KEY = "0123456789abcdef-key"


@pytest.fixture
def predictor(trained: TrainedModel) -> Predictor:
    return Predictor(trained)


@pytest.fixture
def url(predictor: Predictor) -> Iterator[str]:
    """The service, on a free port of this machine."""
    engine = Engine(predictor, {"name": "street", "version": "3"}, threads=1)
    application = create_app(engine, Settings(limits=Limits(body=40_000), key=KEY))
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    engine.close(20)


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_labels_notes_and_what_else_is_said(compression: str, url: str, predictor: Predictor) -> None:
    points = np.ascontiguousarray(scan_points(2000, seed=1)[:, :3])
    expected = predictor.predict(points, probabilities=True)
    with Client(url, KEY, compression=compression) as client:
        assert client.ready()
        scored = client.score(points, probabilities=True)
    assert np.array_equal(scored.labels, expected.raw_ids)
    assert np.array_equal(scored.probabilities, expected.probabilities)
    assert scored.notes == tuple(note.text for note in expected.notes)
    assert set(scored.timing) == {"read", "wait", "predict", "write"}
    assert (scored.model, len(scored.request_id)) == ("street/3", 32)


def test_its_description_makes_a_label_map(url: str, predictor: Predictor) -> None:
    with Client(url, KEY) as client:
        told = RemotePredictor(client).label_map
    known = predictor.label_map
    assert told.class_names == known.class_names
    assert np.array_equal(told.to_raw(np.arange(20, dtype=np.uint8)), known.to_raw(np.arange(20, dtype=np.uint8)))
    assert np.array_equal(told.colors, known.colors)


def test_its_refusals_are_passed_on(url: str) -> None:
    with (
        Client(url, "another-key-of-16") as client,
        pytest.raises(ServiceError, match="the key is not right") as refused,
    ):
        client.score(scan_points(5, seed=2))
    assert refused.value.status == 401
    with Client(url, KEY) as client, pytest.raises(ServiceError, match="more than 40,000 bytes") as refused:
        client.score(scan_points(3000, seed=3))
    assert refused.value.status == 413
