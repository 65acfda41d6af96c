"""The queue before a model: many callers, few cores.

Threads of a server hand clouds in and wait; `workers` threads predict, so that no more cores are used than there are.
Clouds wait in order; a queue that is full refuses at once instead of letting everybody wait. Small clouds that have
gathered meanwhile are predicted together. A new model takes over between two clouds; nothing waiting is lost.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

import torch

from pointseg.core.errors import PointsegError
from pointseg.data.formats import PointCloud
from pointseg.engine.labelling import predict_clouds
from pointseg.engine.predictor import Prediction, Predictor
from pointseg.serving.refusal import Refusal, refusal_of
from pointseg.serving.wire import CloudLabels

__all__ = ["Engine", "Queue"]

QUEUE_POINTS = 8_000_000  # that wait at once: 128 MB


class Served(NamedTuple):
    """A model and what callers are told about it."""

    predictor: Predictor
    model: Mapping[str, str]


@dataclass
class _Work:
    cloud: PointCloud
    probabilities: bool
    arrived: float
    deadline: float
    answer: Future[CloudLabels]

    @property
    def points(self) -> int:
        return len(self.cloud.points)


@dataclass(frozen=True)
class Queue:
    """What may wait.

    Attributes:
        clouds: at most so many; one more is refused.
        points: of all waiting clouds together; a cloud is never refused for its own points.
        together: points of small clouds that are predicted as one batch; 0: each alone.
    """

    clouds: int = 32
    points: int = QUEUE_POINTS
    together: int = 8192


class Engine:
    """Predicts clouds, in the order they come.

    Args:
        predictor: the model to begin with.
        model: what callers are told about it, such as {"name": "pointnet", "version": "3"}.
        workers: clouds that are predicted at the same time, each by its share of the cores.
        threads: cores to use in all; None: as many as torch would.
        queue: what may wait.

    Example:
        >>> engine = Engine(Predictor.load("RUN_FOLDER"), {"name": "pointnet"})
        >>> engine.submit(PointCloud(points)).result().raw_ids
    """

    def __init__(
        self,
        predictor: Predictor,
        model: Mapping[str, str],
        *,
        workers: int = 1,
        threads: int | None = None,
        queue: Queue | None = None,
    ) -> None:
        self._served = Served(predictor, dict(model))
        self._queue = queue or Queue()
        self._waiting: deque[_Work] = deque()
        self._points = 0
        self._changed = threading.Condition()
        self._closed = False
        self._busy = 0
        self._mean_seconds = 0.1  # of one cloud: moves with what is predicted
        cores = threads or torch.get_num_threads()
        self.threads = max(1, cores // workers)
        self._workers = [
            threading.Thread(target=self._work, name=f"predict-{number}", daemon=True) for number in range(workers)
        ]
        for worker in self._workers:
            worker.start()

    # ---- for callers ---------------------------------------------------------------------------------------------

    @property
    def served(self) -> Served:
        """The present model."""
        return self._served

    @property
    def load(self) -> tuple[int, int]:
        """Clouds that wait, and clouds that are being predicted."""
        return len(self._waiting), self._busy

    def submit(self, cloud: PointCloud, *, probabilities: bool = False, seconds: float = 60.0) -> Future[CloudLabels]:
        """Hand a cloud in; cancel the answer to take it back while it waits.

        Args:
            seconds: after which nobody wants the answer: a cloud that still waits then is refused (504).

        Raises:
            Refusal: 503 if too much waits, or the engine is closed.
        """
        now = time.monotonic()
        work = _Work(cloud, probabilities, now, now + seconds, Future())
        with self._changed:
            self._refuse_if_full(work.points)
            self._waiting.append(work)
            self._points += work.points
            self._changed.notify()
        return work.answer

    def refuse_if_full(self) -> None:
        """Refuse at once what `submit` would refuse in any case, before a cloud is read.

        Raises:
            Refusal: 503.
        """
        with self._changed:
            self._refuse_if_full(1)

    def _refuse_if_full(self, points: int) -> None:
        if self._closed:
            raise Refusal.busy("the service is stopping", 5.0)
        full = len(self._waiting) >= self._queue.clouds or (
            self._waiting and self._points + points > self._queue.points
        )
        if full:
            wait = self._mean_seconds * len(self._waiting) / len(self._workers)
            raise Refusal.busy(f"{len(self._waiting)} clouds are waiting already", wait)

    def swap(self, predictor: Predictor, model: Mapping[str, str]) -> None:
        """Predict with another model from the next cloud on."""
        self._served = Served(predictor, dict(model))

    def close(self, seconds: float = 60.0) -> bool:
        """Take nothing more, predict what waits, and end; False if that takes longer, and what is left is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        end = time.monotonic() + seconds
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
        for work in left:
            if work.answer.set_running_or_notify_cancel():
                work.answer.set_exception(Refusal.busy("the service is stopping", 5.0))
        return not any(worker.is_alive() for worker in self._workers)

    # ---- the threads that predict --------------------------------------------------------------------------------

    def _work(self) -> None:
        torch.set_num_threads(self.threads)  # of this thread alone
        while batch := self._next():
            started = time.monotonic()
            with self._changed:
                self._busy += len(batch)
            try:
                self._answer(batch, started)
            finally:
                with self._changed:
                    self._busy -= len(batch)
                    seconds = (time.monotonic() - started) / len(batch)
                    self._mean_seconds += 0.1 * (seconds - self._mean_seconds)

    def _next(self) -> list[_Work]:
        """The next cloud, with small ones right behind it; empty at the end."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                batch: list[_Work] = []
                total = 0
                while self._waiting and (not batch or total + self._waiting[0].points <= self._queue.together):
                    work = self._waiting.popleft()
                    self._points -= work.points
                    if self._wanted(work):
                        batch.append(work)
                        total += work.points
                if batch or (self._closed and not self._waiting):
                    return batch

    def _wanted(self, work: _Work) -> bool:
        if not work.answer.set_running_or_notify_cancel():
            return False
        if time.monotonic() < work.deadline:
            return True
        work.answer.set_exception(
            Refusal(504, "the cloud waited longer than its time limit", remedy="Try again later.")
        )
        return False

    def _answer(self, batch: list[_Work], started: float) -> None:
        served = self._served
        answers: list[Prediction | Exception]
        try:
            answers = [*self._predicted(served.predictor, batch)]
        except PointsegError as error:
            answers = (
                [refusal_of(error)] if len(batch) == 1 else [self._alone(served.predictor, work) for work in batch]
            )
        except Exception as error:  # a bug must end neither the thread nor what waits behind it
            for work in batch:
                work.answer.set_exception(error)
            return
        seconds = time.monotonic() - started
        for work, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                work.answer.set_exception(answer)
                continue
            chances = answer.probabilities if work.probabilities else None
            notes = tuple(note.text for note in answer.notes)
            stages = {"wait": started - work.arrived, "predict": seconds}
            label_map = served.predictor.label_map
            work.answer.set_result(CloudLabels(answer.raw_ids, chances, notes, label_map, served.model, stages))

    def _predicted(self, predictor: Predictor, batch: list[_Work]) -> list[Prediction]:
        wanted = any(work.probabilities for work in batch)
        return predict_clouds(predictor, [work.cloud for work in batch], probabilities=wanted)

    def _alone(self, predictor: Predictor, work: _Work) -> Prediction | Exception:
        """The prediction of one cloud of a batch, or what is wrong with it, which is no matter of the others."""
        try:
            return self._predicted(predictor, [work])[0]
        except PointsegError as error:
            return refusal_of(error)
        except Exception as error:  # a bug: told to this one's caller
            return error
