"""The queue before the model: order, bounds, deadlines, a new model, the end; every answer that of the predictor."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from conftest import scan_points, small_model
from numpy.typing import NDArray

from pointseg.data.formats import PointCloud
from pointseg.engine.bundle import TrainedModel
from pointseg.engine.predictor import Prediction, Predictor
from pointseg.serving.engine import Engine, Queue
from pointseg.serving.refusal import Refusal

Cloud = NDArray[np.float32]
MODEL = {"name": "street", "version": "1"}


class Gate(Predictor):
    """Predicts when it is let, and keeps the sizes of the clouds of each call and how many calls ran at once."""

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__(trained)
        self.open, self.calls, self.running, self.most = threading.Event(), [], 0, 0
        self._lock = threading.Lock()

    def predict_many(self, clouds: Sequence[Cloud], *, probabilities: bool = False) -> list[Prediction]:
        with self._lock:
            self.calls.append([len(cloud) for cloud in clouds])
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            assert self.open.wait(30)
            return super().predict_many(clouds, probabilities=probabilities)
        finally:
            with self._lock:
                self.running -= 1


@pytest.fixture
def gate(trained: TrainedModel) -> Gate:
    return Gate(trained)


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    made: list[Engine] = []
    yield made
    for engine in made:
        engine.close(30)


def started(engines: list[Engine], predictor: Predictor, **settings: Any) -> Engine:
    engine = Engine(predictor, MODEL, threads=1, **settings)
    engines.append(engine)
    return engine


def until(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def occupied(engine: Engine, gate: Gate) -> Any:
    """The engine with one cloud in the predictor's hands, which waits at the gate."""
    first = engine.submit(PointCloud(scan_points(10)))
    until(lambda: gate.calls)
    return first


def test_answers_are_those_of_the_predictor(trained: TrainedModel, engines: list[Engine]) -> None:
    engine, predictor = started(engines, Predictor(trained), workers=2), Predictor(trained)
    clouds = [scan_points(100 + 97 * number, seed=number) for number in range(20)]
    answers = [engine.submit(PointCloud(cloud), probabilities=number % 2 == 0) for number, cloud in enumerate(clouds)]
    for number, (cloud, answer) in enumerate(zip(clouds, answers, strict=True)):
        scored = answer.result(30)
        assert np.array_equal(scored.raw_ids, predictor.predict(cloud).raw_ids)
        assert (scored.probabilities is not None) == (number % 2 == 0)
        assert (scored.model, scored.label_map.name) == (MODEL, "semantickitti")
        assert list(scored.seconds) == ["wait", "predict"]


def test_small_clouds_that_wait_are_predicted_together(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate, queue=Queue(together=1000))
    occupied(engine, gate)
    answers = [engine.submit(PointCloud(scan_points(count))) for count in (400, 500, 200, 5000, 100, 100)]
    gate.open.set()
    assert [len(answer.result(30).raw_ids) for answer in answers] == [400, 500, 200, 5000, 100, 100]
    assert gate.calls == [[10], [400, 500], [200], [5000], [100, 100]]


def test_a_full_queue_refuses_at_once(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate, queue=Queue(clouds=2))
    first = occupied(engine, gate)
    answers = [first, *(engine.submit(PointCloud(scan_points(10))) for _ in range(2))]
    with pytest.raises(Refusal, match="2 clouds are waiting") as caught:
        engine.submit(PointCloud(scan_points(10)))
    assert (caught.value.status, caught.value.headers) == (503, {"Retry-After": "1"})
    gate.open.set()
    assert all(len(answer.result(30).raw_ids) == 10 for answer in answers)
    assert len(engine.submit(PointCloud(scan_points(10))).result(30).raw_ids) == 10


def test_points_that_wait_are_bounded_but_a_large_cloud_is_taken(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate, queue=Queue(points=1000))
    occupied(engine, gate)
    engine.submit(PointCloud(scan_points(3000)))
    with pytest.raises(Refusal, match="waiting"):
        engine.submit(PointCloud(scan_points(10)))
    gate.open.set()


def test_no_more_clouds_at_once_than_workers(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate, workers=2, queue=Queue(together=0))
    answers = [engine.submit(PointCloud(scan_points(50, seed=number))) for number in range(8)]
    until(lambda: gate.running == 2)
    gate.open.set()
    assert len([answer.result(30) for answer in answers]) == 8
    assert gate.most == 2


def test_a_cloud_that_waited_too_long_is_not_predicted(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate)
    occupied(engine, gate)
    late = engine.submit(PointCloud(scan_points(20)), seconds=0.05)
    time.sleep(0.1)
    gate.open.set()
    with pytest.raises(Refusal) as caught:
        late.result(30)
    assert caught.value.status == 504
    assert gate.calls == [[10]]


def test_a_cloud_taken_back_is_not_predicted(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate)
    occupied(engine, gate)
    assert engine.submit(PointCloud(scan_points(20))).cancel()
    gate.open.set()
    engine.submit(PointCloud(scan_points(30))).result(30)
    assert gate.calls == [[10], [30]]


def test_points_that_are_not_finite_get_no_class(trained: TrainedModel, engines: list[Engine]) -> None:
    cloud = scan_points(40)
    cloud[5, 0] = np.nan
    scored = started(engines, Predictor(trained)).submit(PointCloud(cloud), probabilities=True).result(30)
    assert scored.raw_ids[5] == 0
    assert np.array_equal(np.delete(scored.raw_ids, 5), Predictor(trained).predict(np.delete(cloud, 5, 0)).raw_ids)
    assert "1 of 40 points are NaN" in scored.notes[0]


def test_a_bad_cloud_spoils_no_other(gate: Gate, engines: list[Engine]) -> None:
    engine = started(engines, gate)
    occupied(engine, gate)
    good, bad = (engine.submit(PointCloud(cloud)) for cloud in (scan_points(20), np.full((5, 4), np.nan, np.float32)))
    other = engine.submit(PointCloud(scan_points(30)))
    gate.open.set()
    assert (len(good.result(30).raw_ids), len(other.result(30).raw_ids)) == (20, 30)
    with pytest.raises(Refusal, match="no point is finite"):
        bad.result(30)


def test_a_bug_is_told_and_ends_nothing(trained: TrainedModel, engines: list[Engine]) -> None:
    class Broken(Predictor):
        def predict_many(self, clouds: Sequence[Cloud], *, probabilities: bool = False) -> list[Prediction]:
            if len(clouds[0]) == 13:
                raise ZeroDivisionError("a bug")
            return super().predict_many(clouds, probabilities=probabilities)

    engine = started(engines, Broken(trained))
    with pytest.raises(ZeroDivisionError):
        engine.submit(PointCloud(scan_points(13))).result(30)
    assert len(engine.submit(PointCloud(scan_points(14))).result(30).raw_ids) == 14
    assert engine.load == (0, 0)


def test_a_bug_beside_a_bad_cloud_ends_nothing(trained: TrainedModel, engines: list[Engine]) -> None:
    class Broken(Gate):
        def predict_many(self, clouds: Sequence[Cloud], *, probabilities: bool = False) -> list[Prediction]:
            if len(clouds[0]) == 13:
                raise ZeroDivisionError("a bug")
            return super().predict_many(clouds, probabilities=probabilities)

    gate = Broken(trained)
    engine = started(engines, gate)
    occupied(engine, gate)
    clouds = (np.full((5, 4), np.nan, np.float32), scan_points(13), scan_points(20))  # one batch, then each alone
    bad, broken, good = (engine.submit(PointCloud(cloud)) for cloud in clouds)
    gate.open.set()
    with pytest.raises(Refusal, match="no point is finite"):
        bad.result(30)
    with pytest.raises(ZeroDivisionError):
        broken.result(30)
    assert len(good.result(30).raw_ids) == 20
    assert len(engine.submit(PointCloud(scan_points(14))).result(30).raw_ids) == 14
    assert engine.load == (0, 0)


def test_a_new_model_takes_over_between_clouds(gate: Gate, trained: TrainedModel, engines: list[Engine]) -> None:
    engine = started(engines, gate)
    first = occupied(engine, gate)
    waiting = engine.submit(PointCloud(scan_points(600)))
    other = Predictor(TrainedModel(small_model(len(trained.features), seed=5), trained.features, trained.label_map))
    engine.swap(other, {"name": "street", "version": "2"})
    gate.open.set()
    assert first.result(30).model["version"] == "1"
    assert waiting.result(30).model["version"] == "2"
    assert np.array_equal(waiting.result().raw_ids, other.predict(scan_points(600)).raw_ids)


def test_closing_predicts_what_waits_and_takes_no_more(gate: Gate) -> None:
    engine = Engine(gate, MODEL, threads=1)
    first = occupied(engine, gate)
    waiting = engine.submit(PointCloud(scan_points(20)))
    closer = threading.Thread(target=engine.close)
    closer.start()
    until(lambda: engine._closed)
    with pytest.raises(Refusal, match="stopping"):
        engine.submit(PointCloud(scan_points(10)))
    gate.open.set()
    closer.join(30)
    assert (len(first.result(0).raw_ids), len(waiting.result(0).raw_ids)) == (10, 20)


def test_closing_in_haste_refuses_what_waits(gate: Gate) -> None:
    engine = Engine(gate, MODEL, threads=1)
    occupied(engine, gate)
    waiting = engine.submit(PointCloud(scan_points(20)))
    assert not engine.close(0.05)
    with pytest.raises(Refusal, match="stopping"):
        waiting.result(30)
    gate.open.set()
    assert engine.close(30)


def test_the_caller_keeps_its_threads(trained: TrainedModel, engines: list[Engine]) -> None:
    before = torch.get_num_threads()
    started(engines, Predictor(trained)).submit(PointCloud(scan_points(100))).result(30)
    assert torch.get_num_threads() == before
