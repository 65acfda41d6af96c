"""Work in processes: results in order, what happens when a process dies, and what is left behind."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import pytest

from pointseg.core.errors import ConfigError
from pointseg.core.processes import WorkFailed, in_fresh_process, in_processes, is_worker, usable_cores


@dataclass(frozen=True)
class Work:
    """The square of a number and the process that made it; a worker that gets `deadly` ends without a word."""

    deadly: int = -1
    bad: int = -1

    def __call__(self, number: int) -> tuple[int, int, bool]:
        if number == self.bad:
            raise ValueError(f"number {number} is bad")
        if number == self.deadly and is_worker():
            os._exit(1)
        return number * number, os.getpid(), is_worker()


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_items(processes: int) -> None:
    results = list(in_processes(Work(), range(30), processes))
    assert [square for square, _, _ in results] == [number * number for number in range(30)]
    assert {worker for _, _, worker in results} == {processes > 1}
    assert (os.getpid() in {process for _, process, _ in results}) == (processes == 1)


def test_a_dead_process_is_an_error() -> None:
    with pytest.raises(BrokenProcessPool):
        list(in_processes(Work(deadly=3), range(8), 2))


def test_the_rest_can_be_done_here_after_a_process_died() -> None:
    results = list(in_processes(Work(deadly=3), range(8), 2, finish_here=True))
    assert [square for square, _, _ in results] == [number * number for number in range(8)]
    assert not results[3][2]


def test_an_error_of_the_work_is_raised_at_its_place() -> None:
    results = in_processes(Work(bad=2), range(8), 2)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(ValueError, match="number 2 is bad"):
        next(results)


def test_no_process_is_left_when_the_results_are_not_wanted() -> None:
    before = set(multiprocessing.active_children())
    results = in_processes(Work(), range(100), 2)
    next(results)
    results.close()
    assert set(multiprocessing.active_children()) <= before


def test_there_is_a_core_to_work_on() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert not is_worker()


# ---- one piece of work in a process of its own ---------------------------------------------------------------------


def square_and_process(number: int) -> tuple[int, int]:
    return number * number, os.getpid()


def fail(kind: str) -> None:
    if kind == "killed":
        os._exit(7)
    raise ConfigError("nothing is right", where="here") if kind == "ours" else ValueError("bad number")


def test_work_in_a_fresh_process_gives_its_result() -> None:
    (first, one), (second, other) = (in_fresh_process(square_and_process, number) for number in (3, 4))
    assert (first, second) == (9, 16)
    assert len({one, other, os.getpid()}) == 3


@pytest.mark.parametrize(
    ("kind", "text"),
    [("ours", "nothing is right: here."), ("theirs", "ValueError: bad number"), ("killed", r"killed \(exit code 7\)")],
)
def test_work_in_a_fresh_process_says_why_it_failed(kind: str, text: str) -> None:
    before = set(multiprocessing.active_children())
    with pytest.raises(WorkFailed, match=text):
        in_fresh_process(fail, kind)
    assert set(multiprocessing.active_children()) <= before
